export interface Sums {
  since: string;
  until: string;
  paid_usd: number;
  on_demand_usd: number;
  saved_usd: number;
  saved_fraction: number | null;
  time_saved_seconds: number;
}

export interface Budget {
  id: string;
  amount_usd: number;
  spent_usd: number | null;
  reserved_usd: number | null;
  left_usd: number | null;
}

export interface Progress {
  step: number;
  total_steps: number;
  phase: string;
  loss: number | null;
  eta_seconds: number | null;
}

export interface JobInProgress {
  id: string;
  name: string;
  state: string;
  model: string;
  dataset: string | null;
  attempt: number;
  waiting: { rule: string; detail: string; expected_start?: string | null } | null;
  progress: Progress | null;
  spent_usd: number;
  budget_usd: number | null;
}

export interface Decision {
  kind: "retrain" | "held-job" | "failed-endpoint" | "budget" | "webhook";
  id: string;
  title: string;
  detail: string;
  since: string | null;
  link: string;
}

export interface ActivityItem {
  /** The event's position in the log. */
  id: number;
  type: string;
  subject: string;
  name: string | null;
  at: string;
  fields: Record<string, string | number>;
}

/** What the monitor tells is null while it is away. */
export interface Overview {
  object: "overview";
  month: Sums | null;
  last_30_days: Sums | null;
  last_365_days: Sums | null;
  cost_per_day: { day: string; paid_usd: number; on_demand_usd: number }[] | null;
  budget: Budget | null;
  jobs: JobInProgress[];
  job_counts: Record<string, number>;
  endpoint_counts: Record<string, number>;
  decisions: Decision[];
  activity: ActivityItem[];
}
