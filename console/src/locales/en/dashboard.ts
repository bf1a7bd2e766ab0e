export default {
  title: "Dashboard",
  lead: "What runs, what it costs, and what waits for you.",
  "empty.title": "Nothing has run yet",
  "empty.detail": "Upload a dataset and train a first model: its cost, savings and progress will be shown here.",
} as const;
