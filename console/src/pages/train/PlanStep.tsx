import { Button } from "antd";
import { useState } from "react";
import { Link } from "react-router";

import { usePreferences } from "../../app/preferences";
import { CodeBlock } from "../../components/CodeBlock";
import { ErrorState } from "../../components/ErrorState";
import { useDuration } from "../../components/Figures";
import { Section } from "../../components/Page";
import { money } from "../../i18n/figures";
import { useWizard } from "./context";
import { type Draft, type JobFile, jobFile, stepOf } from "./draft";
import { PlanView } from "./PlanView";
import { type Objective, OBJECTIVES } from "./settings";
import { useTrainText } from "./text";
import { type DryRun, usePlan } from "./usePlan";
import { command, yaml } from "./yaml";

/** What it would run on and cost, before anything is spent. */
export function PlanStep({ dryRun, file }: { dryRun: DryRun; file: JobFile }) {
  const t = useTrainText();
  const { problems } = useWizard();
  const hasProblems = Object.keys(problems).length > 0;
  return (
    <>
      {hasProblems && <Problems />}
      <Section title={t("plan.title")} actions={dryRun.plan && <Button onClick={dryRun.again}>{t("plan.again")}</Button>}>
        {dryRun.isPlanning && <Planning />}
        {dryRun.plan?.status === "proposed" && <PlanView key={dryRun.plan.id} plan={dryRun.plan} />}
        {dryRun.plan?.status === "refused" && (
          <div className="sk-train-refused" role="alert">
            <h3>{t(dryRun.plan.reason === "model" ? "plan.refusedModel" : "plan.refused")}</h3>
            <p>{dryRun.plan.detail}</p>
            {dryRun.plan.advice && <p>{dryRun.plan.advice}</p>}
            {dryRun.plan.reason !== "model" && <Link to="?step=goal">{t("plan.changeGoal")}</Link>}
          </div>
        )}
        {dryRun.error !== null && !hasProblems && <ErrorState error={dryRun.error} onRetry={dryRun.again} />}
        {dryRun.error !== null && hasProblems && <p className="sk-hint">{t("plan.mend")}</p>}
      </Section>
      {dryRun.plan !== undefined && <Compare />}
      <Section title={t("file.title")}>
        <details className="sk-train-folded">
          <summary>{t("file.show")}</summary>
          <File file={file} />
        </details>
      </Section>
    </>
  );
}

function Planning() {
  const t = useTrainText();
  return (
    <div className="sk-train-planning" role="status">
      <svg width="120" height="56" viewBox="0 0 120 56" aria-hidden="true">
        <path d="M4 8c14 26 40 38 112 42" />
        <circle cx="14" cy="22" r="4" />
        <circle cx="38" cy="39" r="4" />
        <circle cx="78" cy="47" r="4" />
      </svg>
      <p>{t("plan.planning")}</p>
    </div>
  );
}

function Problems() {
  const t = useTrainText();
  const { problems } = useWizard();
  return (
    <div className="sk-train-refused" role="alert">
      <h2>{t("problems.title")}</h2>
      <ul>
        {Object.entries(problems).map(([field, message]) => (
          <li key={field}>
            <code className="sk-code-inline">{field}</code> {message}{" "}
            <Link to={`?step=${stepOf(field)}`}>{t("problems.go", { step: t(`step.${stepOf(field)}`) })}</Link>
          </li>
        ))}
      </ul>
    </div>
  );
}

/** The same job planned for the other goals. */
function Compare() {
  const t = useTrainText();
  const { draft } = useWizard();
  const [shown, setShown] = useState(false);
  const others = OBJECTIVES.filter(
    (one) =>
      (one !== "cheapest-within-deadline" || draft.deadlineIs !== "none") && (one !== "fastest-within-budget" || Boolean(draft.numbers.budget)),
  );
  return (
    <Section title={t("compare.title")} actions={!shown && <Button onClick={() => setShown(true)}>{t("compare.start")}</Button>}>
      <p className="sk-hint">{t("compare.lead")}</p>
      {shown && (
        // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex
        <div className="sk-train-table sk-train-after" role="group" aria-label={t("compare.title")} tabIndex={0}>
          <table>
            <thead>
              <tr>
                <th scope="col">{t("step.goal")}</th>
                <th scope="col">{t("plan.instance")}</th>
                <th scope="col" className="sk-train-right">{t("plan.time")}</th>
                <th scope="col" className="sk-train-right">{t("plan.total")}</th>
                <th scope="col">
                  <span className="sk-hidden">{t("compare.use")}</span>
                </th>
              </tr>
            </thead>
            <tbody>
              {others.map((objective) => (
                <Compared key={objective} objective={objective} draft={draft} />
              ))}
            </tbody>
          </table>
        </div>
      )}
    </Section>
  );
}

function Compared({ objective, draft }: { objective: Objective; draft: Draft }) {
  const t = useTrainText();
  const { locale } = usePreferences();
  const duration = useDuration();
  const { change } = useWizard();
  const { plan, isPlanning } = usePlan(jobFile({ ...draft, objective }), true);
  const best = plan?.candidates?.[0];
  const isCurrent = objective === draft.objective;
  return (
    <tr data-chosen={isCurrent}>
      <th scope="row">{t(`objective.${objective}`)}</th>
      {best ? (
        <>
          <td>
            {best.placement.instance_type} · {t(`capacity.${best.placement.capacity_type}` as "capacity.spot")}
          </td>
          <td className="sk-train-right">{best.hours?.expected ? duration(best.hours.expected * 3600) : "–"}</td>
          <td className="sk-train-right">{best.total_usd?.expected ? money(best.total_usd.expected, locale) : "–"}</td>
        </>
      ) : (
        <td colSpan={3}>{isPlanning ? t("plan.planningShort") : (plan?.detail ?? t("plan.none"))}</td>
      )}
      <td>
        {isCurrent ? (
          <span className="sk-hint">{t("compare.current")}</span>
        ) : (
          <Button size="small" disabled={best === undefined} onClick={() => change({ objective })}>
            {t("compare.use")}
          </Button>
        )}
      </td>
    </tr>
  );
}

function File({ file }: { file: JobFile }) {
  const t = useTrainText();
  const flags = command(file);
  return (
    <div className="sk-train-file">
      <CodeBlock code={yaml(file)} label="job.yaml" />
      <CodeBlock code={"sskai plan job.yaml\nsskai jobs submit job.yaml --follow"} label={t("file.command")} />
      {flags !== null && (
        <>
          <p className="sk-hint">{t("file.flags")}</p>
          <CodeBlock code={`${flags} \\\n  --follow`} label={t("file.flagsLabel")} />
        </>
      )}
    </div>
  );
}
