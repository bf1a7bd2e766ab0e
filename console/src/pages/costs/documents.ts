export interface Totals {
  spent_usd: number;
  on_demand_usd: number;
  saving_usd: number;
  saving_fraction: number | null;
  machine_seconds: number;
}

export type GroupBy = "kind" | "job" | "endpoint" | "project";

/** One of `group_by`'s names is there, with "" for what belongs to none. */
export type Group = Totals & Partial<Record<GroupBy | "day", string>>;

export interface Costs {
  since: string;
  until: string;
  groups: Group[];
  total: Totals;
  time_saved_seconds: number;
}

export type Scope = "tenant" | "project" | "endpoint" | "job";

export interface BudgetForm {
  scope: Scope;
  target?: string;
  amount_usd: number;
  period: "month" | "total";
  thresholds: number[];
  action: "warn" | "stop";
}

export interface Budget extends BudgetForm {
  id: string;
  target: string;
  /** Null: the monitor is away. */
  spent_usd: number | null;
  reserved_usd: number | null;
  left_usd: number | null;
}

export interface Receipt {
  job_id: string;
  outcome: string;
  attempts: number;
  intervals: number;
  interruptions: number;
  issued_at: string;
  paid_usd: number;
  on_demand_usd: number;
  saving_fraction: number;
  lost_usd: number;
  lost_seconds: number;
  useful_seconds: number;
  overhead_seconds: number;
  restart_seconds: number;
  machine_seconds: number;
  elapsed_seconds: number;
  waiting_seconds: number;
  naive_usd: number | null;
  naive_seconds: number | null;
  naive_instance_type: string;
  naive_saving_fraction: number | null;
  time_saved_seconds: number | null;
}

export interface Named {
  id: string;
  name: string;
}

/** Of a dataset, or of a model, whose versions share `model_id`. */
export interface Version extends Named {
  version: number;
  model_id?: string;
}
