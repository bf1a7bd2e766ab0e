import "./style.css";

import { Segmented } from "antd";
import { useMemo } from "react";
import { useSearchParams } from "react-router";

import { usePreferences } from "../../app/preferences";
import { DayBars } from "../../components/DayBars";
import { filled } from "../../components/days";
import { EmptyState } from "../../components/EmptyState";
import { useDuration } from "../../components/Figures";
import { Page, Section } from "../../components/Page";
import { QueryState } from "../../components/QueryState";
import { money, percent } from "../../i18n/figures";
import { Budgets } from "./Budgets";
import type { Costs } from "./documents";
import { Export } from "./Export";
import { Groups } from "./Groups";
import { useCosts, useLiveCosts } from "./queries";
import { Receipts } from "./Receipts";
import { type Span, type SpanName, spanOf, SPANS } from "./spans";
import { useCostsText } from "./text";

/** What was paid in a time (`?span=`, or `?first=&last=`), and what may be. */
export default function CostsPage() {
  const t = useCostsText();
  const [span, picker] = useSpan();
  const costs = useCosts(span, "day");
  useLiveCosts();
  return (
    <Page title={t("title")} lead={t("lead")} actions={picker}>
      <QueryState query={costs} rows={8}>
        {(data) => (
          <>
            <Sums costs={data} />
            {data.groups.length === 0 ? (
              <EmptyState title={t("empty.title")} detail={t("empty.detail")} />
            ) : (
              <div className="sk-costs-columns">
                <Section title={t("chart.title")}>
                  <Days costs={data} />
                </Section>
                <Groups span={span} />
              </div>
            )}
          </>
        )}
      </QueryState>
      <Budgets />
      <Receipts />
      <Export />
    </Page>
  );
}

function useSpan(): [Span, React.ReactNode] {
  const t = useCostsText();
  const [search, setSearch] = useSearchParams();
  const name = SPANS.find((one) => one === search.get("span")) ?? "month";
  const [first, last] = [search.get("first"), search.get("last")];
  const fallback = useMemo(() => spanOf(name === "custom" ? "month" : name, new Date()), [name]);
  const span = name === "custom" && first && last && first <= last ? { first, last } : fallback;
  const change = (changes: Record<string, string>) =>
    setSearch((before) => new URLSearchParams([...Object.entries({ ...Object.fromEntries(before), ...changes })]), { replace: true });
  const day = (key: "first" | "last") => (
    <label className="sk-costs-day">
      {t(key === "first" ? "span.from" : "span.to")}
      <input
        type="date"
        value={span[key]}
        min={key === "last" ? span.first : undefined}
        max={key === "first" ? span.last : undefined}
        onChange={(event) => event.target.value !== "" && change({ ...span, [key]: event.target.value })}
      />
    </label>
  );
  const picker = (
    <div className="sk-row sk-costs-span">
      <Segmented<SpanName>
        aria-label={t("span.label")}
        value={name}
        options={SPANS.map((one) => ({ value: one, label: t(`span.${one}`) }))}
        onChange={(one) => change(one === "custom" ? { span: one, ...span } : { span: one })}
      />
      {name === "custom" && day("first")}
      {name === "custom" && day("last")}
    </div>
  );
  return [span, picker];
}

function Sums({ costs: { total, time_saved_seconds: seconds } }: { costs: Costs }) {
  const t = useCostsText();
  const { locale } = usePreferences();
  const duration = useDuration();
  return (
    <dl className="sk-figures">
      <div>
        <dt>{t("figures.paid")}</dt>
        <dd>{money(total.spent_usd, locale)}</dd>
      </div>
      <div>
        <dt>{t("figures.onDemand")}</dt>
        <dd>{money(total.on_demand_usd, locale)}</dd>
        <dd>{t("figures.onDemandHint")}</dd>
      </div>
      <div>
        <dt>{t("figures.saved")}</dt>
        <dd>{money(total.saving_usd, locale)}</dd>
        {total.saving_fraction !== null && <dd>{t("figures.savedHint", { percent: percent(total.saving_fraction, locale) })}</dd>}
      </div>
      <div>
        <dt>{t("figures.time")}</dt>
        <dd>{seconds < 0 ? `−${duration(-seconds)}` : duration(seconds)}</dd>
        <dd>{t("figures.timeHint")}</dd>
      </div>
      <div>
        <dt>{t("figures.machine")}</dt>
        <dd>{duration(total.machine_seconds)}</dd>
      </div>
    </dl>
  );
}

function Days({ costs }: { costs: Costs }) {
  const t = useCostsText();
  const days = useMemo(() => {
    const told = costs.groups.map((group) => ({ day: group.day ?? "", paid_usd: group.spent_usd, on_demand_usd: group.on_demand_usd }));
    return filled(told, costs.since, costs.until);
  }, [costs]);
  const labels = { day: t("chart.day"), paid: t("figures.paid"), onDemand: t("figures.onDemand"), total: t("chart.total") };
  return <DayBars title={t("chart.title")} labels={labels} days={days} />;
}
