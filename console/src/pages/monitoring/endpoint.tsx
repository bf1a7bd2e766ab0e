import "./style.css";

import { useQuery } from "@tanstack/react-query";
import { Button } from "antd";
import { Link, useParams } from "react-router";

import { keys } from "../../api/keys";
import { useMay } from "../../api/session";
import { useRefreshOn } from "../../api/useEvents";
import { Page, Section } from "../../components/Page";
import { QueryState } from "../../components/QueryState";
import { StateTag } from "../../components/StateTag";
import { CutDataset } from "./CutDataset";
import { Drift } from "./Drift";
import { Objectives } from "./Objectives";
import { Pending } from "./Pending";
import { PolicyForm } from "./PolicyForm";
import { DRIFT_EVENTS, driftQuery, endpointQuery, LOOP_EVENTS, OBJECTIVE_EVENTS, objectivesQuery, RETRAINING_EVENTS, retrainingQuery } from "./queries";
import { useMonitoringText } from "./text";
import { Timeline } from "./Timeline";

export default function EndpointMonitoringPage() {
  const t = useMonitoringText();
  const { endpointId = "" } = useParams();
  const mayWrite = useMay("write");
  const endpoint = useQuery(endpointQuery(endpointId));
  const drift = useQuery(driftQuery(endpointId));
  const objectives = useQuery(objectivesQuery(endpointId));
  const retraining = useQuery(retrainingQuery(endpointId));
  useRefreshOn({ types: DRIFT_EVENTS, subject: endpointId }, keys.drift(endpointId));
  useRefreshOn({ types: OBJECTIVE_EVENTS, subject: endpointId }, keys.objectives(endpointId));
  useRefreshOn({ types: RETRAINING_EVENTS, subject: endpointId }, keys.retraining(endpointId));
  useRefreshOn({ types: LOOP_EVENTS }, keys.retraining(endpointId));
  const { data } = endpoint;
  const mayChange = mayWrite && data !== undefined && data.state !== "deleting" && data.state !== "deleted";

  return (
    <Page
      title={data?.name ?? endpointId}
      documentTitle={`${t("title")} ${data?.name ?? endpointId}`}
      breadcrumbs={[{ title: t("title"), to: "/monitoring" }]}
      badge={data && <StateTag state={data.drifted_at === null ? "ok" : "drifted"} tone={data.drifted_at === null ? "good" : "bad"} label={t(data.drifted_at === null ? "drift.none" : "drift.seen")} />}
      lead={data?.model}
      actions={
        <Link to={`/endpoints/${endpointId}`}>
          <Button tabIndex={-1}>{t("toEndpoint")}</Button>
        </Link>
      }
    >
      <QueryState query={endpoint}>
        {() => (
          <>
            {retraining.data !== undefined && retraining.data.pending.length > 0 && (
              <Pending endpointId={endpointId} pending={retraining.data.pending} mayDecide={mayChange} />
            )}
            <Section title={t("drift.title")}>
              <QueryState query={drift}>{(versions) => <Drift versions={versions} />}</QueryState>
            </Section>
            <Section title={t("objectives.title")}>
              <QueryState query={objectives}>
                {(told) => <Objectives endpointId={endpointId} objectives={told.data} mayChange={mayChange} />}
              </QueryState>
            </Section>
            <div className="sk-monitoring-pair">
              <Section title={t("policy.title")}>
                <QueryState query={retraining}>
                  {(told) => <PolicyForm key={JSON.stringify(told.policy)} endpointId={endpointId} retraining={told} mayChange={mayChange} />}
                </QueryState>
              </Section>
              <Section title={t("timeline.title")}>
                <QueryState query={retraining}>{(told) => <Timeline entries={told.timeline} />}</QueryState>
              </Section>
            </div>
            {mayChange && (
              <Section title={t("cut.title")}>
                <CutDataset endpointId={endpointId} />
              </Section>
            )}
          </>
        )}
      </QueryState>
    </Page>
  );
}
