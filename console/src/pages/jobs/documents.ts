/** What the gateway answers about jobs, as far as these pages read it. */

import type { Candidate, Placement } from "../train/documents";
import type { JobSpec } from "../train/fromSpec";

export const STATES = ["running", "held", "queued", "submitted", "cancelling", "succeeded", "failed", "cancelled"] as const;
export type JobState = (typeof STATES)[number];

const ENDS: readonly string[] = ["succeeded", "failed", "cancelled"];
export const hasEnded = (state: string): boolean => ENDS.includes(state);

export interface Waiting {
  rule: string;
  detail: string;
  since: string | null;
  expected_start: string | null;
  earliest_start: string | null;
  latest_start: string | null;
  position: number;
}

export interface Progress {
  at: string;
  step: number;
  total_steps: number;
  phase: string;
  loss: number | null;
  learning_rate: number | null;
  step_seconds: number | null;
  tokens_per_second: number | null;
  eta_seconds: number | null;
}

export interface JobSummary {
  id: string;
  kind: string;
  name: string;
  state: JobState;
  model: string;
  dataset: string | null;
  attempt: number;
  waiting: Waiting | null;
  progress: Progress | null;
  spent_usd: number;
  budget_usd: number | null;
  submitted_at: string | null;
  ended_at: string | null;
}

export interface Attempt {
  number: number;
  outcome: string;
  machine_id: string;
  placement: Placement | null;
  reason: string;
  detail: string;
  resumed_from_step: number | null;
  lost_steps: number;
}

export interface Checkpoint {
  step: number;
  attempt: number;
  uri: string;
  bytes: number;
  cause: string;
  save_seconds: number | null;
  stall_seconds: number | null;
  at: string;
}

export interface Receipt {
  attempts: number;
  interruptions: number;
  paid_nano_usd: number;
  on_demand_nano_usd: number;
  lost_nano_usd: number;
  naive_nano_usd: number | null;
  naive_instance_type: string;
  saving_fraction: number | null;
  useful_seconds: number;
  overhead_seconds: number;
  restart_seconds: number;
  lost_seconds: number;
  waiting_seconds: number;
  elapsed_seconds: number;
  time_saved_seconds: number | null;
}

export interface Job extends JobSummary {
  spec: JobSpec;
  trace_id: string | null;
  plan_id: string | null;
  placement: Candidate | null;
  attempts: Attempt[];
  checkpoints: Checkpoint[];
  /** Pairs of step and loss. */
  losses: [number, number][];
  on_demand_usd: number;
  end: {
    at: string;
    state: string;
    reason: string;
    advice: string;
    eval_loss_before: number | null;
    eval_loss_after: number | null;
    steps: number;
    tokens: number;
  } | null;
  receipt: Receipt | null;
}

export interface TimelineAttempt {
  number: number;
  offer: string;
  placement: Placement;
  started_at: string;
  ended_at: string | null;
  outcome: string;
  reason: string;
  from_step: number;
  to_step: number;
  lost_steps: number;
  gap_seconds: number | null;
  phases: { phase: string; started_at: string; ended_at: string }[];
}

export interface TimelineEvent {
  at: string;
  kind: string;
  attempt?: number;
  step?: number;
  bytes?: number;
  cause?: string;
  rule?: string;
  detail?: string;
  reason?: string;
  action?: string;
  offer?: string;
  fraction?: number;
}

export interface Timeline {
  from: string;
  until: string;
  state: string;
  deadline: string | null;
  point_of_no_return: string | null;
  attempts: TimelineAttempt[];
  waits: { from: string; until: string; rule: string; detail: string }[];
  events: TimelineEvent[];
  prices: { offer: string; capacity_type: string; on_demand_usd_per_hour: number | null; points: { at: string; usd_per_hour: number }[] }[];
}

export interface Span {
  span_id: string;
  parent_span_id: string;
  depth: number;
  service: string;
  name: string;
  kind: string;
  start_offset_seconds: number;
  duration_seconds: number;
  failed: boolean;
  status_message: string;
  attributes: Record<string, unknown>;
}

export interface Trace {
  trace_id: string;
  started_at: string;
  duration_seconds: number;
  services: string[];
  spans: Span[];
}
