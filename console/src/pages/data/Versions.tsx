import { type TableColumnsType } from "antd";
import { Link } from "react-router";

import type { Pages } from "../../api/usePages";
import { usePreferences } from "../../app/preferences";
import { DataTable } from "../../components/DataTable";
import { TimeAgo } from "../../components/Figures";
import { bytes } from "../../i18n/figures";
import type { Dataset } from "./documents";
import { useCount } from "./figures";
import { useDataText } from "./text";

/** Every version with what changed since the one before it. */
export function Versions({ pages, shown }: { pages: Pages<Dataset>; shown: Dataset }) {
  const t = useDataText();
  const { locale } = usePreferences();
  const count = useCount();
  const rows = pages.rows ?? [];
  const before = ({ version }: Dataset) => rows.find((one) => one.version < version);
  const figure = (of: (one: Dataset) => number | undefined, told: (value: number) => string) =>
    function Cell(_: unknown, one: Dataset) {
      const [now, then] = [of(one), before(one) && of(before(one) as Dataset)];
      const change = now === undefined || then === undefined ? 0 : now - then;
      return (
        <span className="sk-figure">
          {change !== 0 && <span className="sk-data-change">{`${change > 0 ? "+" : "−"}${told(Math.abs(change))}`}</span>}
          {now === undefined ? "–" : told(now)}
        </span>
      );
    };
  const columns: TableColumnsType<Dataset> = [
    {
      title: t("versions.version"),
      render: (_, { name, version, id }) => (
        <span className="sk-row">
          <Link to={`/data/${name}?version=${version}`}>{t("one.version", { version })}</Link>
          {id === rows[0]?.id && <span className="sk-tag" data-tone="off">{t("versions.newest")}</span>}
          {id === shown.id && <span className="sk-tag" data-tone="busy">{t("versions.shown")}</span>}
        </span>
      ),
    },
    { title: t("versions.rows"), align: "right", render: figure((one) => one.rows, count) },
    { title: t("versions.tokens"), align: "right", render: figure((one) => one.estimated_tokens, count) },
    { title: t("versions.size"), align: "right", render: figure((one) => one.bytes, (value) => bytes(value, locale)) },
    { title: t("versions.duplicates"), align: "right", render: figure((one) => one.report.duplicates, count) },
    { title: t("list.origin"), render: (_, { lineage }) => t(lineage ? "origin.traffic" : "origin.upload") },
    { title: t("versions.created"), dataIndex: "created_at", render: (at: string) => <TimeAgo at={at} /> },
  ];
  return (
    <section className="sk-data-versions">
      <h2>{t("versions.title")}</h2>
      <DataTable label={t("versions.title")} pages={pages} columns={columns} rowKey={(one) => one.id} empty={null} />
    </section>
  );
}
