import { useQuery } from "@tanstack/react-query";
import { Link } from "react-router";

import { send } from "../../api/client";
import type { Listing } from "../../api/documents";
import { keys } from "../../api/keys";
import { useRefreshOn } from "../../api/useEvents";
import { usePreferences } from "../../app/preferences";
import { type Fact, Facts } from "../../components/Facts";
import { Duration, Money, TimeAgo } from "../../components/Figures";
import { Section } from "../../components/Page";
import { StateTag } from "../../components/StateTag";
import { number, percent } from "../../i18n/figures";
import { FigureCharts } from "./FigureCharts";
import type { Endpoint } from "./documents";
import { Split } from "./EndpointState";
import { useEndpointsText } from "./text";

export function Overview({ endpoint }: { endpoint: Endpoint }) {
  return (
    <div className="sk-stack">
      <div className="sk-endpoints-pair">
        <State endpoint={endpoint} />
        <Promises endpointId={endpoint.id} />
      </div>
      <FigureCharts endpoint={endpoint} />
    </div>
  );
}

function State({ endpoint }: { endpoint: Endpoint }) {
  const t = useEndpointsText();
  const { locale } = usePreferences();
  const tokens = endpoint.input_tokens + endpoint.output_tokens;
  const facts: Fact[] = [
    {
      label: t("fact.traffic"),
      value: <Split champion={endpoint.served_version ?? endpoint.version} canary={endpoint.canary_version} fraction={endpoint.canary_fraction} />,
    },
    { label: t("fact.replicas"), value: endpoint.replicas ?? (endpoint.state === "ready" ? t("fact.shared") : "–") },
    {
      label: t("fact.coldStart"),
      value: <Duration seconds={endpoint.cold_start_seconds ?? endpoint.load_seconds} />,
      detail: endpoint.cold_start_seconds === null ? t("fact.loadDetail") : t("fact.coldStartDetail"),
    },
    { label: t("fact.sampled"), value: percent(endpoint.sample_rate, locale) },
    ...(endpoint.kind === "spot"
      ? [
          { label: t("fact.spent"), value: <Money usd={endpoint.spent_usd} />, detail: saving(endpoint, t, locale) },
          {
            label: t("fact.million"),
            value: <Money usd={endpoint.usd_per_million_tokens} />,
            detail: t("fact.tokens", { count: number(tokens, locale) }),
          },
        ]
      : [{ label: t("fact.spent"), value: t("cost.shared"), detail: t("cost.sharedDetail") }]),
    { label: t("fact.ready"), value: <TimeAgo at={endpoint.ready_at} /> },
  ];
  return (
    <Section title={t("overview.state")}>
      <Facts facts={facts} />
    </Section>
  );
}

function saving(endpoint: Endpoint, t: ReturnType<typeof useEndpointsText>, locale: "en" | "ko"): string {
  const saved = endpoint.on_demand_usd > 0 ? 1 - endpoint.spent_usd / endpoint.on_demand_usd : 0;
  return saved > 0 ? t("fact.saved", { percent: percent(saved, locale) }) : t("fact.notSaved");
}

interface Objective {
  name: "availability" | "time-to-first-token" | "latency";
  target: number;
  at_most_seconds: number | null;
  severity: string | null;
  budget_left_fraction: number | null;
}

/** Its objectives in a line each; they are set on the monitoring page. */
function Promises({ endpointId }: { endpointId: string }) {
  const t = useEndpointsText();
  const { locale } = usePreferences();
  const objectives = useQuery({
    queryKey: keys.objectives(endpointId),
    queryFn: ({ signal }) => send<Listing<Objective>>("GET", `/v1/endpoints/${endpointId}/objectives`, { signal }),
  });
  useRefreshOn({ types: ["EndpointObjectivesSet", "ObjectiveBreached", "ObjectiveRecovered"], subject: endpointId }, keys.objectives(endpointId));
  const rows = objectives.data?.data ?? [];
  return (
    <Section title={t("overview.objectives")} actions={<Link to={`/monitoring/${endpointId}`}>{t("objectives.open")}</Link>}>
      {rows.length === 0 && <p className="sk-muted">{t(objectives.isPending ? "loading" : "objectives.none")}</p>}
      <ul className="sk-endpoints-promises">
        {rows.map((one) => (
          <li key={one.name}>
            <span>
              {t(`objective.${one.name}`)}
              <small>
                {one.at_most_seconds === null
                  ? t("objective.share", { percent: percent(one.target, locale) })
                  : t("objective.within", { percent: percent(one.target, locale), seconds: number(one.at_most_seconds, locale) })}
              </small>
            </span>
            <StateTag state={one.severity ? "broken" : "met"} />
          </li>
        ))}
      </ul>
    </Section>
  );
}
