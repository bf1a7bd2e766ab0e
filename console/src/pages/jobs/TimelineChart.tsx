import { useId } from "react";

import { usePreferences } from "../../app/preferences";
import { useDuration } from "../../components/Figures";
import { dateTime, money } from "../../i18n/figures";
import { useWidth } from "../train/useWidth";
import type { Timeline } from "./documents";
import { phaseOf } from "./JobHead";
import { outcomeOf } from "./said";
import { useJobsText } from "./text";
import { type Lane, type Shape, shapeOf, stepped } from "./timelineShape";
import { useRule } from "./waiting";

const [LANE, BAR, AXIS, PRICES, GAP, END] = [40, 18, 26, 120, 34, 14];
const NARROW = 620;
/** Of the axis: in a shorter wait its rule has no room. */
const NAMED_WAIT = 0.1;
/** Pixels of a small letter, more or less. */
const LETTER = 6.2;
const COLORS = ["chart-1", "chart-3", "chart-4", "chart-5"];

/** Attempts above, spot prices below, on one axis. Said in a sentence, and as a table beside it. */
export function TimelineChart({ timeline }: { timeline: Timeline }) {
  const t = useJobsText();
  const rule = useRule();
  const duration = useDuration();
  const { locale } = usePreferences();
  const [holder, width] = useWidth(900);
  const described = useId();
  const shape = shapeOf(timeline);
  const left = width < NARROW ? 56 : 176;
  const x = (seconds: number) => left + (seconds / shape.span) * Math.max(1, width - left - END);
  const waitsAt = AXIS + shape.lanes.length * LANE;
  const gantt = waitsAt + (shape.waits.length > 0 ? LANE - 8 : 0);
  const height = gantt + (shape.prices.length > 0 ? GAP + PRICES + 8 : 8);
  const interruptions = shape.lanes.filter((lane) => lane.outcome === "lost" || lane.outcome === "drained").length;
  const summary = t("timeline.summary", {
    time: duration(shape.now),
    attempts: timeline.attempts.length,
    interruptions,
    checkpoints: timeline.events.filter((event) => event.kind === "checkpoint").length,
  });
  if (shape.lanes.length === 0 && shape.waits.length === 0) return <p className="sk-hint">{t("timeline.empty")}</p>;
  return (
    <figure className="sk-jobs-timeline" ref={holder}>
      <p id={described} className="sk-hint">
        {summary} {timeline.deadline && shape.deadline === null && t("timeline.deadlineLater", { at: dateTime(new Date(timeline.deadline), locale) })}
        {shape.hidden > 0 && ` ${t("timeline.hidden", { count: shape.hidden })}`}
      </p>
      <svg width={width} height={height} role="img" aria-label={t("timeline.title")} aria-describedby={described}>
        <defs>
          <pattern id={`${described}-wait`} width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
            <rect width="6" height="6" className="sk-jobs-wait-ground" />
            <line x1="0" y1="0" x2="0" y2="6" className="sk-jobs-wait-line" />
          </pattern>
        </defs>
        {shape.ticks.filter((_, index) => width >= NARROW || index % 2 === 0).map((tick) => (
          <g key={tick}>
            <line className="sk-jobs-gridline" x1={x(tick)} x2={x(tick)} y1={AXIS - 6} y2={height - 8} />
            <text x={x(tick)} y={12} textAnchor={tick === 0 ? "start" : x(tick) > width - 40 ? "end" : "middle"}>
              {tick === 0 ? "0" : duration(tick)}
            </text>
          </g>
        ))}
        {shape.lanes.map((lane, index) => (
          <LaneShape key={lane.number} lane={lane} y={AXIS + index * LANE} x={x} left={left} width={width} />
        ))}
        {shape.waits.length > 0 && (
          <g>
            <text x={0} y={waitsAt + 16} className="sk-jobs-lane-name">
              {t("waits")}
            </text>
            {shape.waits.map((wait) => (
              <g key={wait.start}>
                <rect x={x(wait.start)} y={waitsAt + 5} width={Math.max(2, x(wait.end) - x(wait.start))} height={12} rx={2} fill={`url(#${CSS.escape(`${described}-wait`)})`}>
                  <title>{`${rule(wait.rule)}: ${duration(wait.end - wait.start)}. ${wait.detail}`}</title>
                </rect>
                {wait.rule && (wait.end - wait.start) / shape.span >= NAMED_WAIT && (
                  <text x={(x(wait.start) + x(wait.end)) / 2} y={waitsAt + 29} textAnchor="middle" className="sk-jobs-small">
                    {fitting(rule(wait.rule), x(wait.end) - x(wait.start) + 24)}
                  </text>
                )}
              </g>
            ))}
          </g>
        )}
        <Limits shape={shape} x={x} bottom={gantt} />
        {shape.prices.length > 0 && <Prices shape={shape} x={x} left={left} top={gantt + GAP} width={width} />}
      </svg>
      <Legend shape={shape} />
    </figure>
  );
}

/** As much of a text as `room` pixels hold, by the usual width of a letter. */
function fitting(text: string, room: number): string {
  const letters = Math.floor(room / LETTER);
  return text.length <= letters ? text : letters < 4 ? "" : `${text.slice(0, letters - 1)}…`;
}

interface LaneShapeProps {
  lane: Lane;
  y: number;
  x: (seconds: number) => number;
  left: number;
  width: number;
}

function LaneShape({ lane, y, x, left, width }: LaneShapeProps) {
  const t = useJobsText();
  const duration = useDuration();
  const middle = y + 12;
  const isSpot = lane.capacity === "spot";
  const isLost = lane.outcome === "lost" || (lane.outcome === "drained" && lane.reason !== "");
  const said = [
    t("attempt.steps", { from: lane.fromStep, to: lane.toStep }),
    lane.lostSteps > 0 ? t("attempt.lost", { count: lane.lostSteps }) : "",
    outcomeOf(lane.outcome, lane.reason, t),
  ]
    .filter(Boolean)
    .join(" · ");
  const saidAt = Math.max(left, Math.min(x(lane.start), width - said.length * LETTER));
  return (
    <g className="sk-jobs-lane" data-spot={isSpot}>
      <text x={0} y={middle + 4} className="sk-jobs-lane-name">
        #{lane.number}
      </text>
      {left > 100 && (
        <>
          <text x={24} y={middle} className="sk-jobs-lane-name">
            {fitting(lane.machine, left - 30)}
          </text>
          <text x={24} y={middle + 14} className="sk-jobs-small">
            {t(isSpot ? "spot" : "onDemand")} · {lane.place}
          </text>
        </>
      )}
      {lane.phases.map((phase) => (
        <rect
          key={`${phase.phase}${phase.start}`}
          className="sk-jobs-phase"
          data-phase={phase.phase}
          x={x(phase.start)}
          y={middle - BAR / 2}
          width={Math.max(1.5, x(phase.end) - x(phase.start))}
          height={BAR}
        >
          <title>{`${phaseOf(phase.phase, t)}: ${duration(phase.end - phase.start)}`}</title>
        </rect>
      ))}
      {lane.checkpoints.map((at) => (
        <circle key={at} className="sk-jobs-checkpoint" cx={x(at)} cy={middle} r={3.6}>
          <title>{t("event.checkpoint")}</title>
        </circle>
      ))}
      {lane.notices.map((at) => (
        <path key={at} className="sk-jobs-bad" d={`M${x(at) - 5} ${middle - 17}h10l-5 8z`}>
          <title>{t("event.notice")}</title>
        </path>
      ))}
      {isLost && lane.isOver && <path className="sk-jobs-cross" d={`M${x(lane.end) - 5} ${middle - 5}l10 10m0 -10l-10 10`} />}
      <text x={saidAt} y={middle + 22} className="sk-jobs-small">
        {fitting(said, width - saidAt)}
      </text>
    </g>
  );
}

function Limits({ shape, x, bottom }: { shape: Shape; x: (seconds: number) => number; bottom: number }) {
  const t = useJobsText();
  const lines: [string, number | null][] = [
    ["deadline", shape.deadline],
    ["return", shape.pointOfNoReturn !== null && shape.pointOfNoReturn >= 0 && shape.pointOfNoReturn <= shape.span ? shape.pointOfNoReturn : null],
    ["now", shape.now < shape.span ? shape.now : null],
  ];
  return lines.map(
    ([kind, at]) =>
      at !== null && (
        <line key={kind} className="sk-jobs-limit" data-kind={kind} x1={x(at)} x2={x(at)} y1={AXIS - 6} y2={bottom}>
          <title>{t(`limit.${kind}` as "limit.now")}</title>
        </line>
      ),
  );
}

interface PricesProps {
  shape: Shape;
  x: (seconds: number) => number;
  left: number;
  top: number;
  width: number;
}

function Prices({ shape, x, left, top, width }: PricesProps) {
  const t = useJobsText();
  const { locale } = usePreferences();
  const onDemand = [...new Set(shape.prices.map((line) => line.onDemand).filter((price) => price !== null))];
  const most = Math.max(...shape.prices.flatMap((line) => line.points.map(([, usd]) => usd)), ...onDemand) * 1.12 || 1;
  const y = (usd: number) => top + PRICES - (usd / most) * PRICES;
  return (
    <g>
      <text x={0} y={top - 12} className="sk-jobs-lane-name">
        {t("prices")}
      </text>
      <line className="sk-jobs-gridline" x1={left} x2={width - END} y1={top + PRICES} y2={top + PRICES} />
      {onDemand.map((usd) => (
        <g key={usd}>
          <line className="sk-jobs-on-demand" x1={left} x2={width - END} y1={y(usd)} y2={y(usd)} />
          <text x={width - END} y={y(usd) - 5} textAnchor="end" className="sk-jobs-small">
            {t("onDemand")} {money(usd, locale)}
          </text>
        </g>
      ))}
      {shape.prices.map((line, index) => {
        const points = stepped(line.points, shape.now);
        const last = points.at(-1);
        return (
          <g key={line.offer}>
            <polyline
              className="sk-jobs-price"
              style={{ stroke: `var(--sk-${COLORS[index % COLORS.length]})` }}
              points={points.map(([at, usd]) => `${x(at)},${y(usd)}`).join(" ")}
            />
            {last && (
              <text x={left - 8} y={y(line.points[0]?.[1] ?? 0) + 4} textAnchor="end" className="sk-jobs-small">
                {money(line.points[0]?.[1] ?? 0, locale)}
              </text>
            )}
          </g>
        );
      })}
    </g>
  );
}

function Legend({ shape }: { shape: Shape }) {
  const t = useJobsText();
  const kinds = new Set(shape.lanes.map((lane) => (lane.capacity === "spot" ? "spot" : "onDemand")));
  return (
    <figcaption className="sk-jobs-legend">
      {[...kinds].map((kind) => (
        <span key={kind}>
          <i data-key={kind} /> {t(kind as "spot")}
        </span>
      ))}
      {kinds.size > 0 && (
        <span>
          <i data-key="other" /> {t("legend.other")}
        </span>
      )}
      {shape.lanes.some((lane) => lane.checkpoints.length > 0) && (
        <span>
          <i data-key="checkpoint" /> {t("event.checkpoint")}
        </span>
      )}
      {shape.lanes.some((lane) => lane.notices.length > 0) && (
        <span>
          <i data-key="notice">▼</i> {t("event.notice")}
        </span>
      )}
      {shape.prices.map((line, index) => (
        <span key={line.offer}>
          <i data-key="line" style={{ background: `var(--sk-${COLORS[index % COLORS.length]})` }} /> {line.label}
        </span>
      ))}
    </figcaption>
  );
}
