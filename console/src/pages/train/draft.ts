/** What somebody has chosen so far, and the job file that it makes. Pure. */

import type { Dataset } from "./documents";
import { type ChoiceName, hasAdapter, type Method, type NumberName, type Objective, RETRY_EVENTS } from "./settings";

export type Choice = "auto" | "true" | "false";

export interface Draft {
  /** NAME@VERSION; null: not chosen, or the model's code brings the data. */
  dataset: string | null;
  /** Of the dataset: what is offered depends on it. */
  format: string | null;
  model: string | null;
  origin: "builtin" | "own" | "code";
  name: string;
  /** The name is one that somebody typed, and not the one that follows from the data. */
  isNamed: boolean;
  method: Method;
  dora: boolean;
  rslora: boolean;
  targetModules: string;
  /** As they were typed; what is missing is `auto` or the default. */
  numbers: Partial<Record<NumberName, string>>;
  choices: Partial<Record<ChoiceName, Choice>>;
  accelerators: string;
  cpus: string;
  memory: string;
  nodes: string;
  regions: string;
  instanceTypes: string;
  retryOn: string[];
  retryDuration: string;
  checkpoints: "auto" | "steps" | "never";
  exports: string[];
  env: string;
  secrets: string;
  objective: Objective;
  deadlineIs: "none" | "within" | "at";
  /** `6h`, or what an input of date and time holds. */
  deadline: string;
  spotPolicy: "auto" | "spot" | "on-demand";
  priority: "low" | "normal" | "high";
  project: string;
}

export const EMPTY: Draft = {
  dataset: null,
  format: null,
  model: null,
  origin: "builtin",
  name: "",
  isNamed: false,
  method: "lora",
  dora: false,
  rslora: false,
  targetModules: "",
  numbers: {},
  choices: {},
  accelerators: "",
  cpus: "",
  memory: "",
  nodes: "",
  regions: "",
  instanceTypes: "",
  retryOn: [...RETRY_EVENTS],
  retryDuration: "",
  checkpoints: "auto",
  exports: [],
  env: "",
  secrets: "",
  objective: "cheapest",
  deadlineIs: "none",
  deadline: "",
  spotPolicy: "auto",
  priority: "normal",
  project: "",
};

export type JobFile = Record<string, unknown>;

/** The job file as it is sent: only what was said, so that what is `auto` stays so. */
export function jobFile(draft: Draft): JobFile {
  const isCode = draft.origin === "code";
  const number = (name: NumberName) => typed(draft.numbers[name]);
  const interval = draft.checkpoints === "steps" ? number("checkpoint_interval") : draft.checkpoints === "never" ? "never" : undefined;
  const model = draft.model ?? "";
  return pruned({
    kind: isCode ? "train" : "finetune",
    name: draft.name,
    model: {
      ...(draft.origin === "builtin" ? { base: model } : { artifact: `model://${model.replace("@", "/")}` }),
      method: isCode ? "scratch" : draft.method,
      ...(hasAdapter(draft.method) && !isCode
        ? {
            rank: number("rank"),
            alpha: number("alpha"),
            dora: draft.dora || undefined,
            rslora: draft.rslora || undefined,
            target_modules: listed(draft.targetModules),
          }
        : {}),
    },
    dataset: isCode
      ? undefined
      : { uri: `dataset://${(draft.dataset ?? "").replace("@", "/")}`, eval_fraction: number("eval_fraction") },
    hyperparameters: {
      n_epochs: number("n_epochs"),
      max_steps: number("max_steps"),
      batch_size: number("batch_size"),
      learning_rate: number("learning_rate"),
      sequence_length: number("sequence_length"),
      seed: number("seed"),
      dpo_beta: number("dpo_beta"),
      gradient_checkpointing: flag(draft.choices.gradient_checkpointing),
      packing: flag(draft.choices.packing),
      horizontal_flip: flag(draft.choices.horizontal_flip),
    },
    resources: {
      accelerators: said(draft.accelerators),
      cpus: said(draft.cpus),
      memory: said(draft.memory),
      nodes: said(draft.nodes),
      regions: listed(draft.regions),
      instance_types: listed(draft.instanceTypes),
    },
    objective: draft.objective,
    deadline: deadlineOf(draft),
    budget: { total_usd: number("budget") },
    max_price: number("max_price"),
    spot_policy: draft.spotPolicy === "auto" ? undefined : draft.spotPolicy,
    retry: {
      on_events: draft.retryOn.length === RETRY_EVENTS.length ? undefined : draft.retryOn,
      duration: said(draft.retryDuration),
      max_restarts_on_errors: draft.retryOn.includes("error") ? number("max_restarts") : undefined,
    },
    checkpoint: { interval, keep: number("checkpoint_keep") },
    export: draft.exports,
    env: variables(draft.env),
    secrets: listed(draft.secrets),
    priority: draft.priority === "normal" ? undefined : draft.priority,
    project: said(draft.project),
  }) as JobFile;
}

/** A local date and time gets its offset; a duration stays what it is. */
function deadlineOf({ deadlineIs, deadline }: Draft): string | undefined {
  if (deadlineIs === "none" || deadline.trim() === "") return undefined;
  if (deadlineIs === "within") return deadline.trim();
  const at = new Date(deadline);
  return Number.isNaN(at.getTime()) ? deadline : at.toISOString();
}

function typed(text: string | undefined): number | string | undefined {
  if (text === undefined || text.trim() === "") return undefined;
  const value = Number(text);
  return Number.isFinite(value) ? value : text;
}

const flag = (choice: Choice | undefined) => (choice === undefined || choice === "auto" ? undefined : choice === "true");
const said = (text: string) => text.trim() || undefined;
const listed = (text: string) => text.split(/[\s,]+/).filter((part) => part !== "");

/** `NAME=VALUE` a line. */
function variables(text: string): Record<string, string> {
  const lines = text.split("\n").filter((line) => line.trim() !== "");
  return Object.fromEntries(lines.map((line) => [line.split("=", 1)[0]?.trim() ?? "", line.slice(line.indexOf("=") + 1)]));
}

/** Without what was not said: no undefined, no empty objects and lists. */
function pruned(value: unknown): unknown {
  if (Array.isArray(value)) return value.length > 0 ? value : undefined;
  if (typeof value !== "object" || value === null) return value;
  const kept = Object.entries(value)
    .map(([key, inner]) => [key, pruned(inner)] as const)
    .filter(([, inner]) => inner !== undefined);
  return kept.length > 0 ? Object.fromEntries(kept) : undefined;
}

/** The draft with another dataset; what its format does not know falls away, and the name follows unless it was typed. */
export function withDataset(draft: Draft, dataset: Pick<Dataset, "name" | "version" | "format">): Draft {
  const numbers = { ...draft.numbers };
  const choices = { ...draft.choices };
  if (dataset.format !== draft.format) {
    delete numbers.dpo_beta;
    delete choices.packing;
    delete choices.horizontal_flip;
  }
  const name = draft.isNamed ? draft.name : dataset.name;
  return { ...draft, dataset: `${dataset.name}@${dataset.version}`, format: dataset.format, numbers, choices, name };
}

/** The draft with another model. What is made of code needs a name of its own. */
export function withModel(draft: Draft, model: string, origin: Draft["origin"]): Draft {
  const isCode = origin === "code";
  const of = model.split("@", 1)[0] ?? model;
  const name = draft.isNamed ? draft.name : isCode ? `${of.slice(0, 55)}-trained` : (draft.dataset?.split("@", 1)[0] ?? "");
  return { ...draft, model, origin, name, method: isCode ? "scratch" : draft.origin === "code" ? "lora" : draft.method };
}

export const STEPS = ["data", "model", "method", "goal", "plan"] as const;
export type Step = (typeof STEPS)[number];

/** Where a field of the job file is asked for. */
export function stepOf(field: string): Step {
  const [head = "", next = ""] = field.split(".");
  if (head === "dataset") return next === "eval_fraction" ? "method" : "data";
  if (head === "name") return "model";
  if (head === "model") return ["base", "artifact", ""].includes(next) ? "model" : "method";
  if (["objective", "deadline", "budget", "max_price", "spot_policy", "priority", "project"].includes(head)) return "goal";
  return "method";
}

/** What has to be chosen before the step; null: it can be gone to. */
export function missingBefore(draft: Draft, step: Step): "data" | "model" | null {
  const at = STEPS.indexOf(step);
  if (at > 0 && draft.dataset === null && draft.origin !== "code") return "data";
  if (at > 1 && draft.model === null) return "model";
  return null;
}

