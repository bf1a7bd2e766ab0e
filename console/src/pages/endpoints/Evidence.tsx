import { usePreferences } from "../../app/preferences";
import { number, percent } from "../../i18n/figures";
import type { Rollout } from "./documents";
import { useEndpointsText } from "./text";

/** What the requests since its beginning say of the version that is tried, beside the one that answers. */
export function Evidence({ rollout }: { rollout: Rollout }) {
  const t = useEndpointsText();
  const { locale } = usePreferences();
  const seconds = (value: number | null) => (value === null ? "–" : t("seconds", { count: number(value, locale, 3) }));
  const { win_rate: winRate } = rollout;
  return (
    <>
      {/* eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex */}
      <div className="sk-endpoints-scroll" tabIndex={0} role="region" aria-label={t("evidence.title")}>
        <table className="sk-endpoints-table">
          <caption className="sk-hidden">{t("evidence.title")}</caption>
          <thead>
            <tr>
              <th scope="col">{t("evidence.version")}</th>
              <th scope="col">{t("evidence.requests")}</th>
              <th scope="col">{t("evidence.errors")}</th>
              <th scope="col">p50</th>
              <th scope="col">p95</th>
              <th scope="col">{t("evidence.score")}</th>
            </tr>
          </thead>
          <tbody>
            {rollout.versions.map((one) => (
              <tr key={`${one.version}-${one.shadow}`}>
                <th scope="row">
                  {one.version === 0 ? t("version.base") : t("version.short", { version: one.version })}
                  <small>{t(one.shadow ? "role.shadow" : one.version === rollout.version ? "role.canary" : "role.champion")}</small>
                </th>
                <td>{number(one.requests, locale)}</td>
                <td>{one.error_rate === null ? "–" : percent(one.error_rate, locale)}</td>
                <td>{seconds(one.p50_seconds)}</td>
                <td>{seconds(one.p95_seconds)}</td>
                <td>{one.mean_score === null ? "–" : t("evidence.of", { score: number(one.mean_score, locale, 3), count: one.feedback })}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {winRate !== null && (
        <p>
          {t("evidence.winRate", {
            value: percent(winRate.value, locale), low: percent(winRate.low, locale), high: percent(winRate.high, locale), count: winRate.feedback,
          })}
        </p>
      )}
      {rollout.evaluations.map((one) => (
        <p key={one.metric} className="sk-muted">
          {t("evidence.gate", { metric: one.metric, verdict: one.verdict })} {one.reason}
        </p>
      ))}
    </>
  );
}
