import "uplot/dist/uPlot.min.css";

import { Button } from "antd";
import { useEffect, useId, useMemo, useRef, useState } from "react";
import uPlot from "uplot";

import { PALETTES } from "../app/palette";
import { usePreferences } from "../app/preferences";
import { useCommonText } from "../app/text";
import { FONT } from "../app/theme";
import { dateTime, number } from "../i18n/figures";

export interface Series {
  label: string;
  /** One for each of `x`; null: no point there. */
  values: (number | null)[];
  /** As bars do: the value holds until the next one. */
  stepped?: boolean;
  dashed?: boolean;
  filled?: boolean;
}

interface LineChartProps {
  title: string;
  /** Unix seconds where `xIs` is "time". */
  x: number[];
  xLabel: string;
  xIs?: "number" | "time";
  series: Series[];
  format?: (value: number) => string;
  height?: number;
}

const ROWS_OF_TABLE = 200;
const COLORS = ["chart1", "chart2", "chart3", "chart4", "chart5"] as const;

/** Lines over uPlot, said in a sentence to who cannot see them, and as a table to who asks for it. */
export function LineChart({ title, x, xLabel, xIs = "number", series, format, height = 220 }: LineChartProps) {
  const t = useCommonText();
  const { locale, theme } = usePreferences();
  const [asTable, setAsTable] = useState(false);
  const summaryId = useId();
  const told = useMemo(() => format ?? ((value: number) => number(value, locale)), [format, locale]);
  const toldX = (value: number) => (xIs === "time" ? dateTime(new Date(value * 1000), locale) : number(value, locale, 6));

  const summary = series.map((one) => {
    const points = one.values.filter((value) => value !== null);
    const [first, last] = [points[0], points.at(-1)];
    if (first === undefined || last === undefined) return t("chart.noPoints", { label: one.label });
    const [low, high] = [points.reduce((a, b) => Math.min(a, b)), points.reduce((a, b) => Math.max(a, b))];
    return t("chart.series", { label: one.label, first: told(first), last: told(last), low: told(low), high: told(high) });
  });

  if (x.length === 0) return <p className="sk-chart-empty">{t("chart.empty")}</p>;
  return (
    <figure className="sk-chart">
      <figcaption className="sk-chart-legend">
        {series.map((one, index) => (
          <span key={one.label} className="sk-chart-key">
            <span className="sk-chart-swatch" style={{ background: PALETTES[theme][colorOf(index)] }} aria-hidden="true" />
            {one.label}
          </span>
        ))}
        <Button type="link" size="small" onClick={() => setAsTable(!asTable)}>
          {t(asTable ? "chart.showChart" : "chart.showTable")}
        </Button>
      </figcaption>
      <p id={summaryId} className="sk-hidden">
        {t("chart.summary", { title, series: summary.join("; ") })}
      </p>
      {asTable ? (
        // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex
        <div className="sk-chart-table" tabIndex={0} role="group" aria-label={title}>
          <table>
            <thead>
              <tr>
                <th scope="col">{xLabel}</th>
                {series.map((one) => (
                  <th key={one.label} scope="col">
                    {one.label}
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {thinned(x.length).map((row) => (
                <tr key={row}>
                  <th scope="row">{toldX(x[row] ?? 0)}</th>
                  {series.map((one) => {
                    const value = one.values[row];
                    return <td key={one.label}>{value === null || value === undefined ? "–" : told(value)}</td>;
                  })}
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      ) : (
        <div role="img" aria-label={title} aria-describedby={summaryId}>
          <Plot {...{ x, xIs, series, height, told }} />
        </div>
      )}
    </figure>
  );
}

interface PlotProps {
  x: number[];
  xIs: "number" | "time";
  series: Series[];
  height: number;
  told: (value: number) => string;
}

function Plot({ x, xIs, series, height, told }: PlotProps) {
  const holder = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const { theme, locale } = usePreferences();
  const data = useMemo<uPlot.AlignedData>(() => [x, ...series.map((one) => one.values)], [x, series]);
  const latest = useRef(data);
  // What a new plot is needed for; new points only move the old one.
  const look = JSON.stringify(series.map(({ label, stepped, dashed, filled }) => [label, stepped, dashed, filled]));

  useEffect(() => {
    const element = holder.current;
    if (element === null) return undefined;
    const drawn = new uPlot(optionsOf(look, { theme, locale, xIs, height, told, width: element.clientWidth }), latest.current, element);
    plot.current = drawn;
    const watcher = new ResizeObserver(() => drawn.setSize({ width: element.clientWidth, height }));
    watcher.observe(element);
    return () => {
      watcher.disconnect();
      drawn.destroy();
      plot.current = null;
    };
  }, [look, theme, locale, xIs, height, told]);

  useEffect(() => {
    latest.current = data;
    plot.current?.setData(data);
  }, [data]);

  return <div ref={holder} className="sk-chart-plot" style={{ height }} />;
}

interface Look {
  theme: "light" | "dark";
  locale: string;
  xIs: "number" | "time";
  height: number;
  width: number;
  told: (value: number) => string;
}

function optionsOf(look: string, { theme, locale, xIs, height, width, told }: Look): uPlot.Options {
  const colors = PALETTES[theme];
  const series = JSON.parse(look) as [string, boolean | null, boolean | null, boolean | null][];
  const axis = { stroke: colors.textMuted, grid: { stroke: colors.line, width: 1 }, ticks: { show: false }, font: `11px ${FONT}` };
  const dates = new Intl.DateTimeFormat(locale, { month: "short", day: "numeric" });
  const times = new Intl.DateTimeFormat(locale, { hour: "2-digit", minute: "2-digit" });
  const timeTicks = (_plot: uPlot, ticks: number[], _axis: number, _space: number, step: number) =>
    ticks.map((tick) => (step >= 86_400 ? dates : times).format(new Date(tick * 1000)));
  return {
    width,
    height,
    legend: { show: false },
    cursor: { y: false, drag: { x: false, y: false } },
    scales: { x: { time: xIs === "time" } },
    axes: [
      xIs === "time" ? { ...axis, values: timeTicks } : axis,
      { ...axis, size: 64, values: (_plot, ticks) => ticks.map(told) },
    ],
    series: [
      {},
      ...series.map(([label, stepped, dashed, filled], index) => {
        const stroke = colors[colorOf(index)];
        const one: uPlot.Series = { label, stroke, width: 1.8, points: { show: false }, spanGaps: true };
        if (stepped && uPlot.paths.stepped) one.paths = uPlot.paths.stepped({ align: 1 });
        if (dashed) one.dash = [5, 4];
        if (filled) one.fill = `${stroke}22`;
        return one;
      }),
    ],
  };
}

function colorOf(index: number): (typeof COLORS)[number] {
  return COLORS[index % COLORS.length] ?? "chart1";
}

/** The rows that a table shows: all of them, or evenly chosen ones with the last. */
function thinned(count: number): number[] {
  if (count <= ROWS_OF_TABLE) return Array.from({ length: count }, (_, row) => row);
  const step = (count - 1) / (ROWS_OF_TABLE - 1);
  return Array.from({ length: ROWS_OF_TABLE }, (_, row) => Math.round(row * step));
}
