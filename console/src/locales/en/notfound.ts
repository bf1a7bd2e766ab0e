export default {
  title: "Page not found",
  detail: "Nothing is at {path}.",
  home: "To the dashboard",
} as const;
