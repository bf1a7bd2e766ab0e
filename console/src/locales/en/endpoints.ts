export default {
  title: "Endpoints",
  one: "Endpoint",
  lead: "Models that answer, and how well they do.",
  "empty.title": "No endpoints yet",
  "empty.detail": "Deploy a model version to ask it things by HTTP or in the playground.",
} as const;
