export interface Model {
  /** What a user writes: NAME@VERSION; of a foundation model its name. */
  id: string;
  model_id: string;
  name: string;
  version: number;
  origin: "builtin" | "uploaded" | "trained" | "code";
  parent: string | null;
  method: string | null;
  available: boolean;
  task: string | null;
  parameters: number | null;
  context_tokens?: number | null;
  bytes: number | null;
  licence: string | null;
  hub_id: string | null;
  job_id: string | null;
  eval_loss_before: number | null;
  eval_loss_after: number | null;
  created_at: string;
}

export type AliasName = "champion" | "challenger";

export interface Alias {
  model: string;
  alias: AliasName;
  version: number;
}

/** ModelEvaluated; 64-bit numbers are texts in it. */
export interface Comparison {
  version: number;
  metric: string;
  value: number;
  champion_value?: number;
  champion_version?: number;
  difference_standard_error?: number;
  sample_size?: string | number;
  evaluated_at: string;
}

export interface LoggedEvent {
  id: number;
  event: { data: Comparison };
}

export interface Job {
  id: string;
  name: string;
  /** dataset://NAME/VERSION */
  dataset: string | null;
}

export interface Dataset {
  name: string;
  version: number;
  format: string;
  rows: number;
  lineage: { parent_version: number; endpoint_id: string } | null;
}

export interface Receipt {
  paid_usd: number;
  on_demand_usd: number;
  saving_fraction: number;
  elapsed_seconds: number;
  interruptions: number;
}
