import { usePreferences } from "../../app/preferences";
import { Duration } from "../../components/Figures";
import type { Timeline } from "./documents";
import { outcomeOf, useSaid } from "./said";
import { useJobsText } from "./text";
import { useRule } from "./waiting";

/** The same as the picture in rows: everything that happened, in its order. */
export function TimelineTable({ timeline }: { timeline: Timeline }) {
  const t = useJobsText();
  const rule = useRule();
  const said = useSaid();
  const { locale } = usePreferences();
  const began = Date.parse(timeline.from);
  const rows = [
    ...timeline.attempts.map((attempt) => ({
      at: attempt.started_at,
      what: t("attempt.of", { number: attempt.number }),
      detail: `${attempt.placement.instance_type} ${attempt.placement.capacity_type}, ${t("attempt.steps", { from: attempt.from_step, to: attempt.to_step })}, ${outcomeOf(attempt.outcome, attempt.reason, t)}`,
    })),
    ...timeline.waits.map((wait) => ({ at: wait.from, what: t("waits"), detail: `${rule(wait.rule)} ${wait.detail}` })),
    ...timeline.events.map((event) => ({ at: event.at, what: t(`event.${event.kind}` as "event.plan"), detail: said(event) })),
  ].sort((a, b) => a.at.localeCompare(b.at));
  const time = new Intl.DateTimeFormat(locale, { dateStyle: "short", timeStyle: "medium" });
  return (
    // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex
    <div className="sk-jobs-table sk-jobs-scroll" role="group" aria-label={t("timeline.title")} tabIndex={0}>
      <table>
        <thead>
          <tr>
            <th scope="col">{t("timeline.at")}</th>
            <th scope="col">{t("timeline.after")}</th>
            <th scope="col">{t("timeline.what")}</th>
            <th scope="col">{t("timeline.detail")}</th>
          </tr>
        </thead>
        <tbody>
          {rows.map((row, index) => (
            <tr key={index}>
              <td>{time.format(new Date(row.at))}</td>
              <td>
                <Duration seconds={(Date.parse(row.at) - began) / 1000} />
              </td>
              <th scope="row">{row.what}</th>
              <td>{row.detail}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
