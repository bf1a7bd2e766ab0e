export default {
  title: "Models",
  lead: "Foundation models, your own, and what became of them.",
  "empty.title": "No models of your own yet",
  "empty.detail": "Fine-tune a foundation model, or upload weights of your own.",
} as const;
