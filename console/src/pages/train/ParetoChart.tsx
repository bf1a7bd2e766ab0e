import { type KeyboardEvent, useRef } from "react";

import { usePreferences } from "../../app/preferences";
import { useDuration } from "../../components/Figures";
import { money } from "../../i18n/figures";
import type { Plan } from "./documents";
import { frontOf, type ParetoPoint, placeOf, pointsOf, scaleOf } from "./planned";
import { useTrainText } from "./text";
import { useWidth } from "./useWidth";

const HEIGHT = 300;
const LEFT = 70;
const [TOP, RIGHT, BOTTOM] = [18, 30, 42];

/** Where on a scale a value lies, 0 to 1. */
function shareOf(value: number, scale: number[]): number {
  const [first = 0, last = 1] = [scale[0], scale.at(-1)];
  return (value - first) / (last - first || 1);
}

interface ParetoChartProps {
  plan: Plan;
  /** The candidate that is looked at. */
  active: number;
  onActive: (index: number) => void;
}

/** Hours against dollars: what lies on the line is beaten by nothing. Arrow keys go from candidate to candidate. */
export function ParetoChart({ plan, active, onActive }: ParetoChartProps) {
  const t = useTrainText();
  const { locale } = usePreferences();
  const duration = useDuration();
  const [holder, width] = useWidth(640);
  const marks = useRef(new Map<number, SVGGElement>());
  const points = pointsOf(plan);
  if (points.length === 0) return null;

  const byTime = [...points].sort((a, b) => a.hours - b.hours || a.usd - b.usd);
  const hours = scaleOf(points.map((point) => point.hours * 3600), true).map((seconds) => seconds / 3600);
  const usd = scaleOf(points.map((point) => point.usd));
  const x = (value: number) => LEFT + shareOf(value, hours) * (width - LEFT - RIGHT);
  const y = (value: number) => HEIGHT - BOTTOM - shareOf(value, usd) * (HEIGHT - TOP - BOTTOM);
  const front = frontOf(points);

  const go = (event: KeyboardEvent, point: ParetoPoint) => {
    const at = byTime.indexOf(point);
    const next = { ArrowRight: at + 1, ArrowUp: at + 1, ArrowLeft: at - 1, ArrowDown: at - 1, Home: 0, End: byTime.length - 1 }[event.key];
    const gone = next === undefined ? undefined : byTime[next];
    if (gone === undefined) return;
    event.preventDefault();
    onActive(gone.index);
    marks.current.get(gone.index)?.focus();
  };
  const name = ({ index }: ParetoPoint) => {
    const candidate = plan.candidates?.[index];
    return candidate ? `${candidate.placement.instance_type} ${t(`capacity.${candidate.placement.capacity_type}` as "capacity.spot")}, ${placeOf(candidate.placement)}` : "";
  };
  const told = (point: ParetoPoint) =>
    t("pareto.point", { name: name(point), time: duration(point.hours * 3600), usd: money(point.usd, locale) }) +
    (point.index === 0 ? `, ${t("plan.chosen")}` : "") +
    (point.isOnFront ? `, ${t("pareto.onFront")}` : "");
  const looked = points.find((point) => point.index === active) ?? points[0];

  return (
    <figure className="sk-train-pareto" ref={holder}>
      <svg width={width} height={HEIGHT} role="listbox" aria-label={t("pareto.label")} tabIndex={-1}>
        <g aria-hidden="true">
          {hours.map((tick) => (
            <g key={tick}>
              <line className="sk-train-gridline" x1={x(tick)} x2={x(tick)} y1={TOP} y2={HEIGHT - BOTTOM} />
              <text x={x(tick)} y={HEIGHT - BOTTOM + 17} textAnchor="middle">
                {tick === 0 ? "0" : duration(tick * 3600)}
              </text>
            </g>
          ))}
          {usd.map((tick) => (
            <g key={tick}>
              <line className="sk-train-gridline" x1={LEFT} x2={width - RIGHT} y1={y(tick)} y2={y(tick)} />
              <text x={LEFT - 8} y={y(tick) + 4} textAnchor="end">
                {money(tick, locale)}
              </text>
            </g>
          ))}
          <text x={width - RIGHT} y={HEIGHT - 6} textAnchor="end">
            {t("pareto.x")}
          </text>
          <text x={LEFT} y={11}>
            {t("pareto.y")}
          </text>
          {front.length > 1 && <polyline className="sk-train-front" points={front.map((point) => `${x(point.hours)},${y(point.usd)}`).join(" ")} />}
        </g>
        {byTime.map((point) => (
          <g
            key={point.index}
            ref={(element) => void (element === null ? marks.current.delete(point.index) : marks.current.set(point.index, element))}
            className="sk-train-mark"
            role="option"
            aria-selected={point.index === active}
            aria-label={told(point)}
            tabIndex={point.index === looked?.index ? 0 : -1}
            data-front={point.isOnFront}
            data-chosen={point.index === 0}
            onFocus={() => onActive(point.index)}
            onMouseEnter={() => onActive(point.index)}
            onKeyDown={(event) => go(event, point)}
          >
            <circle className="sk-train-mark-room" cx={x(point.hours)} cy={y(point.usd)} r={13} />
            {point.index === 0 && <circle className="sk-train-mark-ring" cx={x(point.hours)} cy={y(point.usd)} r={10} />}
            {point.isSpot ? (
              <circle className="sk-train-mark-dot" cx={x(point.hours)} cy={y(point.usd)} r={5} />
            ) : (
              <rect className="sk-train-mark-dot" x={x(point.hours) - 4.5} y={y(point.usd) - 4.5} width={9} height={9} />
            )}
          </g>
        ))}
      </svg>
      <figcaption>
        <span className="sk-train-key">
          <svg width="12" height="12" aria-hidden="true"><circle cx="6" cy="6" r="4.5" className="sk-train-mark-dot" /></svg>
          {t("capacity.spot")}
        </span>
        <span className="sk-train-key">
          <svg width="12" height="12" aria-hidden="true"><rect x="2" y="2" width="8" height="8" className="sk-train-mark-dot" /></svg>
          {t("capacity.on-demand")}
        </span>
        <span className="sk-train-key">
          <svg width="18" height="18" aria-hidden="true"><circle cx="9" cy="9" r="7" className="sk-train-mark-ring" /></svg>
          {t("plan.chosen")}
        </span>
        <span className="sk-train-key">
          <svg width="20" height="12" aria-hidden="true"><line x1="0" x2="20" y1="6" y2="6" className="sk-train-front" /></svg>
          {t("pareto.front")}
        </span>
        {looked !== undefined && <strong className="sk-train-looked">{told(looked)}</strong>}
      </figcaption>
    </figure>
  );
}
