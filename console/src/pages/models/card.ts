/** A model's facts: what the page shows, and the same as Markdown. Pure. */

import type { Values } from "../../i18n/text";
import type en from "../../locales/en/models";
import type { Model } from "./documents";
import type { Making } from "./queries";

export interface Fact {
  label: string;
  value: string;
  link?: string;
}

export interface Words {
  t: (key: keyof typeof en, values?: Values) => string;
  task: (task: string) => string;
  money: (usd: number) => string;
  percent: (fraction: number) => string;
  number: (value: number) => string;
  compact: (value: number) => string;
  bytes: (count: number) => string;
  duration: (seconds: number) => string;
  dateTime: (at: string) => string;
}

export function factsOf(model: Model, base: Model | undefined, making: Making | undefined, words: Words): Fact[] {
  const { t } = words;
  const facts: Fact[] = [];
  const add = (key: keyof typeof en, value: string | null, link?: string) => {
    if (value !== null) facts.push({ label: t(key), value, ...(link !== undefined && { link }) });
  };
  const task = model.task ?? base?.task ?? null;
  const parameters = model.parameters ?? base?.parameters ?? null;
  const context = model.context_tokens ?? base?.context_tokens ?? null;
  const licence = model.licence ?? base?.licence ?? null;
  add("card.model", model.id);
  add("card.origin", t(`origin.${model.origin}`));
  add("card.task", task && words.task(task));
  add("card.base", model.parent, model.parent === null ? undefined : `/models/${model.parent.replace(/@.*/, "")}`);
  add(model.origin === "builtin" ? "card.licenceOwn" : "card.licence", licence);
  add("card.method", model.method);
  add("card.parameters", parameters === null ? null : words.compact(parameters));
  add("card.context", context === null ? null : t("card.tokens", { count: context }));
  add("card.size", model.bytes === null ? null : words.bytes(model.bytes));
  if (model.origin !== "builtin") add("card.created", words.dateTime(model.created_at));
  if (making !== undefined) for (const fact of factsOfMaking(making, words)) facts.push(fact);
  const { eval_loss_before: before, eval_loss_after: after } = model;
  if (before !== null && after !== null) add("card.loss", t("card.lossValue", { before: words.number(before), after: words.number(after) }));
  return facts;
}

function factsOfMaking({ job, dataset, receipt }: Making, words: Words): Fact[] {
  const { t } = words;
  const facts: Fact[] = [{ label: t("card.job"), value: `${job.name} (${job.id})`, link: `/jobs/${job.id}` }];
  if (dataset !== null) {
    const reference = `${dataset.name}@${dataset.version}`;
    facts.push({
      label: t("card.dataset"),
      value: t("card.rows", { reference, rows: dataset.rows, format: dataset.format }),
      link: `/data/${dataset.name}?version=${dataset.version}`,
    });
    const { lineage } = dataset;
    const told = lineage ? t("card.cut", { parent: lineage.parent_version, endpoint: lineage.endpoint_id }) : t("card.uploaded");
    facts.push({ label: t("card.lineage"), value: told });
  } else if (job.dataset !== null) facts.push({ label: t("card.dataset"), value: job.dataset });
  if (receipt !== null) {
    const { paid_usd: paid, on_demand_usd: onDemand, saving_fraction: saved } = receipt;
    const values = { paid: words.money(paid), onDemand: words.money(onDemand), saved: words.percent(saved) };
    facts.push({ label: t("card.cost"), value: t("card.costValue", values), link: `/costs/receipts/${job.id}` });
    const { elapsed_seconds: elapsed, interruptions } = receipt;
    facts.push({ label: t("card.time"), value: t("card.timeValue", { elapsed: words.duration(elapsed), interruptions }) });
  }
  return facts;
}

export function markdownOf(model: Model, facts: Fact[]): string {
  const cell = (text: string) => text.replaceAll("|", "\\|");
  return [`# ${model.id}`, "", "| | |", "|---|---|", ...facts.map(({ label, value }) => `| ${cell(label)} | ${cell(value)} |`), ""].join("\n");
}
