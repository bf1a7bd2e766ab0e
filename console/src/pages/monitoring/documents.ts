/** Answers of the monitor about one endpoint, as this page reads them. */

export interface Endpoint {
  id: string;
  name: string;
  state: string;
  model: string;
  version: number;
  served_version: number | null;
  drifted_at: string | null;
  drift_signal: string;
  drift_explanation: string;
}

export type ObjectiveName = "availability" | "time-to-first-token" | "latency";

export interface Objective {
  name: ObjectiveName;
  target: number;
  at_most_seconds: number | null;
  severity: "page" | "ticket" | null;
  breached_since: string | null;
  /** By window, as "300s"; 1 spends the budget of errors in exactly 30 days. */
  burn_rates: Record<string, number>;
  budget_left_fraction: number;
}

export interface DriftTest {
  signal: string;
  member: string;
  reference: "training-data" | "healthy-window" | string;
  statistic: number;
  threshold: number;
  sample_size: number;
  reference_size: number;
  reference_mean: number | null;
  recent_mean: number | null;
  recent_samples: number;
  unit: string;
}

export interface DriftAlarm {
  signal: string;
  member?: string;
  statistic: number;
  threshold: number;
  sample_size: number;
  began_at?: string | null;
  detected_at?: string | null;
  new_words?: string[];
  explanation?: string;
}

export interface DriftVersion {
  model_id: string;
  version: number;
  samples: number;
  healthy_window: { samples: number; ready: boolean };
  alpha: number;
  tests: DriftTest[];
  alarms: DriftAlarm[];
  updated_at: string;
}

export type Mode = "suggest" | "approve" | "auto";

export interface Policy {
  mode: Mode;
  on: { drift: boolean; new_dataset: boolean; schedule: string | null };
  data: "dataset" | "traffic";
  budget_usd_per_month: number | null;
  cooldown: string | null;
  confirmations: { alarms: number; samples: number };
  max_job_budget_usd: number | null;
}

export interface Suggestion {
  retrain_id: string;
  version: number;
  reason: string;
  detail: string;
  data: string;
  state: string;
  suggested_at: string;
  expires_at: string | null;
}

export interface TimelineEntry {
  at: string;
  kind: string;
  retrain_id: string | null;
  job_id: string | null;
  [field: string]: unknown;
}

export interface Retraining {
  policy: Policy;
  set_by: "owner" | "operator";
  next_at: string | null;
  spent_usd: number;
  in_flight: { retrain_id: string; job_id: string | null } | null;
  refused_now: { rule: string; detail: string } | null;
  pending: Suggestion[];
  timeline: TimelineEntry[];
}

export interface CutPreview {
  dataset: string;
  format: string;
  refusal: string | null;
  rows_after: number;
  lineage: Record<string, unknown> & { corrections?: number; liked?: number; inputs?: number; duplicates?: number; too_long?: number; over_limit?: number; redacted?: number };
  rows: unknown[];
}
