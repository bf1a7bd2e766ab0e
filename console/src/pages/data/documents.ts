export interface Report {
  characters?: number;
  characters_per_row?: { min: number; median: number; p95: number; max: number };
  duplicates?: number;
  share_learnt?: number;
  labels?: string[];
  rows_per_class?: Record<string, number>;
}

/** What a version was cut from; counts that are 0 are left out. */
export interface Lineage {
  parent_dataset_id: string;
  parent_version: number;
  endpoint_id: string;
  retrain_id?: string;
  since?: string;
  until: string;
  corrections?: number;
  liked?: number;
  inputs?: number;
  duplicates?: number;
  too_long?: number;
  over_limit?: number;
  redacted?: number;
}

export interface Dataset {
  id: string;
  object: "dataset";
  name: string;
  version: number;
  uri: string;
  format: string;
  rows: number;
  bytes: number;
  sha256: string;
  estimated_tokens: number;
  report: Report;
  lineage: Lineage | null;
  created_at: string;
}

export interface Job {
  id: string;
  name: string;
  state: string;
  model: string;
  submitted_at: string | null;
}

export interface Model {
  id: string;
  name: string;
  version: number;
  job_id: string | null;
}

export interface UploadPart {
  part_number: number;
  bytes: number;
}

export interface Upload {
  id: string;
  status: "pending" | "validating" | "completed" | "failed" | "cancelled" | "expired";
  part_bytes: number;
  name: string;
  file: { id: string } | null;
  problem: { row: number; column: string; reason: string } | null;
  parts?: UploadPart[];
}
