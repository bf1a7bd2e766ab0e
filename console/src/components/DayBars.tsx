import "./DayBars.css";

import { Button } from "antd";
import { useId, useState } from "react";

import { usePreferences } from "../app/preferences";
import { useCommonText } from "../app/text";
import { day, money } from "../i18n/figures";

export interface DayCost {
  /** "2026-11-29", in UTC. */
  day: string;
  paid_usd: number;
  on_demand_usd: number;
}

interface DayBarsProps {
  title: string;
  labels: { day: string; paid: string; onDemand: string; total: string };
  days: DayCost[];
}

const LABELS_AT_MOST = 7;

/** What each day cost, before what it would have cost on demand; said in a sentence, and as a table to who asks. */
export function DayBars({ title, labels, days }: DayBarsProps) {
  const t = useCommonText();
  const { locale } = usePreferences();
  const [asTable, setAsTable] = useState(false);
  const [pointedAt, setPointedAt] = useState<number | null>(null);
  const summaryId = useId();
  if (days.length === 0) return <p className="sk-chart-empty">{t("chart.empty")}</p>;

  const top = niceTop(Math.max(...days.map((one) => Math.max(one.paid_usd, one.on_demand_usd))));
  const sum = (of: (one: DayCost) => number) => days.reduce((total, one) => total + of(one), 0);
  const total = { paid_usd: sum((one) => one.paid_usd), on_demand_usd: sum((one) => one.on_demand_usd) };
  const pointed = pointedAt === null ? undefined : days[pointedAt];
  const told = pointed ?? total;
  const step = Math.ceil(days.length / LABELS_AT_MOST);
  return (
    <figure className="sk-chart sk-bars">
      <figcaption className="sk-chart-legend">
        <strong>{pointed ? day(pointed.day, locale) : labels.total}</strong>
        <Key kind="paid" label={labels.paid} value={money(told.paid_usd, locale)} />
        <Key kind="demand" label={labels.onDemand} value={money(told.on_demand_usd, locale)} />
        <Button type="link" size="small" onClick={() => setAsTable(!asTable)}>
          {t(asTable ? "chart.showChart" : "chart.showTable")}
        </Button>
      </figcaption>
      {asTable ? (
        <Table title={title} labels={labels} days={days} />
      ) : (
        <div role="img" aria-label={title} aria-describedby={summaryId} className="sk-bars-plot">
          <div className="sk-bars-axis" aria-hidden="true">
            {[top, top / 2, 0].map((value, index) => (
              <span key={index}>{money(value, locale)}</span>
            ))}
          </div>
          <div className="sk-bars-days" onPointerLeave={() => setPointedAt(null)}>
            {days.map((one, index) => (
              <div key={one.day} className="sk-bars-day" data-pointed={index === pointedAt} onPointerEnter={() => setPointedAt(index)}>
                <span className="sk-bars-demand" style={{ height: `${(100 * one.on_demand_usd) / top}%` }} />
                <span className="sk-bars-paid" style={{ height: `${(100 * one.paid_usd) / top}%` }} />
                {(days.length - 1 - index) % step === 0 && (
                  <span className="sk-bars-label" data-minor={(days.length - 1 - index) % (2 * step) !== 0}>
                    {day(one.day, locale)}
                  </span>
                )}
              </div>
            ))}
          </div>
        </div>
      )}
      <p id={summaryId} className="sk-hidden">
        {`${title}: ${labels.paid} ${money(total.paid_usd, locale)}, ${labels.onDemand} ${money(total.on_demand_usd, locale)}`}
      </p>
    </figure>
  );
}

function Key({ kind, label, value }: { kind: "paid" | "demand"; label: string; value: string }) {
  return (
    <span className="sk-chart-key">
      <span className={`sk-bars-swatch sk-bars-${kind}`} aria-hidden="true" />
      {label} <span className="sk-figure sk-bars-value">{value}</span>
    </span>
  );
}

function Table({ title, labels, days }: DayBarsProps) {
  const { locale } = usePreferences();
  return (
    // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex
    <div className="sk-chart-table" tabIndex={0} role="group" aria-label={title}>
      <table>
        <thead>
          <tr>
            <th scope="col">{labels.day}</th>
            <th scope="col">{labels.paid}</th>
            <th scope="col">{labels.onDemand}</th>
          </tr>
        </thead>
        <tbody>
          {days.map((one) => (
            <tr key={one.day}>
              <th scope="row">{day(one.day, locale)}</th>
              <td>{money(one.paid_usd, locale)}</td>
              <td>{money(one.on_demand_usd, locale)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

/** The least of 1, 2, 4, 5 times a power of ten that nothing passes: its half is short, too. */
function niceTop(most: number): number {
  if (most <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(most));
  return (([1, 2, 4, 5].find((each) => each * power >= most) ?? 10)) * power;
}
