import "./style.css";

import { useMutation, useQueryClient } from "@tanstack/react-query";
import { App, Button, Table, type TableColumnsType } from "antd";
import { Link, useNavigate, useParams, useSearchParams } from "react-router";

import { send } from "../../api/client";
import { keys } from "../../api/keys";
import { useMay } from "../../api/session";
import { EmptyState } from "../../components/EmptyState";
import { TimeAgo } from "../../components/Figures";
import { Icon } from "../../components/icons";
import { Page } from "../../components/Page";
import { QueryState } from "../../components/QueryState";
import { Aliases } from "./Aliases";
import { Card } from "./Card";
import type { Model } from "./documents";
import { Evaluation } from "./Evaluation";
import { lossOf } from "./index";
import { useAliases, useModels } from "./queries";
import { useModelsText } from "./text";
import { useWords } from "./words";

/** One model: `?version=` or its newest, and its other versions. */
export default function ModelPage() {
  const t = useModelsText();
  const { name = "" } = useParams();
  const [search] = useSearchParams();
  const mayWrite = useMay("write");
  const models = useModels();
  const all = models.data?.data ?? [];
  const versions = all.filter((model) => model.name === name).sort((a, b) => b.version - a.version);
  const shown = versions.find((model) => model.version === Number(search.get("version"))) ?? versions[0];
  const isOwn = shown !== undefined && shown.origin !== "builtin";
  return (
    <Page
      title={name}
      breadcrumbs={[{ title: t("title"), to: "/models" }]}
      badge={isOwn && <span className="sk-tag" data-tone="busy">{t("one.version", { version: shown.version })}</span>}
      lead={shown && t(`origin.${shown.origin}`)}
      actions={shown && <Actions model={shown} mayWrite={mayWrite} isLast={versions.length === 1} />}
    >
      <QueryState query={models} rows={8}>
        {() =>
          shown === undefined ? (
            <EmptyState title={t("one.missing", { name })} detail={t("one.missingDetail")} action={<Link to="/models">{t("title")}</Link>} />
          ) : (
            <>
              <div className="sk-models-columns">
                <Card model={shown} base={all.find((model) => model.id === shown.parent)} />
                {isOwn && (
                  <div>
                    <Evaluation model={shown} />
                    <Aliases name={name} versions={versions} />
                  </div>
                )}
              </div>
              {isOwn && <Versions versions={versions} shown={shown} />}
            </>
          )
        }
      </QueryState>
    </Page>
  );
}

function Actions({ model, mayWrite, isLast }: { model: Model; mayWrite: boolean; isLast: boolean }) {
  const t = useModelsText();
  const isOwn = model.origin !== "builtin";
  return (
    <>
      {model.hub_id !== null && (
        <a className="sk-button" href={`https://huggingface.co/${model.hub_id}`} target="_blank" rel="noreferrer">
          {t("one.hub")} <Icon name="external" size={14} />
        </a>
      )}
      {mayWrite && isOwn && <Delete model={model} isLast={isLast} />}
      {mayWrite && model.available && (
        <Link className="sk-button" to={`/train?model=${model.id}`}>
          {t("action.tune")}
        </Link>
      )}
      {mayWrite && isOwn && model.available && model.origin !== "code" && (
        <Link className="sk-button" to={`/endpoints?model=${model.id}`}>
          {t("action.deploy")}
        </Link>
      )}
    </>
  );
}

function Delete({ model: { id, name }, isLast }: { model: Model; isLast: boolean }) {
  const t = useModelsText();
  const { message, modal } = App.useApp();
  const client = useQueryClient();
  const navigate = useNavigate();
  const remove = useMutation({
    mutationFn: () => send("DELETE", `/v1/models/${id}`),
    onSuccess: async () => {
      void message.success(t("delete.done", { name: id }));
      await navigate(isLast ? "/models" : `/models/${name}`);
      await client.invalidateQueries({ queryKey: keys.models });
    },
    onError: (error) => void message.error(error.message),
  });
  const label = t("action.delete", { name: id });
  return (
    <Button
      icon={<Icon name="trash" size={16} />}
      aria-label={label}
      title={label}
      onClick={() =>
        modal.confirm({
          title: t("delete.title", { name: id }),
          content: t("delete.detail"),
          okText: t("delete.yes"),
          cancelText: t("cancel"),
          okButtonProps: { danger: true },
          onOk: () => remove.mutateAsync().catch(() => undefined),
        })
      }
    />
  );
}

function Versions({ versions, shown }: { versions: Model[]; shown: Model }) {
  const t = useModelsText();
  const words = useWords();
  const aliases = useAliases(shown.name, true);
  const columns: TableColumnsType<Model> = [
    {
      title: t("versions.version"),
      render: (_, { name, version }) => (
        <span className="sk-row">
          <Link to={`/models/${name}?version=${version}`}>{t("one.version", { version })}</Link>
          {version === shown.version && <span className="sk-tag" data-tone="busy">{t("versions.shown")}</span>}
        </span>
      ),
    },
    {
      title: t("versions.aliases"),
      render: (_, { version }) => aliases.data?.data.filter((one) => one.version === version).map((one) => <span key={one.alias} className="sk-tag" data-tone="good">@{one.alias}</span>),
    },
    { title: t("own.base"), dataIndex: "parent", render: (parent: string | null) => parent ?? "–" },
    { title: t("own.method"), dataIndex: "method", render: (method: string | null) => method ?? "–" },
    { title: t("own.loss"), align: "right", render: (_, model) => lossOf(model, words.number) },
    { title: t("versions.size"), dataIndex: "bytes", align: "right", render: (count: number | null) => (count === null ? "–" : words.bytes(count)) },
    { title: t("own.created"), dataIndex: "created_at", render: (at: string) => <TimeAgo at={at} /> },
  ];
  return (
    <section className="sk-models-part">
      <h2>{t("versions.title")}</h2>
      <div className="sk-table" role="region" aria-label={t("versions.title")}>
        <Table<Model> columns={columns} dataSource={versions} rowKey="id" pagination={false} size="middle" scroll={{ x: "max-content" }} />
      </div>
    </section>
  );
}
