export default {
  title: "Costs",
  lead: "What was paid, what it would have cost on demand, and what may be spent.",
  "empty.title": "Nothing was spent yet",
  "empty.detail": "Receipts of jobs and the cost of endpoints are listed here.",
} as const;
