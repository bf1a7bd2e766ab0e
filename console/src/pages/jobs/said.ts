import { usePreferences } from "../../app/preferences";
import { bytes, percent } from "../../i18n/figures";
import type { TimelineEvent } from "./documents";
import { useJobsText } from "./text";
import { useRule } from "./waiting";

type Text = ReturnType<typeof useJobsText>;

const OUTCOMES = ["running", "finished", "drained", "lost", "ended"];

/** How an attempt ended, with its reason. */
export function outcomeOf(outcome: string, reason: string, t: Text): string {
  const told = OUTCOMES.includes(outcome) ? t(`outcome.${outcome}` as "outcome.lost") : outcome;
  return reason && reason !== "succeeded" ? `${told} (${reason})` : told;
}

/** What an event of the timeline says beside its kind. */
export function useSaid(): (event: TimelineEvent) => string {
  const t = useJobsText();
  const rule = useRule();
  const { locale } = usePreferences();
  return (event) => {
    if (event.kind === "checkpoint") return t("said.checkpoint", { step: event.step ?? 0, size: bytes(event.bytes ?? 0, locale) });
    if (event.kind === "hold") return `${rule(event.rule ?? "")}: ${event.detail ?? ""}`;
    if (event.kind === "budget") return t("said.budget", { share: percent(event.fraction ?? 0, locale) });
    return [event.offer, event.action, event.reason, event.detail].filter(Boolean).join(", ");
  };
}
