import { useQuery } from "@tanstack/react-query";
import { Button } from "antd";
import type { ReactNode } from "react";
import { Link } from "react-router";

import { send } from "../../api/client";
import type { Listing } from "../../api/documents";
import { keys } from "../../api/keys";
import { useMay } from "../../api/session";
import { useRefreshOn } from "../../api/useEvents";
import { usePreferences } from "../../app/preferences";
import { Duration, Money } from "../../components/Figures";
import { number, percent } from "../../i18n/figures";
import type { Model } from "../train/documents";
import { hasEnded, type Job } from "./documents";
import { useJobsText } from "./text";
import { WaitingNotice } from "./waiting";

/** The state of things: what it waits for, how it ended, and the figures that matter. */
export function JobHead({ job }: { job: Job }) {
  const t = useJobsText();
  return (
    <>
      {job.waiting !== null && <WaitingNotice waiting={job.waiting} />}
      {job.state === "failed" && job.end !== null && (
        <div className="sk-jobs-failed" role="alert">
          <strong>{t("failed.because", { reason: reasonOf(job, t) })}</strong>
          {lastDetail(job) && <p>{lastDetail(job)}</p>}
          {job.end.advice && <p>{job.end.advice}</p>}
        </div>
      )}
      {job.state === "succeeded" && <NextSteps job={job} />}
      <Figures job={job} />
    </>
  );
}

function lastDetail(job: Job): string {
  return job.attempts.at(-1)?.detail ?? "";
}

const REASONS = ["no-capacity", "out-of-memory", "nan-loss", "dataset", "user-error", "budget-exhausted", "hung", "never-started", "error", "machine-lost", "spot-interrupted"];

function reasonOf(job: Job, t: ReturnType<typeof useJobsText>): string {
  const reason = job.end?.reason ?? "";
  return REASONS.includes(reason) ? t(`reason.${reason}` as "reason.error") : reason;
}

interface Served {
  id: string;
  name: string;
  model: string;
  state: string;
}

/** The version that came of it, and what to do with it: deploy it, or chat where it is deployed. */
function NextSteps({ job }: { job: Job }) {
  const t = useJobsText();
  const mayInfer = useMay("infer");
  const mayWrite = useMay("write");
  const models = useQuery({
    queryKey: [...keys.models, "of", job.id],
    queryFn: ({ signal }) => send<Listing<Model & { job_id: string | null }>>("GET", "/v1/models", { query: { limit: 200 }, signal }),
  });
  const made = models.data?.data.find((model) => model.job_id === job.id);
  const endpoints = useQuery({
    queryKey: [...keys.endpoints, "of", job.id],
    queryFn: ({ signal }) => send<Listing<Served>>("GET", "/v1/endpoints", { query: { limit: 100 }, signal }),
    enabled: made !== undefined,
  });
  useRefreshOn({ types: ["ModelVersionReady"] }, keys.models);
  useRefreshOn({ types: ["EndpointReady", "EndpointDeleted"] }, [...keys.endpoints, "of"]);
  if (made === undefined) return null;
  const served = endpoints.data?.data.find((endpoint) => endpoint.model === made.id && endpoint.state === "ready");
  return (
    <div className="sk-jobs-next">
      <div>
        <strong>{t("next.title", { model: made.id })}</strong>
        <p>{served === undefined ? t("next.detail") : t("next.served", { endpoint: served.name })}</p>
      </div>
      <span>
        {served !== undefined && mayInfer && (
          <Link to={`/endpoints/${served.id}`}>
            <Button type="primary" tabIndex={-1}>
              {t("next.chat")}
            </Button>
          </Link>
        )}
        {mayWrite && (
          <Link to={`/endpoints?model=${encodeURIComponent(made.id)}`}>
            <Button type={served === undefined ? "primary" : "default"} tabIndex={-1}>
              {t("next.deploy")}
            </Button>
          </Link>
        )}
      </span>
    </div>
  );
}

function Figures({ job }: { job: Job }) {
  const t = useJobsText();
  const { locale } = usePreferences();
  const { progress } = job;
  const ended = hasEnded(job.state);
  const share = progress && progress.total_steps > 0 ? progress.step / progress.total_steps : null;
  const saved = job.on_demand_usd > 0 ? 1 - job.spent_usd / job.on_demand_usd : null;
  const evaluated = job.end?.eval_loss_after ?? null;
  const interruptions = job.receipt?.interruptions ?? job.attempts.filter((attempt) => ["lost", "drained"].includes(attempt.outcome)).length;
  const rows: [string, ReactNode, ReactNode][] = [
    [
      t("figure.progress"),
      share === null ? "–" : percent(share, locale),
      progress === null ? null : (
        <>
          {t("progress.steps", { step: progress.step, total: progress.total_steps })}
          {!ended && ` · ${phaseOf(progress.phase, t)}`}
        </>
      ),
    ],
    ended
      ? [t("figure.loss"), evaluated === null ? "–" : number(evaluated, locale), job.end?.eval_loss_before ? t("figure.lossBefore", { loss: number(job.end.eval_loss_before, locale) }) : null]
      : [t("figure.eta"), <Duration key="eta" seconds={progress?.eta_seconds} />, progress?.step_seconds ? t("figure.stepTime", { seconds: number(progress.step_seconds, locale, 3) }) : null],
    [
      t("figure.throughput"),
      progress?.tokens_per_second ? number(progress.tokens_per_second, locale, 3) : "–",
      job.placement && t("figure.tokens", { machine: job.attempts.at(-1)?.placement?.instance_type ?? job.placement.placement.instance_type }),
    ],
    [
      t("figure.spent"),
      <Money key="spent" usd={job.spent_usd} />,
      job.budget_usd === null ? (
        t("figure.noBudget")
      ) : (
        <>
          {t("ofBudget")} <Money usd={job.budget_usd} />
        </>
      ),
    ],
    [
      t("figure.saved"),
      saved === null || saved <= 0 ? "–" : percent(saved, locale),
      job.on_demand_usd > 0 ? (
        <>
          <Money usd={job.on_demand_usd} /> {t("figure.onDemand")}
        </>
      ) : null,
    ],
    [t("figure.attempts"), number(job.attempt, locale), t("figure.interruptions", { count: interruptions })],
  ];
  return (
    <div>
      <dl className="sk-jobs-figures">
        {rows.map(([name, value, detail]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
            <dd className="sk-hint">{detail}</dd>
          </div>
        ))}
      </dl>
      {share !== null && !ended && (
        <div className="sk-jobs-bar sk-jobs-bar-wide" aria-hidden="true">
          <span style={{ width: `${share * 100}%` }} />
        </div>
      )}
    </div>
  );
}

const PHASES = ["starting", "standing-by", "evaluating", "training", "saving", "publishing"];

export function phaseOf(phase: string, t: ReturnType<typeof useJobsText>): string {
  return PHASES.includes(phase) ? t(`phase.${phase}` as "phase.training") : phase;
}
