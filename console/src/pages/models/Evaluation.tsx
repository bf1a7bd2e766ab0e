import { Section } from "../../components/Page";
import { TimeAgo } from "../../components/Figures";
import type { Comparison, Model } from "./documents";
import { useComparisons } from "./queries";
import { useModelsText } from "./text";
import { useWords } from "./words";

/** How far training brought it on rows that were held out, and how it does against the champion. */
export function Evaluation({ model }: { model: Model }) {
  const t = useModelsText();
  const { number, percent } = useWords();
  const comparisons = useComparisons(model).data ?? [];
  const { eval_loss_before: before, eval_loss_after: after, version } = model;
  const most = Math.max(before ?? 0, after ?? 0);
  const change = before && after !== null ? 1 - after / before : null;
  return (
    <Section title={t("evaluation.title")}>
      {after === null ? (
        <p className="sk-muted">{t("evaluation.none")}</p>
      ) : (
        <dl className="sk-models-losses">
          {before !== null && <Loss label={t("evaluation.before")} value={before} most={most} told={number} />}
          <Loss label={t("evaluation.after")} value={after} most={most} told={number} />
        </dl>
      )}
      {change !== null && (
        <p className="sk-hint">{t(change >= 0 ? "evaluation.change" : "evaluation.worse", { percent: percent(Math.abs(change)) })}</p>
      )}
      {comparisons.length > 0 && <Comparisons comparisons={comparisons} version={version} />}
    </Section>
  );
}

function Loss({ label, value, most, told }: { label: string; value: number; most: number; told: (value: number) => string }) {
  return (
    <div>
      <dt>{label}</dt>
      <dd>
        <span className="sk-bar" aria-hidden="true">
          <span style={{ width: `${most > 0 ? (100 * value) / most : 0}%` }} />
        </span>
        <strong className="sk-figure">{told(value)}</strong>
      </dd>
    </div>
  );
}

function Comparisons({ comparisons, version }: { comparisons: Comparison[]; version: number }) {
  const t = useModelsText();
  const { number } = useWords();
  return (
    <>
      <h3 className="sk-models-sub">{t("evaluation.comparisons")}</h3>
      {/* A region that scrolls is reached by the keyboard. */}
      {/* eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex */}
      <div className="sk-chart-table" tabIndex={0} role="group" aria-label={t("evaluation.comparisons")}>
        <table>
          <thead>
            <tr>
              <th scope="col">{t("evaluation.metric")}</th>
              <th scope="col">{t("evaluation.value", { version })}</th>
              <th scope="col">{t("evaluation.champion")}</th>
              <th scope="col">{t("evaluation.difference")}</th>
              <th scope="col">{t("evaluation.rows")}</th>
              <th scope="col">{t("evaluation.at")}</th>
            </tr>
          </thead>
          <tbody>
            {comparisons.map((one) => {
              const { champion_value: champion, difference_standard_error: error } = one;
              const difference = champion === undefined ? null : one.value - champion;
              const spread = error ? ` ± ${number(error)}` : "";
              return (
                <tr key={`${one.metric} ${one.evaluated_at}`}>
                  <th scope="row">{one.metric}</th>
                  <td>{number(one.value)}</td>
                  <td>{champion === undefined ? "–" : t("evaluation.championOf", { value: number(champion), version: one.champion_version ?? 0 })}</td>
                  <td>{difference === null ? "–" : `${number(difference)}${spread}`}</td>
                  <td>{one.sample_size === undefined ? "–" : number(Number(one.sample_size))}</td>
                  <td>
                    <TimeAgo at={one.evaluated_at} />
                  </td>
                </tr>
              );
            })}
          </tbody>
        </table>
      </div>
    </>
  );
}
