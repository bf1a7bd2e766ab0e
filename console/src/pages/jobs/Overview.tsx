import { useMemo } from "react";

import { usePreferences } from "../../app/preferences";
import { Bytes, Duration, TimeAgo } from "../../components/Figures";
import { LineChart, type Series } from "../../components/LineChart";
import { Section } from "../../components/Page";
import { number } from "../../i18n/figures";
import type { Checkpoint, Job } from "./documents";
import { ReceiptView } from "./ReceiptView";
import { useJobsText } from "./text";
import { TimelineSection } from "./TimelineSection";
import { useThroughput } from "./useThroughput";

/** How it learns, where it ran, what it saved and what it cost. */
export function Overview({ job }: { job: Job }) {
  const t = useJobsText();
  return (
    <>
      <div className="sk-grid">
        <Section title={t("loss.title")}>
          <LossChart job={job} />
        </Section>
        <Section title={t("throughput.title")}>
          <ThroughputChart job={job} />
        </Section>
      </div>
      <TimelineSection job={job} />
      {job.receipt !== null && (
        <Section title={t("receipt.title")}>
          <ReceiptView receipt={job.receipt} />
        </Section>
      )}
      {job.checkpoints.length > 0 && (
        <Section title={t("checkpoints.title")}>
          <Checkpoints checkpoints={job.checkpoints} />
        </Section>
      )}
    </>
  );
}

function LossChart({ job }: { job: Job }) {
  const t = useJobsText();
  const { losses, end } = job;
  const { x, series } = useMemo(() => {
    const byStep = new Map<number, [number | null, number | null]>();
    for (const [step, loss] of losses) byStep.set(step, [loss, null]);
    const evaluate = (step: number, loss: number | null | undefined) => {
      if (loss !== null && loss !== undefined) byStep.set(step, [byStep.get(step)?.[0] ?? null, loss]);
    };
    evaluate(0, end?.eval_loss_before);
    evaluate(end?.steps ?? 0, end?.eval_loss_after);
    const steps = [...byStep.keys()].sort((a, b) => a - b);
    const lines: Series[] = [{ label: t("loss.training"), values: steps.map((step) => byStep.get(step)?.[0] ?? null) }];
    if (end?.eval_loss_after) lines.push({ label: t("loss.evaluation"), values: steps.map((step) => byStep.get(step)?.[1] ?? null), dashed: true });
    return { x: steps, series: lines };
  }, [losses, end, t]);
  return <LineChart title={t("loss.title")} x={x} xLabel={t("step")} series={series} />;
}

function ThroughputChart({ job }: { job: Job }) {
  const t = useJobsText();
  const { locale } = usePreferences();
  const points = useThroughput(job);
  const { x, series } = useMemo(
    () => ({
      x: points.map(([step]) => step),
      series: [{ label: t("throughput.tokens"), values: points.map(([, tokens]) => tokens), filled: true }],
    }),
    [points, t],
  );
  const format = useMemo(() => (value: number) => number(value, locale, 3), [locale]);
  return <LineChart title={t("throughput.title")} x={x} xLabel={t("step")} series={series} format={format} />;
}

function Checkpoints({ checkpoints }: { checkpoints: Checkpoint[] }) {
  const t = useJobsText();
  const { locale } = usePreferences();
  return (
    // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex
    <div className="sk-jobs-table" role="group" aria-label={t("checkpoints.title")} tabIndex={0}>
      <table>
        <thead>
          <tr>
            {(["step", "attempt", "cause", "size", "save", "stall", "at"] as const).map((column) => (
              <th key={column} scope="col">
                {t(`checkpoint.${column}`)}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {checkpoints.toReversed().map((one) => (
            <tr key={`${one.attempt}/${one.step}`}>
              <th scope="row">{number(one.step, locale, 12)}</th>
              <td>{one.attempt}</td>
              <td>{["interval", "notice", "final"].includes(one.cause) ? t(`cause.${one.cause}` as "cause.final") : one.cause}</td>
              <td>
                <Bytes count={one.bytes} />
              </td>
              <td>
                <Seconds value={one.save_seconds} />
              </td>
              <td>
                <Seconds value={one.stall_seconds} />
              </td>
              <td>
                <TimeAgo at={one.at} />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Seconds({ value }: { value: number | null }) {
  const { locale } = usePreferences();
  if (value === null || value >= 60) return <Duration seconds={value} />;
  return <span className="sk-figure">{number(value, locale, 2)} s</span>;
}
