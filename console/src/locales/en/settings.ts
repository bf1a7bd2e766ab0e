export default {
  title: "Settings",
  lead: "Keys, members, webhooks and limits of this project.",
  "empty.title": "Nothing to set here yet",
  "empty.detail": "Keys, members, webhooks and limits are managed on this page.",
} as const;
