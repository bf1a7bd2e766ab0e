/**
 * Keys of react-query. A list's key is the beginning of its documents' keys, so that refreshing `keys.jobs` refreshes
 * every job that is shown, and `keys.job(id)` only one. Filters and the like are appended: `[...keys.jobs, "list", filter]`.
 */
export const keys = {
  auth: ["auth"],
  session: ["session"],
  overview: ["overview"],
  datasets: ["datasets"],
  dataset: (id: string) => ["datasets", id],
  models: ["models"],
  model: (id: string) => ["models", id],
  plans: ["plans"],
  plan: (id: string) => ["plans", id],
  jobs: ["jobs"],
  job: (id: string) => ["jobs", id],
  endpoints: ["endpoints"],
  endpoint: (id: string) => ["endpoints", id],
  drift: (endpointId: string) => ["endpoints", endpointId, "drift"],
  objectives: (endpointId: string) => ["endpoints", endpointId, "objectives"],
  retraining: (endpointId: string) => ["endpoints", endpointId, "retraining"],
  figures: ["figures"],
  costs: ["costs"],
  budgets: ["budgets"],
  receipts: ["receipts"],
  apiKeys: ["keys"],
  members: ["members"],
  webhooks: ["webhooks"],
  limits: ["limits"],
  audit: ["audit"],
} as const;
