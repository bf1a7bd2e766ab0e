export default {
  title: "Monitoring",
  lead: "Drift, objectives, and what is retrained for them.",
  "empty.title": "Nothing to watch yet",
  "empty.detail": "Endpoints that answer are watched from their first request on.",
} as const;
