export default {
  title: "Train",
  lead: "From data to a plan with its price, before anything is spent.",
  "empty.title": "Choose a dataset first",
  "empty.detail": "Training starts with a dataset; then come the model, the method and the goal.",
} as const;
