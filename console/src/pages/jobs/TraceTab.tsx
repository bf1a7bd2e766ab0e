import { useQuery } from "@tanstack/react-query";
import { Button } from "antd";
import { type CSSProperties, useMemo, useState } from "react";

import { send } from "../../api/client";
import { ProblemError } from "../../api/problem";
import { useRefreshOn } from "../../api/useEvents";
import { usePreferences } from "../../app/preferences";
import { EmptyState } from "../../components/EmptyState";
import { Icon } from "../../components/icons";
import { Section } from "../../components/Page";
import { QueryState } from "../../components/QueryState";
import { number } from "../../i18n/figures";
import type { Job, Trace } from "./documents";
import { useJobsText } from "./text";
import { foldedFirst, rowsOf } from "./traceTree";

const OPEN_DEPTH = 3;
const SHOWN = 200;
const COLORS = ["chart-1", "chart-2", "chart-3", "chart-4", "chart-5", "line-strong"];

/** What the services did for this job, from the request to its end. */
export function TraceTab({ job }: { job: Job }) {
  const t = useJobsText();
  const key = ["traces", job.id];
  const trace = useQuery({
    queryKey: key,
    queryFn: ({ signal }) => send<Trace>("GET", `/v1/jobs/${job.id}/trace`, { signal }),
    retry: false,
  });
  useRefreshOn({ types: ["JobSucceeded", "JobFailed", "JobCancelled", "AttemptStarted"], subject: job.id }, key);
  const isMissing = trace.error instanceof ProblemError && trace.error.status === 404;
  return (
    <Section title={t("tab.trace")} actions={<Button onClick={() => void trace.refetch()}>{t("trace.again")}</Button>}>
      {isMissing ? (
        <EmptyState title={t("trace.none")} detail={t("trace.noneDetail")} />
      ) : (
        <QueryState query={trace} rows={8}>
          {(data) => <Waterfall key={data.trace_id} trace={data} />}
        </QueryState>
      )}
    </Section>
  );
}

function Waterfall({ trace }: { trace: Trace }) {
  const t = useJobsText();
  const { locale } = usePreferences();
  const [folded, setFolded] = useState(() => foldedFirst(trace.spans, OPEN_DEPTH));
  const [filter, setFilter] = useState("");
  const [onlyFailed, setOnlyFailed] = useState(false);
  const [all, setAll] = useState(false);
  const [open, setOpen] = useState<string | null>(null);
  const rows = useMemo(() => {
    const text = filter.trim().toLowerCase();
    const isFiltered = text !== "" || onlyFailed;
    return rowsOf(
      trace.spans,
      isFiltered ? new Set() : folded,
      (span) => (!onlyFailed || span.failed) && (text === "" || `${span.service} ${span.name}`.toLowerCase().includes(text)),
    );
  }, [trace, folded, filter, onlyFailed]);
  const whole = trace.duration_seconds || 1;
  const toggle = (id: string) =>
    setFolded((old) => {
      const next = new Set(old);
      if (!next.delete(id)) next.add(id);
      return next;
    });
  const seconds = (value: number) => (value < 1 ? `${number(value * 1000, locale, 3)} ms` : `${number(value, locale, 3)} s`);
  const colorOf = (service: string) => `var(--sk-${COLORS[Math.max(0, trace.services.indexOf(service)) % COLORS.length]})`;
  return (
    <>
      <div className="sk-jobs-tools sk-jobs-trace-tools">
        <input className="sk-input" type="search" aria-label={t("trace.filter")} placeholder={t("trace.filter")} value={filter} onChange={(event) => setFilter(event.target.value)} />
        <label>
          <input type="checkbox" checked={onlyFailed} onChange={(event) => setOnlyFailed(event.target.checked)} /> {t("trace.failed")}
        </label>
        <span className="sk-jobs-legend">
          {trace.services.map((service) => (
            <span key={service}>
              <i data-key="line" style={{ background: colorOf(service) }} /> {service}
            </span>
          ))}
        </span>
      </div>
      <p className="sk-hint">
        {t("trace.summary", { spans: trace.spans.length, time: seconds(trace.duration_seconds) })} <code>{trace.trace_id}</code>
      </p>
      {/* A region that scrolls is reached by the keyboard. */}
      {/* eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex */}
      <div className="sk-jobs-table sk-jobs-trace" role="group" aria-label={t("tab.trace")} tabIndex={0}>
        <table>
          <thead>
            <tr>
              <th scope="col">{t("trace.span")}</th>
              <th scope="col">{t("trace.service")}</th>
              <th scope="col">{t("trace.duration")}</th>
              <th scope="col">{t("trace.when")}</th>
            </tr>
          </thead>
          <tbody>
            {rows.slice(0, all ? undefined : SHOWN).map(({ span, children }) => (
              <tr key={span.span_id} data-failed={span.failed}>
                <th scope="row" style={{ "--depth": Math.min(span.depth, 8) } as CSSProperties}>
                  {children > 0 ? (
                    <button type="button" aria-expanded={!folded.has(span.span_id)} aria-label={t("trace.within", { name: span.name, count: children })} onClick={() => toggle(span.span_id)}>
                      <Icon name="chevron" size={14} />
                    </button>
                  ) : (
                    <span className="sk-jobs-leaf" />
                  )}
                  <button type="button" className="sk-jobs-span" aria-expanded={open === span.span_id} onClick={() => setOpen(open === span.span_id ? null : span.span_id)}>
                    {span.name}
                  </button>
                  {span.failed && <span className="sk-jobs-failed-mark">{span.status_message || t("trace.failedShort")}</span>}
                  {open === span.span_id && <Attributes attributes={span.attributes} />}
                </th>
                <td>{span.service}</td>
                <td className="sk-figure">{seconds(span.duration_seconds)}</td>
                <td>
                  <span className="sk-jobs-waterfall" title={`+${seconds(span.start_offset_seconds)}`}>
                    <span
                      style={{
                        left: `${Math.min(99.5, (100 * Math.max(0, span.start_offset_seconds)) / whole)}%`,
                        width: `${Math.min(100, (100 * span.duration_seconds) / whole)}%`,
                        background: colorOf(span.service),
                      }}
                    />
                  </span>
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {rows.length === 0 && <p className="sk-hint">{t("trace.noMatch")}</p>}
      {!all && rows.length > SHOWN && (
        <Button type="link" onClick={() => setAll(true)}>
          {t("showAll", { count: rows.length })}
        </Button>
      )}
    </>
  );
}

function Attributes({ attributes }: { attributes: Record<string, unknown> }) {
  return (
    <dl className="sk-jobs-attributes">
      {Object.entries(attributes).map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{typeof value === "object" ? JSON.stringify(value) : String(value)}</dd>
        </div>
      ))}
    </dl>
  );
}
