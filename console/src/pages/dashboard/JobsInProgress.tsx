import { Link } from "react-router";

import { usePreferences } from "../../app/preferences";
import { useDuration } from "../../components/Figures";
import { Section } from "../../components/Page";
import { StateTag } from "../../components/StateTag";
import { money, number } from "../../i18n/figures";
import en from "../../locales/en/dashboard";
import type { JobInProgress } from "./documents";
import { useDashboardText } from "./text";

export function JobsInProgress({ jobs }: { jobs: JobInProgress[] }) {
  const t = useDashboardText();
  return (
    <Section title={t("jobs.title")} actions={<Link to="/jobs">{t("jobs.all")}</Link>}>
      {jobs.length === 0 ? (
        <p className="sk-muted">{t("jobs.none")}</p>
      ) : (
        <ul className="sk-dashboard-jobs" role="list">
          {jobs.map((job) => (
            <Item key={job.id} job={job} />
          ))}
        </ul>
      )}
    </Section>
  );
}

function Item({ job }: { job: JobInProgress }) {
  const t = useDashboardText();
  const { locale } = usePreferences();
  const duration = useDuration();
  const { progress, waiting } = job;
  const share = progress && progress.total_steps > 0 ? progress.step / progress.total_steps : 0;
  const spent = money(job.spent_usd, locale);
  const facts = [
    progress && progress.total_steps > 0 ? t("jobs.steps", { step: progress.step, total: progress.total_steps }) : null,
    progress ? phase(progress.phase, t) : null,
    typeof progress?.loss !== "number" ? null : t("jobs.loss", { loss: number(progress.loss, locale) }),
    job.attempt > 1 ? t("jobs.attempt", { attempt: job.attempt }) : null,
  ].filter((fact) => fact !== null);
  return (
    <li>
      <div className="sk-row">
        <Link to={`/jobs/${job.id}`} className="sk-dashboard-name">
          {job.name}
        </Link>
        <StateTag state={job.state} />
        <span className="sk-muted sk-dashboard-model">{job.model}</span>
        <span className="sk-dashboard-eta">
          {typeof progress?.eta_seconds === "number" && job.state === "running" ? t("jobs.left", { time: duration(progress.eta_seconds) }) : ""}
        </span>
      </div>
      <div
        className="sk-bar"
        role="progressbar"
        aria-label={t("jobs.progress", { name: job.name })}
        aria-valuemin={0}
        aria-valuemax={100}
        aria-valuenow={Math.round(100 * share)}
      >
        <span style={{ width: `${100 * share}%` }} />
      </div>
      <div className="sk-dashboard-facts">
        <span>{waiting ? waiting.detail || waiting.rule : facts.join(" · ")}</span>
        <span className="sk-figure">
          {job.budget_usd === null ? t("jobs.spent", { spent }) : t("jobs.spentOf", { spent, budget: money(job.budget_usd, locale) })}
        </span>
      </div>
    </li>
  );
}

function phase(name: string, t: ReturnType<typeof useDashboardText>): string {
  const key = `phase.${name}`;
  return key in en ? t(key as keyof typeof en) : name;
}
