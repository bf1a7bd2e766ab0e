import { useQuery } from "@tanstack/react-query";

import { send } from "../../api/client";
import { keys } from "../../api/keys";
import { usePreferences } from "../../app/preferences";
import { Bytes } from "../../components/Figures";
import { Section } from "../../components/Page";
import { QueryState } from "../../components/QueryState";
import { number, percent } from "../../i18n/figures";
import type { Dataset } from "./documents";
import { useTrainText } from "./text";

interface Preview {
  rows: Record<string, unknown>[];
}

/** What was found out about a dataset when it was checked, and its first rows. */
export function DatasetReportView({ reference }: { reference: string }) {
  const t = useTrainText();
  const dataset = useQuery({
    queryKey: keys.dataset(reference),
    queryFn: ({ signal }) => send<Dataset>("GET", `/v1/datasets/${reference}`, { signal }),
  });
  const preview = useQuery({
    queryKey: [...keys.dataset(reference), "preview"],
    queryFn: ({ signal }) => send<Preview>("GET", `/v1/datasets/${reference}/preview`, { query: { rows: 3 }, signal }),
    enabled: dataset.data !== undefined && !dataset.data.format.includes("image"),
    retry: false,
  });
  return (
    <Section title={t("report.title", { reference })}>
      <QueryState query={dataset} rows={3}>
        {(data) => <Report dataset={data} />}
      </QueryState>
      {preview.data !== undefined && (
        <ol className="sk-train-preview" aria-label={t("report.preview")}>
          {preview.data.rows.map((row, index) => (
            <li key={index}>
              <Row row={row} />
            </li>
          ))}
        </ol>
      )}
    </Section>
  );
}

function Report({ dataset }: { dataset: Dataset }) {
  const t = useTrainText();
  const { locale } = usePreferences();
  const { report } = dataset;
  const lengths = report?.characters_per_row;
  const facts: [string, React.ReactNode][] = [
    [t("report.rows"), number(dataset.rows, locale, 12)],
    [t("report.size"), <Bytes key="size" count={dataset.bytes} />],
    [t("report.tokens"), number(dataset.estimated_tokens, locale, 6)],
  ];
  if (report?.share_learnt !== undefined) facts.push([t("report.learnt"), percent(report.share_learnt, locale)]);
  if (report?.duplicates !== undefined) facts.push([t("report.duplicates"), number(report.duplicates, locale, 12)]);
  if (lengths) facts.push([t("report.lengths"), t("report.lengthsOf", { median: number(lengths.median, locale), most: number(lengths.max, locale) })]);
  if (report?.labels) facts.push([t("report.classes"), number(report.labels.length, locale)]);
  return (
    <dl className="sk-train-facts">
      {facts.map(([name, value]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

interface Turn {
  role?: string;
  content?: unknown;
}

/** A row as its format reads: turns of a conversation, or columns. */
function Row({ row }: { row: Record<string, unknown> }) {
  const turns = row["messages"];
  if (Array.isArray(turns)) return <Turns turns={turns as Turn[]} />;
  return (
    <dl>
      {Object.entries(row).map(([column, value]) => (
        <div key={column}>
          <dt>{column}</dt>
          <dd>{Array.isArray(value) && typeof value[0] === "object" ? <Turns turns={value as Turn[]} /> : told(value)}</dd>
        </div>
      ))}
    </dl>
  );
}

function Turns({ turns }: { turns: Turn[] }) {
  return (
    <dl>
      {turns.map((turn, index) => (
        <div key={index} data-role={turn.role}>
          <dt>{turn.role}</dt>
          <dd>{told(turn.content)}</dd>
        </div>
      ))}
    </dl>
  );
}

const told = (value: unknown) => (typeof value === "string" ? value : JSON.stringify(value));
