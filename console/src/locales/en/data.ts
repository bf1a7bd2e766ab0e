export default {
  title: "Data",
  lead: "Datasets, their versions, and where they came from.",
  "empty.title": "No datasets yet",
  "empty.detail": "A dataset is JSON Lines, CSV, Parquet or a zip of images. Every row is checked when it is uploaded.",
} as const;
