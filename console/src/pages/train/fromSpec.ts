/** A job's stored specification back into a draft: to train once more, and to show it as a job file. Pure. */

import { type Draft, EMPTY } from "./draft";
import { METHODS, type Method, type NumberName, OBJECTIVES, type Objective } from "./settings";

/** `spec` of `GET /v1/jobs/ID`, as far as it is read. */
export interface JobSpec {
  kind: string;
  name: string;
  model: {
    model_id: string;
    uri: string;
    code_uri: string;
    method: string;
    rank: number;
    alpha: number;
    target_modules: string[];
    dora: boolean;
    rslora: boolean;
  };
  dataset: { name: string; version: number; format: string; eval_fraction: number; rows: number } | null;
  hyperparameters: Record<string, number | boolean | null>;
  resources: {
    accelerators: string;
    cpus: string;
    memory: string;
    nodes: string;
    regions: string[];
    instance_types: string[];
    max_price_usd_per_hour: number | null;
  };
  spot_policy: string;
  budget_usd: number | null;
  deadline: string | null;
  retry: { max_restarts_on_errors: number; duration_seconds: number; on_events: string[] };
  checkpoint: { interval_steps: number; keep: number; disabled: boolean };
  env: Record<string, string>;
  secrets: string[];
  objective: string;
  priority: string;
  exports: string[];
  project: string;
}

const NUMBERS_OF_SPEC: NumberName[] = ["n_epochs", "batch_size", "learning_rate", "sequence_length", "max_steps", "seed", "dpo_beta"];
const USUAL_NODES = "1..8"; // what a job says that leaves the number of machines to the planner

/** `model`: as `GET /v1/models` names it, where it is not a foundation model. The deadline is kept as it was. */
export function draftOf(spec: JobSpec, model: string = spec.model.model_id): Draft {
  const isCode = spec.kind === "train";
  const { rank, alpha } = spec.model;
  const numbers: Draft["numbers"] = {};
  for (const name of NUMBERS_OF_SPEC) if (typeof spec.hyperparameters[name] === "number") numbers[name] = String(spec.hyperparameters[name]);
  if (rank !== 8) numbers.rank = String(rank);
  if (alpha !== 2 * rank) numbers.alpha = String(alpha);
  if (spec.dataset && spec.dataset.eval_fraction !== 0.05) numbers.eval_fraction = String(spec.dataset.eval_fraction);
  if (spec.budget_usd !== null) numbers.budget = String(spec.budget_usd);
  if (spec.resources.max_price_usd_per_hour !== null) numbers.max_price = String(spec.resources.max_price_usd_per_hour);
  if (spec.retry.on_events.includes("error") && spec.retry.max_restarts_on_errors !== 3) {
    numbers.max_restarts = String(spec.retry.max_restarts_on_errors);
  }
  if (spec.checkpoint.interval_steps > 0) numbers.checkpoint_interval = String(spec.checkpoint.interval_steps);
  if (spec.checkpoint.keep !== 3) numbers.checkpoint_keep = String(spec.checkpoint.keep);
  const flagged = (name: string) => {
    const value = spec.hyperparameters[name];
    return typeof value === "boolean" ? (String(value) as "true" | "false") : "auto";
  };
  return {
    ...EMPTY,
    dataset: spec.dataset ? `${spec.dataset.name}@${spec.dataset.version}` : null,
    format: spec.dataset?.format ?? null,
    model,
    origin: isCode ? "code" : spec.model.uri.startsWith("builtin://") ? "builtin" : "own",
    name: spec.name,
    isNamed: true,
    method: METHODS.find((one) => one === spec.model.method) ?? ("lora" satisfies Method),
    dora: spec.model.dora,
    rslora: spec.model.rslora,
    targetModules: spec.model.target_modules.join(", "),
    numbers,
    choices: {
      gradient_checkpointing: flagged("gradient_checkpointing"),
      packing: flagged("packing"),
      horizontal_flip: flagged("horizontal_flip"),
    },
    accelerators: spec.resources.accelerators,
    cpus: spec.resources.cpus,
    memory: spec.resources.memory,
    nodes: spec.resources.nodes === USUAL_NODES ? "" : spec.resources.nodes,
    regions: spec.resources.regions.join(", "),
    instanceTypes: spec.resources.instance_types.join(", "),
    retryOn: spec.retry.on_events,
    retryDuration: spec.retry.duration_seconds > 0 ? `${spec.retry.duration_seconds}s` : "",
    checkpoints: spec.checkpoint.disabled ? "never" : spec.checkpoint.interval_steps > 0 ? "steps" : "auto",
    exports: spec.exports,
    env: Object.entries(spec.env)
      .map(([name, value]) => `${name}=${value}`)
      .join("\n"),
    secrets: spec.secrets.join(", "),
    objective: OBJECTIVES.find((one) => one === spec.objective) ?? ("cheapest" satisfies Objective),
    deadlineIs: spec.deadline ? "at" : "none",
    deadline: spec.deadline ?? "",
    spotPolicy: spec.spot_policy === "spot" || spec.spot_policy === "on-demand" ? spec.spot_policy : "auto",
    priority: spec.priority === "low" || spec.priority === "high" ? spec.priority : "normal",
    project: spec.project,
  };
}

/** The draft of an ended job, to go again: with as much time as that one had. */
export function again(spec: JobSpec, submittedAt: string, model?: string): Draft {
  const draft = draftOf(spec, model);
  if (spec.deadline === null) return draft;
  const hours = (new Date(spec.deadline).getTime() - new Date(submittedAt).getTime()) / 3_600_000;
  return { ...draft, deadlineIs: "within", deadline: hours >= 1 ? `${Math.round(hours)}h` : `${Math.max(1, Math.round(hours * 60))}m` };
}
