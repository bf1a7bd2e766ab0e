import "./style.css";

import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { App, Button, Tabs } from "antd";
import { lazy, Suspense } from "react";
import { Link, useNavigate, useParams, useSearchParams } from "react-router";

import { send } from "../../api/client";
import { keys } from "../../api/keys";
import { useMay } from "../../api/session";
import { useRefreshOn } from "../../api/useEvents";
import { ErrorLine } from "../../components/ErrorState";
import { TimeAgo } from "../../components/Figures";
import { Loading } from "../../components/Loading";
import { Page } from "../../components/Page";
import { QueryState } from "../../components/QueryState";
import type { Endpoint } from "./documents";
import { EndpointState } from "./EndpointState";
import { Overview } from "./Overview";
import { ENDPOINT_EVENTS, endpointQuery } from "./queries";
import { useEndpointsText } from "./text";

const Playground = lazy(() => import("./playground/Playground"));
const Versions = lazy(() => import("./Versions"));
const Snippets = lazy(() => import("./Snippets"));

/** `?tab=` says which part of it is shown. */
export default function EndpointPage() {
  const t = useEndpointsText();
  const { endpointId = "" } = useParams();
  const endpoint = useQuery(endpointQuery(endpointId));
  useRefreshOn({ types: ENDPOINT_EVENTS, subject: endpointId }, keys.endpoint(endpointId));
  const { data } = endpoint;
  return (
    <Page
      title={data?.name ?? endpointId}
      documentTitle={`${t("one")} ${data?.name ?? endpointId}`}
      breadcrumbs={[{ title: t("title"), to: "/endpoints" }]}
      badge={data && <EndpointState endpoint={data} />}
      lead={data && t("endpoint.lead", { kind: t(`kind.${data.kind}`), model: data.model })}
      actions={data && <Actions endpoint={data} />}
    >
      <QueryState query={endpoint} rows={8}>{(one) => <Parts endpoint={one} />}</QueryState>
    </Page>
  );
}

function Parts({ endpoint }: { endpoint: Endpoint }) {
  const t = useEndpointsText();
  const mayInfer = useMay("infer");
  const [search, setSearch] = useSearchParams();
  const isThere = endpoint.state === "ready" || endpoint.state === "requested";
  const part = (label: string, key: string, children: React.ReactNode) => ({
    key, label, children: <Suspense fallback={<Loading rows={6} />}>{children}</Suspense>,
  });
  const items = [
    part(t("tab.overview"), "overview", <Overview endpoint={endpoint} />),
    ...(isThere && mayInfer ? [part(t("tab.playground"), "playground", <Playground endpoint={endpoint} />)] : []),
    part(t("tab.versions"), "versions", <Versions endpoint={endpoint} />),
    ...(isThere ? [part(t("tab.code"), "code", <Snippets endpointId={endpoint.id} />)] : []),
  ];
  const tab = search.get("tab");
  const active = items.some((item) => item.key === tab) ? (tab ?? "overview") : "overview";
  return (
    <>
      <Notice endpoint={endpoint} />
      <Tabs
        className="sk-endpoints-tabs"
        activeKey={active}
        onChange={(key) => setSearch(key === "overview" ? {} : { tab: key }, { replace: true })}
        items={items}
      />
    </>
  );
}

/** What is the matter with it, and what to do. */
function Notice({ endpoint }: { endpoint: Endpoint }) {
  const t = useEndpointsText();
  if (endpoint.state === "failed") {
    return (
      <div className="sk-notice sk-endpoints-bad" role="alert">
        <strong>{t("failed.title", { reason: endpoint.reason })}</strong>
        <p>{endpoint.advice === "" ? t("failed.advice") : endpoint.advice}</p>
      </div>
    );
  }
  if (endpoint.state === "requested") {
    return (
      <div className="sk-notice" role="status">
        <strong>{t("requested.title")}</strong>
        <p>{t("requested.detail")}</p>
      </div>
    );
  }
  if (endpoint.state === "deleting" || endpoint.state === "deleted") {
    return <div className="sk-notice" role="status">{t(`gone.${endpoint.state}`)}</div>;
  }
  if (endpoint.drifted_at === null) return null;
  return (
    <div className="sk-notice">
      <strong>
        {t("drift.seen")} <TimeAgo at={endpoint.drifted_at} />
      </strong>
      <p>
        {endpoint.drift_explanation} <Link to={`/monitoring/${endpoint.id}`}>{t("drift.look")}</Link>
      </p>
    </div>
  );
}

function Actions({ endpoint }: { endpoint: Endpoint }) {
  const t = useEndpointsText();
  const { modal, message } = App.useApp();
  const navigate = useNavigate();
  const client = useQueryClient();
  const mayWrite = useMay("write");
  const remove = useMutation({
    mutationFn: () => send<Endpoint>("DELETE", `/v1/endpoints/${endpoint.id}`),
    onSuccess: async () => {
      await client.invalidateQueries({ queryKey: keys.endpoints });
      void message.success(t("delete.done", { name: endpoint.name }));
      await navigate("/endpoints");
    },
  });
  const ask = () =>
    modal.confirm({
      title: t("delete.title", { name: endpoint.name }),
      content: t("delete.detail"),
      okText: t("delete.ok"),
      okButtonProps: { danger: true },
      cancelText: t("cancel"),
      onOk: () => remove.mutateAsync().catch(() => undefined),
    });
  const isThere = endpoint.state !== "deleting" && endpoint.state !== "deleted";
  return (
    <>
      <Link to={`/monitoring/${endpoint.id}`}>
        <Button tabIndex={-1}>{t("toMonitoring")}</Button>
      </Link>
      {mayWrite && isThere && (
        <Button danger onClick={ask} loading={remove.isPending}>
          {t("delete.open")}
        </Button>
      )}
      <ErrorLine error={remove.error} />
    </>
  );
}
