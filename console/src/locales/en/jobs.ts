export default {
  title: "Jobs",
  one: "Job",
  lead: "Everything that is trained, and was.",
  "empty.title": "No jobs yet",
  "empty.detail": "A job appears here as soon as it is started.",
} as const;
