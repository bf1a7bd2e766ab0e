import "./style.css";

import { Button, Table, type TableColumnsType } from "antd";
import { useState } from "react";
import { Link } from "react-router";

import { useMay } from "../../api/session";
import { EmptyState } from "../../components/EmptyState";
import { TimeAgo } from "../../components/Figures";
import { Icon } from "../../components/icons";
import { Page } from "../../components/Page";
import { QueryState } from "../../components/QueryState";
import { Catalogue } from "./Catalogue";
import type { Model } from "./documents";
import { useModels } from "./queries";
import { useModelsText } from "./text";
import { UploadModal } from "./UploadModal";
import { useWords } from "./words";

export default function ModelsPage() {
  const t = useModelsText();
  const mayWrite = useMay("write");
  const models = useModels();
  const [isUploading, setIsUploading] = useState(false);
  const upload = (
    <Button type="primary" icon={<Icon name="upload" size={16} />} onClick={() => setIsUploading(true)}>
      {t("upload")}
    </Button>
  );
  return (
    <Page title={t("title")} lead={t("lead")} actions={mayWrite ? upload : undefined}>
      <QueryState query={models} rows={8}>
        {({ data }) => (
          <>
            <Own models={data.filter((model) => model.origin !== "builtin")} />
            <Catalogue models={data.filter((model) => model.origin === "builtin")} />
          </>
        )}
      </QueryState>
      {isUploading && <UploadModal onClose={() => setIsUploading(false)} />}
    </Page>
  );
}

function Own({ models }: { models: Model[] }) {
  const t = useModelsText();
  const words = useWords();
  const byName = new Map<string, Model>();
  for (const one of models) if ((byName.get(one.name)?.version ?? 0) < one.version) byName.set(one.name, one);
  const columns: TableColumnsType<Model> = [
    { title: t("own.name"), dataIndex: "name", render: (name: string) => <Link to={`/models/${name}`} className="sk-models-name">{name}</Link> },
    { title: t("own.newest"), dataIndex: "version", align: "right" },
    { title: t("card.origin"), dataIndex: "origin", render: (origin: Model["origin"]) => t(`origin.${origin}`) },
    { title: t("own.base"), dataIndex: "parent", render: (parent: string | null) => parent ?? "–" },
    { title: t("own.method"), dataIndex: "method", render: (method: string | null) => method ?? "–" },
    { title: t("own.loss"), align: "right", render: (_, model) => lossOf(model, words.number) },
    { title: t("own.created"), dataIndex: "created_at", render: (at: string) => <TimeAgo at={at} /> },
  ];
  return (
    <section className="sk-models-part">
      <h2>{t("own.title")}</h2>
      {byName.size === 0 ? (
        <EmptyState title={t("empty.title")} detail={t("empty.detail")} />
      ) : (
        <div className="sk-table" role="region" aria-label={t("own.title")}>
          <Table<Model> columns={columns} dataSource={[...byName.values()]} rowKey="id" pagination={false} size="middle" scroll={{ x: "max-content" }} />
        </div>
      )}
    </section>
  );
}

export function lossOf({ eval_loss_before: before, eval_loss_after: after }: Model, number: (value: number) => string): string {
  if (after === null) return "–";
  return before === null ? number(after) : `${number(before)} → ${number(after)}`;
}
