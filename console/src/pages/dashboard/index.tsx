import "./style.css";

import { useMemo } from "react";
import { Link } from "react-router";

import { useMay } from "../../api/session";
import { DayBars } from "../../components/DayBars";
import { filled } from "../../components/days";
import { Icon } from "../../components/icons";
import { Page, Section } from "../../components/Page";
import { QueryState } from "../../components/QueryState";
import { Activity } from "./Activity";
import { Decisions } from "./Decisions";
import type { Overview } from "./documents";
import { FirstSteps } from "./FirstSteps";
import { JobsInProgress } from "./JobsInProgress";
import { Savings } from "./Savings";
import { useDashboardText } from "./text";
import { useOverview } from "./useOverview";

export default function DashboardPage() {
  const t = useDashboardText();
  const overview = useOverview();
  const mayWrite = useMay("write");
  const train = (
    <Link to="/train" className="sk-button">
      <Icon name="plus" size={16} /> {t("train")}
    </Link>
  );
  return (
    <Page title={t("title")} lead={t("lead")} actions={mayWrite ? train : undefined}>
      <QueryState query={overview} rows={8}>
        {(data) => <Content overview={data} />}
      </QueryState>
    </Page>
  );
}

function Content({ overview }: { overview: Overview }) {
  const t = useDashboardText();
  const isNew = Object.values(overview.endpoint_counts).every((count) => count === 0);
  return (
    <>
      {isNew && <FirstSteps overview={overview} />}
      <Savings overview={overview} />
      <div className="sk-dashboard-columns">
        <div>
          <Decisions decisions={overview.decisions} />
          <JobsInProgress jobs={overview.jobs} />
          <Section title={t("costs.title")} actions={<Link to="/costs">{t("costs.all")}</Link>}>
            <CostPerDay overview={overview} />
          </Section>
        </div>
        <div>
          <Activity items={overview.activity} />
        </div>
      </div>
    </>
  );
}

function CostPerDay({ overview: { cost_per_day: costs, last_30_days: span } }: { overview: Overview }) {
  const t = useDashboardText();
  const days = useMemo(() => (costs && span ? filled(costs, span.since, span.until) : []), [costs, span]);
  if (costs === null || span === null) return <p className="sk-muted">{t("figures.away")}</p>;
  if (costs.length === 0) return <p className="sk-muted">{t("costs.none")}</p>;
  const labels = { day: t("costs.day"), paid: t("costs.paid"), onDemand: t("costs.onDemand"), total: t("costs.total") };
  return <DayBars title={t("costs.title")} labels={labels} days={days} />;
}
