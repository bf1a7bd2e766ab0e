import "./style.css";

import { useQuery } from "@tanstack/react-query";
import type { TableColumnsType } from "antd";
import { useMemo } from "react";
import { Link } from "react-router";

import { send } from "../../api/client";
import { keys } from "../../api/keys";
import { useRefreshOn } from "../../api/useEvents";
import { usePages } from "../../api/usePages";
import { DataTable } from "../../components/DataTable";
import { EmptyState } from "../../components/EmptyState";
import { TimeAgo } from "../../components/Figures";
import { Page } from "../../components/Page";
import { StateTag } from "../../components/StateTag";
import type { Endpoint } from "./documents";
import { OBJECTIVE_EVENTS, objectivesQuery, RETRAINING_EVENTS } from "./queries";
import { useMonitoringText } from "./text";

interface Decision {
  kind: string;
  id: string;
  title: string;
  detail: string;
  link: string;
}

/** Which endpoints drift, break promises, or wait for somebody. */
export default function MonitoringPage() {
  const t = useMonitoringText();
  const endpoints = usePages<Endpoint>([...keys.endpoints, "list"], "/v1/endpoints");
  const overview = useQuery({
    queryKey: keys.overview,
    queryFn: ({ signal }) => send<{ decisions: Decision[] }>("GET", "/v1/overview", { signal }),
  });
  useRefreshOn({ types: ["EndpointReady", "EndpointFailed", "EndpointDeleted", "DriftDetected", "ModelPromoted"] }, keys.endpoints);
  useRefreshOn({ types: OBJECTIVE_EVENTS }, keys.endpoints);
  useRefreshOn({ types: RETRAINING_EVENTS }, keys.overview);
  const waiting = overview.data?.decisions.filter((one) => one.kind === "retrain");
  const columns = useColumns(waiting);
  return (
    <Page title={t("title")} lead={t("lead")}>
      {waiting !== undefined && waiting.length > 0 && (
        <div className="sk-notice" role="status">
          <strong>{t("waiting.title", { count: waiting.length })}</strong>
          <ul className="sk-monitoring-waiting">
            {waiting.map((one) => (
              <li key={one.id}>
                <Link to={one.link}>{one.title}</Link> {one.detail}
              </li>
            ))}
          </ul>
        </div>
      )}
      <DataTable
        label={t("title")}
        pages={endpoints}
        columns={columns}
        rowKey={(endpoint) => endpoint.id}
        empty={<EmptyState title={t("empty.title")} detail={t("empty.detail")} action={<Link to="/endpoints?new">{t("empty.action")}</Link>} />}
      />
    </Page>
  );
}

function useColumns(waiting: Decision[] | undefined): TableColumnsType<Endpoint> {
  const t = useMonitoringText();
  return useMemo(
    () => [
      {
        title: t("column.endpoint"),
        key: "name",
        render: (_, endpoint) => (
          <span className="sk-monitoring-name">
            <Link to={`/monitoring/${endpoint.id}`}>{endpoint.name}</Link>
            <small>{endpoint.model}</small>
          </span>
        ),
      },
      { title: t("column.drift"), key: "drift", render: (_, endpoint) => <DriftCell endpoint={endpoint} /> },
      { title: t("column.objectives"), key: "objectives", render: (_, endpoint) => <ObjectivesCell endpointId={endpoint.id} /> },
      {
        title: t("column.retraining"),
        key: "retraining",
        render: (_, endpoint) =>
          waiting?.some((one) => one.link.endsWith(endpoint.id)) ? (
            <StateTag state="pending" tone="wait" label={t("waits")} />
          ) : (
            <span className="sk-muted">{t("nothingWaits")}</span>
          ),
      },
    ],
    [t, waiting],
  );
}

function DriftCell({ endpoint }: { endpoint: Endpoint }) {
  const t = useMonitoringText();
  if (endpoint.drifted_at === null) return <StateTag state="none" tone="good" label={t("drift.none")} />;
  return (
    <span className="sk-monitoring-drift">
      <StateTag state="drifted" tone="bad" label={signalWords(endpoint.drift_signal, t)} />
      <TimeAgo at={endpoint.drifted_at} />
    </span>
  );
}

function ObjectivesCell({ endpointId }: { endpointId: string }) {
  const t = useMonitoringText();
  const { data } = useQuery(objectivesQuery(endpointId));
  if (data === undefined) return <span className="sk-muted">–</span>;
  const broken = data.data.filter((one) => one.severity !== null);
  if (data.data.length === 0) return <span className="sk-muted">{t("objectives.noneShort")}</span>;
  if (broken.length === 0) return <StateTag state="met" label={t("objectives.met", { count: data.data.length })} />;
  return <StateTag state="broken" label={broken.map((one) => t(`objective.${one.name}`)).join(", ")} />;
}

/** A stream of the drift tests in words; one that is not known here is shown as it is. */
export function signalWords(signal: string, t: ReturnType<typeof useMonitoringText>): string {
  const key = `signal.${signal}` as Parameters<typeof t>[0];
  const words = t(key);
  return words === key ? signal : words;
}
