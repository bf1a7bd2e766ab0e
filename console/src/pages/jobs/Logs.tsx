import { useEffect, useId, useRef, useState } from "react";

import { CopyButton } from "../../components/CodeBlock";
import { EmptyState } from "../../components/EmptyState";
import { ErrorState } from "../../components/ErrorState";
import { Section } from "../../components/Page";
import { StateTag } from "../../components/StateTag";
import type { Job } from "./documents";
import { useJobsText } from "./text";
import { useLog } from "./useLog";

const NEAR_END_PX = 40;

/** What the job's pods print, as they print it. */
export function Logs({ job }: { job: Job }) {
  const t = useJobsText();
  const [attempt, setAttempt] = useState<number | null>(null);
  const [wraps, setWraps] = useState(true);
  const log = useLog(job.id, attempt);
  const id = useId();
  const several = new Set(log.lines.map((line) => line.attempt)).size > 1;
  const text = log.lines.map((line) => line.text).join("\n");
  return (
    <Section
      title={t("tab.logs")}
      actions={
        <div className="sk-jobs-tools">
          <StateTag state={log.state === "following" ? "running" : "off"} label={t(`log.${log.state}`)} />
          <label htmlFor={id}>{t("log.attempt")}</label>
          <select id={id} className="sk-input" value={attempt ?? ""} onChange={(event) => setAttempt(event.target.value === "" ? null : Number(event.target.value))}>
            <option value="">{t("log.newest")}</option>
            {job.attempts.toReversed().map(({ number }) => (
              <option key={number} value={number}>
                #{number}
              </option>
            ))}
          </select>
          <label>
            <input type="checkbox" checked={wraps} onChange={(event) => setWraps(event.target.checked)} /> {t("log.wrap")}
          </label>
          <CopyButton text={text} what={t("tab.logs")} />
        </div>
      }
    >
      {log.error !== null && log.error.status !== 404 && <ErrorState error={log.error} />}
      {log.error?.status === 404 && <EmptyState title={t("log.none")} detail={log.error.detail} />}
      {log.error === null && (log.lines.length > 0 || log.state === "ended" ? <Lines log={log.lines} wraps={wraps} several={several} /> : <p className="sk-hint">{t("log.waiting")}</p>)}
    </Section>
  );
}

/** Follows the end until somebody scrolls up. */
function Lines({ log, wraps, several }: { log: { attempt: number; text: string; at?: string }[]; wraps: boolean; several: boolean }) {
  const t = useJobsText();
  const holder = useRef<HTMLDivElement>(null);
  const follows = useRef(true);
  useEffect(() => {
    if (follows.current && holder.current !== null) holder.current.scrollTop = holder.current.scrollHeight;
  }, [log]);
  return (
    <div
      ref={holder}
      className="sk-jobs-log"
      data-wraps={wraps}
      role="group"
      aria-label={t("tab.logs")}
      // A region that scrolls is reached by the keyboard.
      // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex
      tabIndex={0}
      onScroll={({ currentTarget: { scrollTop, clientHeight, scrollHeight } }) => {
        follows.current = scrollHeight - scrollTop - clientHeight < NEAR_END_PX;
      }}
    >
      {log.map((line, index) => (
        <div key={index}>
          {several && line.attempt !== log[index - 1]?.attempt && <span className="sk-jobs-log-attempt">{t("attempt.of", { number: line.attempt })}</span>}
          {line.text || " "}
        </div>
      ))}
    </div>
  );
}
