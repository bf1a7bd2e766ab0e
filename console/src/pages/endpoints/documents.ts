/** Answers of `/v1/endpoints`, `/v1/figures` and `/v1/plans` as these pages read them. */

export interface Endpoint {
  id: string;
  object: "endpoint";
  name: string;
  kind: "adapter" | "serverless" | "spot";
  model: string;
  model_id: string;
  version: number;
  sample_rate: number;
  state: "requested" | "ready" | "failed" | "deleting" | "deleted";
  ready_at: string | null;
  load_seconds: number | null;
  cold_start_seconds: number | null;
  failed_at: string | null;
  reason: string;
  advice: string;
  replicas: number | null;
  drifted_at: string | null;
  drift_signal: string;
  drift_explanation: string;
  served_version: number | null;
  canary_version: number | null;
  canary_fraction: number | null;
  spent_usd: number;
  on_demand_usd: number;
  input_tokens: number;
  output_tokens: number;
  usd_per_million_tokens: number | null;
  created_at: string;
  /** Only in the document of one endpoint, and null where inference is away. */
  traffic?: Traffic | null;
}

export interface VersionFigures {
  version: number;
  shadow: boolean;
  requests: number;
  errors: number;
  error_rate: number | null;
  p50_seconds: number | null;
  p95_seconds: number | null;
  feedback: number;
  mean_score: number | null;
}

export interface Rollout {
  id: string;
  version: number;
  from_version: number;
  mode: Mode;
  stage: Stage;
  step: number;
  steps: number[];
  minimum_requests: number;
  minimum_seconds: number;
  shadow_fraction: number;
  reason: string | null;
  versions: VersionFigures[];
  win_rate: { value: number; low: number; high: number; feedback: number } | null;
  evaluations: { metric: string; verdict: string; reason: string }[];
}

export interface PastRollout {
  id: string;
  version: number;
  from_version: number;
  stage: Stage;
  reason: string;
  started_at: string;
  ended_at: string | null;
}

export type Mode = "suggest" | "approve" | "auto";
export type Stage = "loading" | "suggested" | "canary" | "approval" | "promoted" | "rolled-back";

export interface Traffic {
  promotion: Mode | null;
  split: { version: number; role: "champion" | "canary"; fraction: number }[];
  rollout: Rollout | null;
  versions: VersionFigures[];
  history: PastRollout[];
}

export interface Knob {
  name: string;
  type: "integer" | "number" | "text" | "choice";
  default: number | string | null;
  minimum: number | null;
  maximum: number | null;
  choices: string[];
}

export interface Tensor {
  name: string;
  datatype: string;
  shape: number[];
  data: unknown[];
}

export interface PlaygroundDocument {
  name: string;
  model: string;
  state: string;
  task: string | null;
  context_tokens: number | null;
  operation: "chat" | "images" | "infer";
  route: string;
  streams: boolean;
  parameters: Knob[];
  examples: string[];
  body: Record<string, unknown>;
  snippets: { curl: string; python?: string };
}

export interface Spread {
  count: number;
  total: number;
  mean: number | null;
  p50: number | null;
  p95: number | null;
  p99: number | null;
}

export interface FigureRow {
  /** Of the span: the operation and the endpoint. */
  name: string;
  window_start: string;
  spans: number;
  errors: number;
  error_fraction: number;
  spans_per_second: number;
  mean_seconds: number | null;
  p50_seconds: number | null;
  p95_seconds: number | null;
  p99_seconds: number | null;
  exemplar_trace_id: string | null;
  values: Partial<Record<string, Spread>>;
}

export interface FiguresDocument {
  window_seconds: number;
  figures: FigureRow[];
}

export interface PlanOption {
  kind: string;
  placement: {
    region?: string;
    zone?: string;
    instance_type?: string;
    capacity_type?: string;
    accelerator_name?: string;
    accelerator_count?: number;
    price_usd_per_hour?: number;
  } | null;
  replicas: number;
  usd_per_month: number;
  usd_per_million_tokens: number;
  tokens_per_second: number;
  p95_latency_seconds: number;
  cold_start_seconds: number;
  meets: boolean;
  misses?: string;
  detail: string;
  break_even_requests_per_day?: number | null;
}

export interface EndpointPlan {
  id: string;
  status: "pending" | "proposed" | "refused";
  options: PlanOption[];
  explanation: string;
}

export interface Model {
  id: string;
  name: string;
  version: number;
  origin: string;
  available: boolean;
  task: string;
  parent: string | null;
}
