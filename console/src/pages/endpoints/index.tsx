import "./style.css";

import { Button, type TableColumnsType } from "antd";
import { useMemo } from "react";
import { Link, useSearchParams } from "react-router";

import { keys } from "../../api/keys";
import { useMay } from "../../api/session";
import { useRefreshOn } from "../../api/useEvents";
import { usePages } from "../../api/usePages";
import { DataTable } from "../../components/DataTable";
import { EmptyState } from "../../components/EmptyState";
import { Money, TimeAgo } from "../../components/Figures";
import { Icon } from "../../components/icons";
import { Page } from "../../components/Page";
import { CreateEndpoint } from "./CreateEndpoint";
import type { Endpoint } from "./documents";
import { EndpointState, Split } from "./EndpointState";
import { ENDPOINT_EVENTS } from "./queries";
import { useEndpointsText } from "./text";

/** All endpoints; `?new` or `?model=NAME@VERSION` opens the form for another. */
export default function EndpointsPage() {
  const t = useEndpointsText();
  const mayWrite = useMay("write");
  const [search, setSearch] = useSearchParams();
  const endpoints = usePages<Endpoint>([...keys.endpoints, "list"], "/v1/endpoints");
  useRefreshOn({ types: ENDPOINT_EVENTS }, keys.endpoints);
  const columns = useColumns();
  const model = search.get("model");
  const isOpen = mayWrite && (model !== null || search.has("new"));

  const create = mayWrite && (
    <Button type="primary" icon={<Icon name="plus" size={16} />} onClick={() => setSearch({ new: "" })}>
      {t("create.open")}
    </Button>
  );
  return (
    <Page title={t("title")} lead={t("lead")} actions={endpoints.rows?.length ? create : undefined}>
      <DataTable
        label={t("title")}
        pages={endpoints}
        columns={columns}
        rowKey={(endpoint) => endpoint.id}
        empty={<EmptyState title={t("empty.title")} detail={t("empty.detail")} action={create} />}
      />
      {isOpen && <CreateEndpoint model={model} onClose={() => setSearch({}, { replace: true })} />}
    </Page>
  );
}

function useColumns(): TableColumnsType<Endpoint> {
  const t = useEndpointsText();
  return useMemo(
    () => [
      {
        title: t("column.name"),
        key: "name",
        render: (_, endpoint) => (
          <span className="sk-endpoints-name">
            <Link to={`/endpoints/${endpoint.id}`}>{endpoint.name}</Link>
            <small>{endpoint.model}</small>
          </span>
        ),
      },
      { title: t("column.state"), key: "state", render: (_, endpoint) => <EndpointState endpoint={endpoint} /> },
      { title: t("column.kind"), key: "kind", render: (_, endpoint) => t(`kind.${endpoint.kind}`) },
      {
        title: t("column.traffic"),
        key: "traffic",
        render: (_, endpoint) => (
          <Split
            champion={endpoint.served_version ?? endpoint.version}
            canary={endpoint.canary_version}
            fraction={endpoint.canary_fraction}
          />
        ),
      },
      {
        title: t("column.drift"),
        key: "drift",
        render: (_, endpoint) =>
          endpoint.drifted_at === null ? (
            <span className="sk-muted">{t("drift.none")}</span>
          ) : (
            <Link to={`/monitoring/${endpoint.id}`}>
              {t("drift.seen")} <TimeAgo at={endpoint.drifted_at} />
            </Link>
          ),
      },
      {
        title: t("column.cost"),
        key: "cost",
        align: "right",
        render: (_, endpoint) => (endpoint.kind === "spot" ? <Money usd={endpoint.spent_usd} /> : <span className="sk-muted">{t("cost.shared")}</span>),
      },
      { title: t("column.created"), key: "created", render: (_, endpoint) => <TimeAgo at={endpoint.created_at} /> },
    ],
    [t],
  );
}
