import { Link } from "react-router";

import { useMay } from "../../api/session";
import { usePreferences } from "../../app/preferences";
import { useDuration } from "../../components/Figures";
import { money, percent } from "../../i18n/figures";
import type { Budget, Overview } from "./documents";
import { useDashboardText } from "./text";

/** The month to date: saved, paid, and what is left of it. */
export function Savings({ overview: { month, last_365_days: year, budget } }: { overview: Overview }) {
  const t = useDashboardText();
  const { locale } = usePreferences();
  const duration = useDuration();
  const usd = (value: number) => money(value, locale);
  if (month === null) return <p className="sk-notice">{t("figures.away")}</p>;
  const { saved_fraction: share, time_saved_seconds: seconds } = month;
  return (
    <dl className="sk-figures">
      <div>
        <dt>{t("figures.saved")}</dt>
        <dd className="sk-dashboard-saved">{usd(month.saved_usd)}</dd>
        <dd>
          {share === null || month.paid_usd === 0
            ? t("figures.savedNone")
            : t("figures.savedOf", { percent: percent(share, locale), onDemand: usd(month.on_demand_usd) })}
        </dd>
      </div>
      <div>
        <dt>{t("figures.time")}</dt>
        <dd>{seconds < 0 ? `−${duration(-seconds)}` : duration(seconds)}</dd>
        <dd>{t(seconds < 0 ? "figures.timeLost" : "figures.timeHint")}</dd>
      </div>
      <div>
        <dt>{t("figures.paid")}</dt>
        <dd>{usd(month.paid_usd)}</dd>
        {year !== null && <dd>{t("figures.year", { paid: usd(year.paid_usd), saved: usd(year.saved_usd) })}</dd>}
      </div>
      <MonthlyBudget budget={budget} />
    </dl>
  );
}

function MonthlyBudget({ budget }: { budget: Budget | null }) {
  const t = useDashboardText();
  const { locale } = usePreferences();
  const maySet = useMay("admin");
  if (budget === null) {
    return (
      <div>
        <dt>{t("figures.budget")}</dt>
        <dd>–</dd>
        <dd>
          {t("figures.noBudget")} {maySet && <Link to="/costs#budgets">{t("figures.setBudget")}</Link>}
        </dd>
      </div>
    );
  }
  const [spent, reserved, amount] = [budget.spent_usd ?? 0, budget.reserved_usd ?? 0, budget.amount_usd];
  const used = (spent + reserved) / amount;
  const told = t("figures.budgetBar", { percent: percent(used, locale) });
  return (
    <div>
      <dt>
        <Link to="/costs#budgets">{t("figures.budget")}</Link>
      </dt>
      <dd>{percent(used, locale)}</dd>
      <dd>
        {budget.left_usd !== null && t("figures.left", { left: money(budget.left_usd, locale), amount: money(amount, locale) })}
        <div className="sk-bar sk-dashboard-budget" role="img" aria-label={told} data-tone={used >= 1 ? "bad" : used >= 0.8 ? "wait" : undefined}>
          <span style={{ width: `${Math.min(100, (100 * spent) / amount)}%` }} />
          <span style={{ width: `${Math.min(100, (100 * reserved) / amount)}%` }} />
        </div>
      </dd>
    </div>
  );
}
