/** Job files as YAML, and as a command. Pure. */

import type { JobFile } from "./draft";

const PLAIN = /^[A-Za-z_./][A-Za-z0-9_./@:+-]*[A-Za-z0-9_./@+-]$|^[A-Za-z_]$/;
const WORDS = new Set(["true", "false", "null", "yes", "no", "on", "off", "y", "n", "~"]);

/** Block style; short lists of plain words stand in one line. */
export function yaml(value: JobFile, indent = ""): string {
  return Object.entries(value)
    .map(([key, inner]) => {
      if (Array.isArray(inner)) return `${indent}${key}: [${inner.map(scalar).join(", ")}]\n`;
      if (typeof inner === "object" && inner !== null) return `${indent}${key}:\n${yaml(inner as JobFile, `${indent}  `)}`;
      return `${indent}${key}: ${scalar(inner)}\n`;
    })
    .join("");
}

function scalar(value: unknown): string {
  if (typeof value !== "string") return String(value);
  return PLAIN.test(value) && !WORDS.has(value.toLowerCase()) ? value : JSON.stringify(value);
}

/** `sskai train` with flags; null: the job says more than the flags can. */
export function command(file: JobFile): string | null {
  const model = file["model"] as Record<string, unknown>;
  const rest: JobFile = structuredClone(file);
  const words: string[] = ["sskai train"];
  const take = (flag: string, ...path: string[]) => {
    const holder = path.slice(0, -1).reduce<JobFile | undefined>((inner, key) => inner?.[key] as JobFile | undefined, rest);
    const last = path.at(-1) ?? "";
    const value = holder?.[last];
    if (holder === undefined || value === undefined) return;
    holder[last] = undefined;
    words.push(`--${flag} ${shell(String(value))}`);
  };
  const uri = (file["dataset"] as JobFile | undefined)?.["uri"];
  if (typeof uri === "string") (rest["dataset"] as JobFile)["uri"] = uri.replace("dataset://", "").replace("/", "@");
  if (model["artifact"]) (rest["model"] as JobFile)["artifact"] = String(model["artifact"]).replace("model://", "").replace("/", "@");
  take("data", "dataset", "uri");
  take("base", "model", "base");
  take("model", "model", "artifact");
  take("name", "name");
  take("method", "model", "method");
  take("rank", "model", "rank");
  take("epochs", "hyperparameters", "n_epochs");
  take("steps", "hyperparameters", "max_steps");
  take("batch-size", "hyperparameters", "batch_size");
  take("learning-rate", "hyperparameters", "learning_rate");
  take("budget", "budget", "total_usd");
  take("deadline", "deadline");
  take("max-price", "max_price");
  take("spot", "spot_policy");
  take("accelerators", "resources", "accelerators");
  take("objective", "objective");
  rest["kind"] = undefined;
  return isEmpty(rest) ? words.join(" \\\n  ") : null;
}

const isEmpty = (value: unknown): boolean =>
  value === undefined ||
  (typeof value === "object" && value !== null && !Array.isArray(value) && Object.values(value).every(isEmpty));

function shell(text: string): string {
  return /^[A-Za-z0-9@._:/+-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}
