import { Link } from "react-router";

import { usePreferences } from "../../app/preferences";
import { TimeAgo } from "../../components/Figures";
import { number, percent } from "../../i18n/figures";
import type { TimelineEntry } from "./documents";
import { signalWords } from "./index";
import { useMonitoringText } from "./text";

const TONES: Record<string, string> = {
  drift: "bad", suggested: "wait", requested: "busy", "job-submitted": "busy", "job-succeeded": "good", "job-failed": "bad", trained: "good",
  canary: "busy", promoted: "good", "rolled-back": "bad", declined: "off", "job-cancelled": "off",
};

/** The loop: drift, suggestion, decision, job, evaluation, canary, promotion; newest first. */
export function Timeline({ entries }: { entries: TimelineEntry[] }) {
  const t = useMonitoringText();
  if (entries.length === 0) return <p className="sk-muted">{t("timeline.empty")}</p>;
  return (
    // What scrolls is reached by the keyboard.
    // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex
    <ol className="sk-monitoring-timeline" tabIndex={0}>
      {entries.map((entry, index) => (
        <li key={`${entry.at} ${entry.kind} ${index}`} data-tone={TONES[entry.kind] ?? "off"}>
          <span className="sk-monitoring-dot" aria-hidden="true" />
          <div>
            <strong>{titleOf(entry, t)}</strong> <TimeAgo at={entry.at} />
            <Detail entry={entry} />
          </div>
        </li>
      ))}
    </ol>
  );
}

type Words = ReturnType<typeof useMonitoringText>;

function titleOf(entry: TimelineEntry, t: Words): string {
  const { kind } = entry;
  if (kind === "drift") return t("timeline.drift", { signal: signalWords(String(entry["signal"]), t) });
  if (kind === "decided") return t(entry["approved"] === true ? "timeline.approved" : "timeline.refused");
  const key = `timeline.${kind}` as Parameters<Words>[0];
  const words = t(key, { version: Number(entry["version"] ?? 0) });
  return words === key ? kind : words;
}

function Detail({ entry }: { entry: TimelineEntry }) {
  const t = useMonitoringText();
  const { locale } = usePreferences();
  const text = (name: string) => (typeof entry[name] === "string" ? entry[name] : "");
  const lines: string[] = [];
  if (entry.kind === "canary") lines.push(t("timeline.share", { percent: percent(Number(entry["traffic_fraction"]), locale) }));
  if (entry.kind === "evaluated") {
    lines.push(
      t("timeline.measured", {
        metric: text("metric"),
        value: number(Number(entry["value"]), locale),
        champion: number(Number(entry["champion_value"]), locale),
        count: Number(entry["sample_size"]),
      }),
    );
  }
  if (entry.kind === "decided") lines.push(t("timeline.by", { who: text("decided_by") }));
  if (entry.kind === "policy-set") lines.push(t(`policy.${entry["mode"] as "suggest" | "approve" | "auto"}.detail`));
  const told = [...lines, text("explanation") || text("detail") || (entry.kind === "requested" ? "" : text("reason"))].filter(Boolean).join(" ");
  return (
    <>
      {told !== "" && <p>{told}</p>}
      {entry.job_id !== null && <Link to={`/jobs/${entry.job_id}`}>{t("timeline.job")}</Link>}
    </>
  );
}
