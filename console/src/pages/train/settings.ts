/** Every setting of a job file that has a figure, with its bounds as `services/gateway/jobfile.py` has them. Pure. */

export interface NumberSetting {
  /** Where it stands in the job file. */
  field: string;
  least: number;
  most: number;
  whole: boolean;
  /** What the usual choice is when nothing is said; `auto` unless another figure is. */
  usual?: number;
  /** Above 0, not from 0: `least` itself is out. */
  above?: boolean;
}

const setting = (field: string, least: number, most: number, more: Partial<NumberSetting> = {}): NumberSetting => ({
  field, least, most, whole: true, ...more,
});
const fraction = { whole: false, above: true };

export const NUMBERS = {
  n_epochs: setting("hyperparameters.n_epochs", 0, 1000, fraction),
  batch_size: setting("hyperparameters.batch_size", 1, 65_536),
  learning_rate: setting("hyperparameters.learning_rate", 0, 1, fraction),
  sequence_length: setting("hyperparameters.sequence_length", 8, 131_072),
  max_steps: setting("hyperparameters.max_steps", 1, 10_000_000),
  seed: setting("hyperparameters.seed", 0, Number.MAX_SAFE_INTEGER),
  dpo_beta: setting("hyperparameters.dpo_beta", 0, 10, fraction),
  rank: setting("model.rank", 1, 512, { usual: 8 }),
  alpha: setting("model.alpha", 1, 4096),
  eval_fraction: setting("dataset.eval_fraction", 0, 0.5, { whole: false, usual: 0.05 }),
  max_restarts: setting("retry.max_restarts_on_errors", 0, 100, { usual: 3 }),
  checkpoint_interval: setting("checkpoint.interval", 1, 1_000_000),
  checkpoint_keep: setting("checkpoint.keep", 1, 100, { usual: 3 }),
  budget: setting("budget.total_usd", 0, 1e9, fraction),
  max_price: setting("max_price", 0, 1e6, fraction),
} satisfies Record<string, NumberSetting>;

export type NumberName = keyof typeof NUMBERS;

export const CHOICES = {
  gradient_checkpointing: "hyperparameters.gradient_checkpointing",
  packing: "hyperparameters.packing",
  horizontal_flip: "hyperparameters.horizontal_flip",
} as const;

export type ChoiceName = keyof typeof CHOICES;

export const METHODS = ["lora", "qlora", "full", "scratch"] as const;
export type Method = (typeof METHODS)[number];

export const OBJECTIVES = ["cheapest", "cheapest-within-deadline", "fastest-within-budget", "fastest"] as const;
export type Objective = (typeof OBJECTIVES)[number];

export const ACCELERATORS = [
  "T4", "V100", "V100-32GB", "A10G", "L4", "L40S", "A100", "A100-80GB", "RTXPRO6000", "H100", "H200", "B200",
] as const;

export const RETRY_EVENTS = ["no-capacity", "interruption", "error"] as const;
export const EXPORTS = ["merged", "gguf"] as const;

const PACKED_FORMATS = ["text", "messages", "prompt-completion"];

/** Which of the settings mean something for data of this format and for this method. */
export function applies(name: NumberName | ChoiceName, method: Method, format: string | null): boolean {
  if (name === "dpo_beta") return format === "preference";
  if (name === "packing") return format === null || PACKED_FORMATS.includes(format);
  if (name === "horizontal_flip") return format === "image-classification";
  if (name === "sequence_length") return format === null || !format.includes("image");
  if (name === "rank" || name === "alpha") return hasAdapter(method);
  return true;
}

export function hasAdapter(method: Method): boolean {
  return method === "lora" || method === "qlora";
}

export type Misfit = "number" | "whole" | "low" | "high";

/** What is wrong with a figure as it was typed; null: nothing, or it is empty, which means the usual. */
export function misfit(text: string, { least, most, whole, above }: NumberSetting): Misfit | null {
  if (text.trim() === "") return null;
  const value = Number(text);
  if (!Number.isFinite(value)) return "number";
  if (whole && !Number.isInteger(value)) return "whole";
  if (value < least || (above && value === least)) return "low";
  return value > most ? "high" : null;
}
