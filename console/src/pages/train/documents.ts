/** What the gateway answers about datasets, models and plans, as far as this page reads it. */

export interface Dataset {
  id: string;
  name: string;
  version: number;
  uri: string;
  format: string;
  rows: number;
  bytes: number;
  estimated_tokens: number;
  report: DatasetReport | null;
  created_at: string;
}

export interface DatasetReport {
  characters?: number;
  duplicates?: number;
  share_learnt?: number;
  characters_per_row?: { min: number; median: number; p95: number; max: number };
  labels?: string[];
  rows_per_class?: Record<string, number>;
}

export interface Model {
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
  licence: string | null;
  hub_id: string | null;
  created_at: string;
}

export interface Placement {
  cloud: string;
  region: string;
  zone: string;
  instance_type: string;
  capacity_type: string;
  vcpus: number;
  memory_gib: number;
  accelerator_name: string;
  accelerator_count: number;
  price_usd_per_hour: number;
  on_demand_price_usd_per_hour: number | null;
}

export interface Range {
  low: number | null;
  expected: number | null;
  high: number | null;
}

export interface Candidate {
  placement: Placement;
  hours: Range | null;
  total_usd: Range | null;
  machine_count: number | null;
  on_pareto_front: boolean;
  price_stale: boolean;
  on_demand_total_usd: number | null;
  expected_interruptions: number | null;
  checkpoint_interval_steps: number | null;
  step_seconds: Range | null;
  bound_by: string;
  peak_bytes: number | null;
  usable_bytes: number | null;
  seconds: Record<string, number | null> | null;
  usd: Record<string, number | null> | null;
}

export interface Rejection {
  placement: Placement;
  reason: string;
  detail: string;
}

/** A plan, or a dry run; what is not `proposed` has no candidates. */
export interface Plan {
  id: string;
  status: "pending" | "proposed" | "refused";
  created_at: string;
  candidates?: Candidate[];
  rejections?: Rejection[];
  explanation?: string;
  fitting?: number;
  objective?: string;
  prices_as_of?: string | null;
  point_of_no_return?: string | null;
  snapshot_hash?: string;
  reason?: string;
  detail?: string;
  advice?: string;
}
