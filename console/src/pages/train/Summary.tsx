import { Link } from "react-router";

import { usePreferences } from "../../app/preferences";
import { useDuration } from "../../components/Figures";
import { money } from "../../i18n/figures";
import { useWizard } from "./context";
import type { Plan } from "./documents";
import type { Step } from "./draft";
import { useTrainText } from "./text";

/** What was chosen so far, beside the step. */
export function Summary({ plan }: { plan: Plan | undefined }) {
  const t = useTrainText();
  const { locale } = usePreferences();
  const duration = useDuration();
  const { draft } = useWizard();
  const isCode = draft.origin === "code";
  const limits = [
    draft.deadlineIs !== "none" && draft.deadline !== "" ? t("summary.deadline", { deadline: draft.deadline.replace("T", " ") }) : null,
    draft.numbers.budget ? t("summary.budget", { usd: money(Number(draft.numbers.budget), locale) }) : null,
    draft.spotPolicy === "auto" ? null : t(`spot.${draft.spotPolicy}`),
  ];
  const best = plan?.candidates?.[0];
  const rows: [string, string | null, Step][] = [
    [t("step.data"), isCode ? t("summary.codeData") : draft.dataset, "data"],
    [t("step.model"), draft.model, "model"],
    [t("field.name"), draft.name || null, "model"],
    [t("step.method"), draft.model === null ? null : t(`method.${draft.method}`) + (draft.dora ? " + DoRA" : "") + (draft.rslora ? " + rsLoRA" : ""), "method"],
    [t("step.goal"), draft.model === null ? null : [t(`objective.${draft.objective}`), ...limits].filter(Boolean).join(", "), "goal"],
  ];
  return (
    <aside className="sk-train-summary" aria-label={t("summary")}>
      <h2>{t("summary")}</h2>
      <dl>
        {rows.map(([name, value, step]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value === null ? <span className="sk-train-open">–</span> : <Link to={`?step=${step}`}>{value}</Link>}</dd>
          </div>
        ))}
      </dl>
      {best?.total_usd?.expected && best.hours?.expected ? (
        <p className="sk-train-price">
          <strong>{money(best.total_usd.expected, locale)}</strong>
          <span>{duration(best.hours.expected * 3600)}</span>
        </p>
      ) : (
        <p className="sk-hint">{t("summary.free")}</p>
      )}
    </aside>
  );
}
