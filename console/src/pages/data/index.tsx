import "./style.css";

import type { TableColumnsType } from "antd";
import { useMemo } from "react";
import { Link } from "react-router";

import { keys } from "../../api/keys";
import { useMay } from "../../api/session";
import { useRefreshOn } from "../../api/useEvents";
import { usePages } from "../../api/usePages";
import { DataTable } from "../../components/DataTable";
import { EmptyState } from "../../components/EmptyState";
import { Bytes, TimeAgo } from "../../components/Figures";
import { Page } from "../../components/Page";
import type { Dataset } from "./documents";
import { useCount, useFormatName } from "./figures";
import { useDataText } from "./text";
import { UploadPanel } from "./UploadPanel";

export default function DataPage() {
  const t = useDataText();
  const mayWrite = useMay("write");
  const versions = usePages<Dataset>([...keys.datasets, "list"], "/v1/datasets", {}, 100);
  useRefreshOn({ types: ["DatasetValidated", "DatasetDeleted"] }, keys.datasets);
  const newest = useMemo(() => versions.rows && newestOfEach(versions.rows), [versions.rows]);
  const columns = useColumns();
  return (
    <Page title={t("title")} lead={t("lead")}>
      {mayWrite && <UploadPanel title={t("upload.title")} />}
      <DataTable
        label={t("title")}
        pages={{ ...versions, rows: newest }}
        columns={columns}
        rowKey={(dataset) => dataset.name}
        empty={<EmptyState title={t("empty.title")} detail={t("empty.detail")} />}
      />
    </Page>
  );
}

/** The list has versions, newest first. */
function newestOfEach(versions: Dataset[]): Dataset[] {
  const byName = new Map<string, Dataset>();
  for (const one of versions) if ((byName.get(one.name)?.version ?? 0) < one.version) byName.set(one.name, one);
  return [...byName.values()];
}

function useColumns(): TableColumnsType<Dataset> {
  const t = useDataText();
  const count = useCount();
  const formatName = useFormatName();
  return [
    { title: t("list.name"), dataIndex: "name", render: (name: string) => <Link to={`/data/${name}`} className="sk-data-name">{name}</Link> },
    { title: t("list.version"), dataIndex: "version", align: "right" },
    { title: t("list.format"), dataIndex: "format", render: formatName },
    { title: t("list.rows"), dataIndex: "rows", align: "right", render: count },
    { title: t("list.tokens"), dataIndex: "estimated_tokens", align: "right", render: count },
    { title: t("list.size"), dataIndex: "bytes", align: "right", render: (bytes: number) => <Bytes count={bytes} /> },
    { title: t("list.origin"), render: (_, { lineage }) => t(lineage ? "origin.traffic" : "origin.upload") },
    { title: t("list.created"), dataIndex: "created_at", render: (at: string) => <TimeAgo at={at} /> },
  ];
}
