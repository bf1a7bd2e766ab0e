import type { Values } from "../../i18n/text";
import en from "../../locales/en/dashboard";
import type { ActivityItem } from "./documents";

/** How a language writes what stands in events. */
export interface Written {
  money: (usd: number) => string;
  percent: (fraction: number) => string;
  number: (value: number) => string;
  duration: (seconds: number) => string;
}

type Key = keyof typeof en;

export interface Sentence {
  /** Holds `{who}`, which becomes a link. */
  key: Key;
  values: Values;
  who: string | null;
  link: string | null;
  /** What explains it, in the words of the event. */
  detail: Detail[];
}

export type Detail = string | { key: Key; values: Values };

const NANO = 1e9;

/** One event as a sentence; null for a type that has no words here (a gateway newer than this console). */
export function sentenceOf(item: ActivityItem, written: Written): Sentence | null {
  const { type, fields } = item;
  if (!(`activity.${type}` in en)) return null;
  const saving = Number(fields["saving_fraction"] ?? 0);
  const dearer = type === "ReceiptIssued" && saving <= 0;
  return {
    key: (dearer ? "activity.ReceiptIssuedDearer" : `activity.${type}`) as Key,
    values: {
      version: Number(fields["version"] ?? 0),
      rows: Number(fields["rows"] ?? 0),
      attempt: Number(fields["attempt"] ?? 0),
      steps: Number(fields["steps"] ?? fields["steps_done"] ?? 0),
      step: Number(fields["from_step"] ?? 0),
      machine: String(fields["machine_id"] ?? "–"),
      alias: String(fields["alias"] ?? "–"),
      signal: String(fields["signal"] ?? "–"),
      objective: String(fields["objective"] ?? "–"),
      paid: written.money(Number(fields["paid_nano_usd"] ?? 0) / NANO),
      share: written.percent(Number(fields["traffic_fraction"] ?? fields["fraction"] ?? saving)),
    },
    who: whoOf(item),
    link: linkOf(item),
    detail: detailOf(item, written),
  };
}

function whoOf({ name, fields }: ActivityItem): string | null {
  const told = name ?? fields["name"] ?? fields["target"];
  return told === undefined ? null : String(told);
}

/** Where more of it is: by the kind of thing that the event is about. */
function linkOf({ type, subject, name, fields }: ActivityItem): string | null {
  if (type === "BudgetThresholdReached") return "/costs";
  if (type === "ReceiptIssued") return `/costs/receipts/${subject}`;
  if (type === "DatasetValidated") return `/data/${String(fields["name"])}`;
  if (type === "DatasetRejected") return "/data";
  if (type.startsWith("Retrain") || type.startsWith("Objective") || type === "DriftDetected") return `/monitoring/${subject}`;
  if (subject.startsWith("job_")) return `/jobs/${subject}`;
  if (subject.startsWith("endpoint_")) return `/endpoints/${subject}`;
  const model = name ?? fields["name"];
  return subject.startsWith("model_") && model !== undefined ? `/models/${String(model)}` : null;
}

function detailOf({ type, fields }: ActivityItem, written: Written): Detail[] {
  const details: Detail[] = [];
  if (fields["row"] !== undefined) details.push({ key: "activity.row", values: { row: Number(fields["row"]) } });
  const [before, after] = [fields["eval_loss_before"], fields["eval_loss_after"]];
  if (before !== undefined && after !== undefined) {
    details.push({ key: "activity.loss", values: { before: written.number(Number(before)), after: written.number(Number(after)) } });
  }
  if (fields["gap_seconds"] !== undefined) {
    details.push({ key: "activity.gap", values: { gap: written.duration(Number(fields["gap_seconds"])) } });
  }
  if (type === "BudgetThresholdReached") {
    const [spent, budget] = [Number(fields["spent_usd"] ?? 0), Number(fields["budget_usd"] ?? 0)];
    details.push({ key: "activity.ofBudget", values: { spent: written.money(spent), budget: written.money(budget) } });
  }
  if (fields["burn_rate"] !== undefined) {
    details.push({ key: "activity.burn", values: { rate: written.number(Number(fields["burn_rate"])) } });
  }
  const said = fields["detail"] ?? fields["explanation"];
  const words = said === undefined ? ["column", "reason", "advice", "rule"] : [];
  for (const word of words) if (fields[word] !== undefined) details.push(String(fields[word]));
  if (said !== undefined) details.push(String(said));
  return details;
}
