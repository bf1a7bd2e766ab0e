import { useQuery } from "@tanstack/react-query";
import { Segmented } from "antd";
import { useMemo, useState } from "react";

import { keys } from "../../api/keys";
import { useRefreshOn } from "../../api/useEvents";
import { usePreferences } from "../../app/preferences";
import { Facts } from "../../components/Facts";
import { LineChart, type Series } from "../../components/LineChart";
import { Section } from "../../components/Page";
import { QueryState } from "../../components/QueryState";
import { number, percent } from "../../i18n/figures";
import type { Endpoint, FigureRow, FiguresDocument } from "./documents";
import { figuresQuery, type RangeName, RANGES } from "./queries";
import { useEndpointsText } from "./text";

/** What the monitor counted of its answers: latency, waits, tokens, errors. */
export function FigureCharts({ endpoint }: { endpoint: Endpoint }) {
  const t = useEndpointsText();
  const [range, setRange] = useState<RangeName>("hour");
  const series = useQuery(figuresQuery(endpoint.id, range, false));
  const whole = useQuery(figuresQuery(endpoint.id, range, true));
  useRefreshOn({ types: ["InferenceSampled"], subject: endpoint.id }, [...keys.figures, endpoint.id]);
  const picker = (
    <Segmented<RangeName>
      aria-label={t("charts.range")}
      value={range}
      onChange={setRange}
      options={(Object.keys(RANGES) as RangeName[]).map((name) => ({ value: name, label: t(`range.${name}`) }))}
    />
  );
  const answers = (whole.data?.figures ?? []).filter(isOfAnswers).sort((one, other) => other.spans - one.spans);
  const [chosen, setChosen] = useState<string | null>(null);
  const busiest = answers.find((row) => row.name === chosen) ?? answers[0];
  return (
    <Section title={t("charts.title")} actions={picker}>
      <div className="sk-stack">
        {answers.length > 1 && (
          <Segmented
            aria-label={t("charts.operation")}
            value={busiest?.name ?? ""}
            onChange={setChosen}
            options={answers.map(({ name }) => ({ value: name, label: name.split(" ")[0] ?? name }))}
          />
        )}
        <QueryState query={whole} rows={2}>{() => <Whole row={busiest} />}</QueryState>
        {busiest !== undefined && <QueryState query={series}>{(told) => <Charts told={told} name={busiest.name} />}</QueryState>}
      </div>
    </Section>
  );
}

/** A span that no client waited for, as the loading of a model, has no values. */
function isOfAnswers(row: FigureRow): boolean {
  return Object.keys(row.values).length > 0 || row.errors > 0;
}

function Whole({ row }: { row: FigureRow | undefined }) {
  const t = useEndpointsText();
  const { locale } = usePreferences();
  if (row === undefined) return <p className="sk-chart-empty">{t("charts.empty")}</p>;
  const { time_to_first_token_seconds: first, time_per_output_token_seconds: each, output_tokens: output, input_tokens: input } = row.values;
  const seconds = (value: number | null | undefined) => (value === null || value === undefined ? "–" : t("seconds", { count: number(value, locale, 3) }));
  return (
    <Facts
      facts={[
        { label: t("figure.requests"), value: number(row.spans, locale), detail: t("figure.errors", { percent: percent(row.error_fraction, locale) }) },
        { label: t("figure.latency"), value: seconds(row.p50_seconds), detail: `p95 ${seconds(row.p95_seconds)} · p99 ${seconds(row.p99_seconds)}` },
        { label: t("figure.first"), value: seconds(first?.p50), detail: `p95 ${seconds(first?.p95)}` },
        { label: t("figure.speed"), value: each?.mean ? t("perSecond", { count: number(1 / each.mean, locale, 3) }) : "–", detail: t("figure.speedDetail") },
        {
          label: t("figure.tokens"),
          value: number((input?.total ?? 0) + (output?.total ?? 0), locale, 6),
          detail: t("figure.tokensDetail", { input: number(input?.total ?? 0, locale, 6), output: number(output?.total ?? 0, locale, 6) }),
        },
      ]}
    />
  );
}

function Charts({ told, name }: { told: FiguresDocument; name: string }) {
  const t = useEndpointsText();
  const { locale } = usePreferences();
  const drawn = useMemo(() => seriesOf(told, name, t), [told, name, t]);
  const formats = useMemo(
    () => ({
      seconds: (value: number) => t("seconds", { count: number(value, locale, 3) }),
      rate: (value: number) => number(value, locale, 3),
    }),
    [t, locale],
  );
  const { x, latency, first, tokens, requests } = drawn;
  return (
    <div className="sk-endpoints-charts">
      <Chart title={t("chart.latency")} x={x} series={latency} format={formats.seconds} />
      <Chart title={t("chart.first")} x={x} series={first} format={formats.seconds} />
      <Chart title={t("chart.tokens")} x={x} series={tokens} format={formats.rate} />
      <Chart title={t("chart.requests")} x={x} series={requests} format={formats.rate} />
    </div>
  );
}

interface ChartProps {
  title: string;
  x: number[];
  series: Series[];
  format: (value: number) => string;
}

function Chart({ title, ...rest }: ChartProps) {
  const t = useEndpointsText();
  return (
    <div>
      <h3 className="sk-endpoints-chart-title">{title}</h3>
      <LineChart title={title} xLabel={t("charts.time")} xIs="time" height={170} {...rest} />
    </div>
  );
}

/** Windows without a request are gaps of the durations and zeros of the counts. */
function seriesOf({ figures, window_seconds }: FiguresDocument, name: string, t: ReturnType<typeof useEndpointsText>) {
  const rows = figures.filter((row) => row.name === name);
  const at = new Map(rows.map((row) => [Date.parse(row.window_start) / 1000, row]));
  const known = [...at.keys()];
  if (known.length === 0) return { x: [], latency: [], first: [], tokens: [], requests: [] };
  const [from, to] = [Math.min(...known) - window_seconds, Math.max(...known) + window_seconds];
  const x = Array.from({ length: Math.round((to - from) / window_seconds) + 1 }, (_, index) => from + index * window_seconds);
  const values = (pick: (row: FigureRow) => number | null | undefined, otherwise: number | null = null) =>
    x.map((time) => {
      const row = at.get(time);
      return row === undefined ? otherwise : (pick(row) ?? otherwise);
    });
  const perSecond = (name: string) => values((row) => (row.values[name]?.total ?? 0) / window_seconds, 0);
  return {
    x,
    latency: [
      { label: "p50", values: values((row) => row.p50_seconds) },
      { label: "p95", values: values((row) => row.p95_seconds) },
      { label: "p99", values: values((row) => row.p99_seconds), dashed: true },
    ],
    first: [
      { label: "p50", values: values((row) => row.values["time_to_first_token_seconds"]?.p50) },
      { label: "p95", values: values((row) => row.values["time_to_first_token_seconds"]?.p95) },
    ],
    tokens: [
      { label: t("series.output"), values: perSecond("output_tokens"), stepped: true, filled: true },
      { label: t("series.input"), values: perSecond("input_tokens"), stepped: true },
    ],
    requests: [
      { label: t("series.requests"), values: values((row) => (60 * row.spans) / window_seconds, 0), stepped: true, filled: true },
      { label: t("series.errors"), values: values((row) => (60 * row.errors) / window_seconds, 0), stepped: true },
    ],
  };
}
