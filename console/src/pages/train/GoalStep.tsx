import { Section } from "../../components/Page";
import { useWizard } from "./context";
import { Card, Field, NumberField, Segments } from "./fields";
import { OBJECTIVES } from "./settings";
import { useTrainText } from "./text";

const DURATIONS = ["1h", "6h", "1d", "3d"];

/** What the plan is made for: money, time, and what both may be at most. */
export function GoalStep() {
  const t = useTrainText();
  const { draft, change, problems } = useWizard();
  return (
    <>
      <Section title={t("step.goal")}>
        <div role="radiogroup" aria-label={t("step.goal")} className="sk-train-cards sk-train-cards-two">
          {OBJECTIVES.map((objective) => (
            <Card
              key={objective}
              name="objective"
              checked={draft.objective === objective}
              onChoose={() =>
                change({ objective, ...(objective === "cheapest-within-deadline" && draft.deadlineIs === "none" ? { deadlineIs: "within", deadline: "6h" } : {}) })
              }
              title={t(`objective.${objective}`)}
              detail={t(`objective.${objective}.detail`)}
            />
          ))}
        </div>
        {problems["objective"] !== undefined && <p className="sk-error-line">{problems["objective"]}</p>}
      </Section>
      <Section title={t("limits.title")}>
        <p className="sk-train-lead">{t("limits.lead")}</p>
        <div className="sk-train-fields">
          <div className="sk-train-wide">
            <Deadline />
          </div>
          <NumberField name="budget" unit="USD" />
          <NumberField name="max_price" unit={t("unit.usdPerHour")} />
          <Segments
            label={t("field.spotPolicy")}
            hint={t(`spot.${draft.spotPolicy}.detail`)}
            field="spot_policy"
            options={(["auto", "spot", "on-demand"] as const).map((value) => ({ value, label: t(`spot.${value}`) }))}
            value={draft.spotPolicy}
            onChange={(spotPolicy) => change({ spotPolicy })}
          />
          <Segments
            label={t("field.priority")}
            hint={t("hint.priority")}
            field="priority"
            options={(["low", "normal", "high"] as const).map((value) => ({ value, label: t(`priority.${value}`) }))}
            value={draft.priority}
            onChange={(priority) => change({ priority })}
          />
        </div>
      </Section>
    </>
  );
}

function Deadline() {
  const t = useTrainText();
  const { draft, change } = useWizard();
  const { deadlineIs, deadline } = draft;
  return (
    <div className="sk-train-fields">
      <Segments
        label={t("field.deadline")}
        hint={deadlineIs === "none" ? t("hint.deadline") : undefined}
        field={deadlineIs === "none" ? "deadline" : "deadline."}
        options={(["none", "within", "at"] as const).map((value) => ({ value, label: t(`deadline.${value}`) }))}
        value={deadlineIs}
        onChange={(value) => change({ deadlineIs: value, deadline: value === "within" ? "6h" : "" })}
      />
      {deadlineIs === "within" && (
        <Field label={t("deadline.withinLabel")} hint={t("deadline.withinHint")} field="deadline">
          {(props) => (
            <>
              <input {...props} className="sk-input" list="sk-train-durations" autoComplete="off" value={deadline} onChange={(event) => change({ deadline: event.target.value })} />
              <datalist id="sk-train-durations">
                {DURATIONS.map((duration) => (
                  <option key={duration} value={duration} />
                ))}
              </datalist>
            </>
          )}
        </Field>
      )}
      {deadlineIs === "at" && (
        <Field label={t("deadline.atLabel")} hint={t("deadline.atHint", { zone: Intl.DateTimeFormat().resolvedOptions().timeZone })} field="deadline">
          {(props) => <input {...props} className="sk-input" type="datetime-local" value={deadline} onChange={(event) => change({ deadline: event.target.value })} />}
        </Field>
      )}
    </div>
  );
}
