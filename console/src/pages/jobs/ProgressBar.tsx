import { useDuration } from "../../components/Figures";
import type { JobSummary } from "./documents";
import { hasEnded } from "./documents";
import { useJobsText } from "./text";

/** How far a job is: a bar, steps, and how long it will take. */
export function ProgressBar({ job }: { job: Pick<JobSummary, "name" | "state" | "progress"> }) {
  const t = useJobsText();
  const duration = useDuration();
  const { progress } = job;
  if (progress === null || progress.total_steps === 0) return <span className="sk-hint">–</span>;
  const share = Math.min(1, progress.step / progress.total_steps);
  const eta = !hasEnded(job.state) && progress.eta_seconds !== null ? t("progress.left", { time: duration(progress.eta_seconds) }) : null;
  return (
    <div className="sk-jobs-progress" data-state={job.state}>
      <div
        className="sk-jobs-bar"
        role="progressbar"
        aria-label={t("progress.of", { name: job.name })}
        aria-valuemin={0}
        aria-valuemax={progress.total_steps}
        aria-valuenow={progress.step}
      >
        <span style={{ width: `${share * 100}%` }} />
      </div>
      <span>
        {t("progress.steps", { step: progress.step, total: progress.total_steps })}
        {eta !== null && ` · ${eta}`}
      </span>
    </div>
  );
}
