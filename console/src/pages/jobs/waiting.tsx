import { usePreferences } from "../../app/preferences";
import { dateTime } from "../../i18n/figures";
import type { Waiting } from "./documents";
import { useJobsText } from "./text";

const RULES = ["no-plan", "no-capacity", "waiting-for-spot", "quota", "priority", "fair-share", "budget", "tenant-budget", "reserve", "backoff"];

/** Why a job waits, in a few words. */
export function useRule(): (rule: string) => string {
  const t = useJobsText();
  return (rule) => (RULES.includes(rule) ? t(`rule.${rule}` as "rule.quota") : t("rule.other", { rule }));
}

/** What holds the job, since when, and until when as far as anybody can say. */
export function WaitingNotice({ waiting }: { waiting: Waiting }) {
  const t = useJobsText();
  const rule = useRule();
  const { locale } = usePreferences();
  const told = (at: string) => dateTime(new Date(at), locale);
  const start =
    waiting.earliest_start && waiting.latest_start
      ? t("waiting.between", { earliest: told(waiting.earliest_start), latest: told(waiting.latest_start) })
      : t("waiting.unknown");
  return (
    <div className="sk-notice" role="status">
      <strong>{rule(waiting.rule)}</strong>
      {waiting.detail && <>: {waiting.detail}</>}
      <p className="sk-hint">
        {waiting.since !== null && `${t("waiting.since", { at: told(waiting.since) })} `}
        {start}
        {waiting.position > 0 && ` ${t("waiting.position", { position: waiting.position })}`}
        {waiting.expected_start && ` ${t("waiting.expected", { at: told(waiting.expected_start) })}`}
      </p>
    </div>
  );
}
