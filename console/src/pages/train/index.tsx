import "./style.css";

import { Button } from "antd";
import { useEffect, useRef } from "react";
import { Link, useSearchParams } from "react-router";

import { useMay } from "../../api/session";
import { EmptyState } from "../../components/EmptyState";
import { ErrorLine } from "../../components/ErrorState";
import { Icon } from "../../components/icons";
import { Page } from "../../components/Page";
import { WizardContext } from "./context";
import { DataStep } from "./DataStep";
import { EMPTY, jobFile, missingBefore, type Step, STEPS } from "./draft";
import { GoalStep } from "./GoalStep";
import { MethodStep } from "./MethodStep";
import { ModelStep } from "./ModelStep";
import { PlanStep } from "./PlanStep";
import { problemsOf } from "./problems";
import { Summary } from "./Summary";
import { useTrainText } from "./text";
import { useDraft } from "./useDraft";
import { usePlan } from "./usePlan";
import { usePreselected } from "./usePreselected";
import { useSubmit } from "./useSubmit";

/** Data, model, method, goal, plan, start: each step has its address, and what was chosen survives a reload. */
export default function TrainPage() {
  const t = useTrainText();
  const mayWrite = useMay("write");
  const [draft, replace] = useDraft();
  const [query, setQuery] = useSearchParams();
  usePreselected(replace);
  const asked = STEPS.find((one) => one === query.get("step")) ?? "data";
  const missing = missingBefore(draft, asked);
  const step: Step = missing ?? asked;
  const file = jobFile(draft);
  const isComplete = missingBefore(draft, "plan") === null;
  const dryRun = usePlan(file, isComplete && step === "plan" && mayWrite);
  const submit = useSubmit();
  const isOfThisFile = JSON.stringify(submit.variables) === JSON.stringify(file);
  const submitError = isOfThisFile ? submit.error : null;
  const problems = { ...problemsOf(dryRun.error), ...problemsOf(submitError) };
  const heading = useFocusOnStep(step);

  const go = (to: Step) => setQuery({ step: to });
  const at = STEPS.indexOf(step);
  const next = STEPS[at + 1];
  const previous = STEPS[at - 1];
  const isReady = next === undefined || missingBefore(draft, next) === null;

  if (!mayWrite) {
    return (
      <Page title={t("title")} lead={t("lead")}>
        <EmptyState title={t("forbidden.title")} detail={t("forbidden.detail")} />
      </Page>
    );
  }
  return (
    <Page
      title={t("title")}
      lead={t("lead")}
      actions={
        draft !== EMPTY && (
          <Button
            type="text"
            onClick={() => {
              replace(() => EMPTY);
              go("data");
            }}
          >
            {t("startOver")}
          </Button>
        )
      }
    >
      <WizardContext value={{ draft, change: (part) => replace((old) => ({ ...old, ...part })), replace, problems, mayWrite }}>
        <nav className="sk-train-steps" aria-label={t("steps")}>
          <ol>
            {STEPS.map((one, index) => {
              const isOpen = missingBefore(draft, one) === null;
              const isDone = index < at && isOpen;
              const body = (
                <>
                  <span className="sk-train-number">{isDone ? <Icon name="check" size={14} /> : index + 1}</span>
                  {t(`step.${one}`)}
                </>
              );
              return (
                <li key={one} data-done={isDone}>
                  {isOpen ? (
                    <Link to={`?step=${one}`} {...(one === step ? { "aria-current": "step" as const } : {})}>
                      {body}
                    </Link>
                  ) : (
                    <span aria-disabled="true">{body}</span>
                  )}
                </li>
              );
            })}
          </ol>
        </nav>
        <div className="sk-train-body">
          <div className="sk-train-main" ref={heading} tabIndex={-1}>
            {step === "data" && <DataStep />}
            {step === "model" && <ModelStep />}
            {step === "method" && <MethodStep />}
            {step === "goal" && <GoalStep />}
            {step === "plan" && <PlanStep dryRun={dryRun} file={file} />}
            <footer className="sk-train-foot">
              {previous !== undefined && <Button onClick={() => go(previous)}>{t("back")}</Button>}
              <ErrorLine error={Object.keys(problemsOf(submitError)).length > 0 ? null : submitError} />
              {next !== undefined ? (
                <Button type="primary" disabled={!isReady} onClick={() => go(next)}>
                  {next === "plan" ? t("showPlan") : t("next", { step: t(`step.${next}`) })}
                </Button>
              ) : (
                <Button
                  type="primary"
                  size="large"
                  icon={<Icon name="train" />}
                  loading={submit.isPending}
                  disabled={dryRun.plan?.status !== "proposed"}
                  onClick={() => submit.mutate(file)}
                >
                  {t("start")}
                </Button>
              )}
            </footer>
          </div>
          <Summary plan={step === "plan" ? dryRun.plan : undefined} />
        </div>
      </WizardContext>
    </Page>
  );
}

/** A step that is gone to is where the keyboard and screen readers go on. */
function useFocusOnStep(step: Step) {
  const holder = useRef<HTMLDivElement>(null);
  const shown = useRef(step);
  useEffect(() => {
    if (shown.current === step) return;
    shown.current = step;
    holder.current?.focus({ preventScroll: true });
    window.scrollTo(0, 0);
  }, [step]);
  return holder;
}
