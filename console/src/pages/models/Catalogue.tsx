import { Input, Select, Table, type TableColumnsType } from "antd";
import { useState } from "react";
import { Link } from "react-router";

import { useMay } from "../../api/session";
import { usePreferences } from "../../app/preferences";
import { StateTag } from "../../components/StateTag";
import { number } from "../../i18n/figures";
import type { Model } from "./documents";
import { useModelsText } from "./text";
import { useWords } from "./words";

/** The foundation models, those that can be used at once first. */
export function Catalogue({ models }: { models: Model[] }) {
  const t = useModelsText();
  const words = useWords();
  const { locale } = usePreferences();
  const mayWrite = useMay("write");
  const [search, setSearch] = useState("");
  const [task, setTask] = useState("");
  const tasks = [...new Set(models.map((model) => model.task).filter((one) => one !== null))];
  const shown = models
    .filter((model) => model.id.includes(search.trim().toLowerCase()) && (task === "" || model.task === task))
    .sort((a, b) => Number(b.available) - Number(a.available) || (a.parameters ?? 0) - (b.parameters ?? 0));
  const columns: TableColumnsType<Model> = [
    { title: t("own.name"), dataIndex: "id", render: (id: string) => <Link to={`/models/${id}`} className="sk-models-name">{id}</Link> },
    { title: t("base.task"), dataIndex: "task", render: (one: string | null) => (one === null ? "–" : words.task(one)) },
    { title: t("base.parameters"), dataIndex: "parameters", align: "right", render: (count: number | null) => (count === null ? "–" : words.compact(count)) },
    { title: t("base.context"), align: "right", render: (_, { context_tokens: tokens }) => (tokens ? number(tokens, locale, 21) : "–") },
    { title: t("base.licence"), dataIndex: "licence", render: (licence: string | null) => licence ?? "–" },
    {
      title: t("base.state"),
      dataIndex: "available",
      render: (available: boolean) =>
        available ? (
          <StateTag state="ready" label={t("base.here")} />
        ) : (
          <span title={t("base.notHereHint")}>
            <StateTag state="off" label={t("base.notHere")} />
          </span>
        ),
    },
  ];
  if (mayWrite) {
    columns.push({
      title: <span className="sk-hidden">{t("action.tune")}</span>,
      align: "right",
      render: (_, { id, available }) =>
        available && (
          <Link to={`/train?model=${id}`} aria-label={t("action.tuneWhat", { name: id })}>
            {t("action.tune")}
          </Link>
        ),
    });
  }
  return (
    <section className="sk-models-part">
      <div className="sk-row sk-models-filters">
        <h2>{t("base.title")}</h2>
        <Input allowClear value={search} placeholder={t("base.search")} aria-label={t("base.search")} onChange={(event) => setSearch(event.target.value)} />
        <Select
          value={task}
          aria-label={t("base.task")}
          onChange={setTask}
          options={[{ value: "", label: t("base.allTasks") }, ...tasks.map((one) => ({ value: one, label: words.task(one) }))]}
        />
      </div>
      {shown.length === 0 ? (
        <p className="sk-muted">{t("base.none")}</p>
      ) : (
        <div className="sk-table" role="region" aria-label={t("base.title")}>
          <Table<Model> columns={columns} dataSource={shown} rowKey="id" pagination={false} size="middle" scroll={{ x: "max-content" }} />
        </div>
      )}
    </section>
  );
}
