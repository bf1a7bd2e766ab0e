/** A job's timeline as shapes on an axis of seconds since its submission. Pure. */

import type { Timeline } from "./documents";

const MAX_LANES = 20;
/** Of the axis: checkpoints nearer to each other than this are drawn as one. */
const DOT_SPACING = 0.012;
/** Of the axis: a shorter wait for no reason, as after the last attempt, is not drawn. */
const SEEN = 0.005;
const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 21_600, 43_200, 86_400, 172_800, 604_800];

export interface Lane {
  number: number;
  capacity: string;
  place: string;
  machine: string;
  start: number;
  end: number;
  isOver: boolean;
  outcome: string;
  reason: string;
  fromStep: number;
  toStep: number;
  lostSteps: number;
  phases: { phase: string; start: number; end: number }[];
  checkpoints: number[];
  notices: number[];
}

export interface PriceLine {
  offer: string;
  label: string;
  onDemand: number | null;
  isSpot: boolean;
  points: [number, number][];
}

export interface Shape {
  /** Seconds of the whole axis. */
  span: number;
  now: number;
  lanes: Lane[];
  hidden: number;
  waits: { start: number; end: number; rule: string; detail: string }[];
  deadline: number | null;
  pointOfNoReturn: number | null;
  prices: PriceLine[];
  ticks: number[];
}

export function shapeOf(timeline: Timeline): Shape {
  const began = Date.parse(timeline.from);
  const seconds = (at: string) => (Date.parse(at) - began) / 1000;
  const now = Math.max(1, seconds(timeline.until));
  const due = timeline.deadline === null ? null : seconds(timeline.deadline);
  // A deadline that is far away would press everything to the left: it is told, and not drawn.
  const isDrawn = due !== null && due <= 2 * now;
  const span = Math.max(now, isDrawn ? due : 0);
  const shown = timeline.attempts.slice(-MAX_LANES);
  const lanes = shown.map((attempt): Lane => {
    const own = timeline.events.filter((event) => event.attempt === attempt.number);
    return {
      number: attempt.number,
      capacity: attempt.placement.capacity_type,
      place: attempt.placement.zone === "*" || attempt.placement.zone === "" ? attempt.placement.region : attempt.placement.zone,
      machine: attempt.placement.instance_type,
      start: seconds(attempt.started_at),
      end: attempt.ended_at === null ? now : seconds(attempt.ended_at),
      isOver: attempt.ended_at !== null,
      outcome: attempt.outcome,
      reason: attempt.reason,
      fromStep: attempt.from_step,
      toStep: attempt.to_step,
      lostSteps: attempt.lost_steps,
      phases: attempt.phases.map((phase) => ({ phase: phase.phase, start: seconds(phase.started_at), end: seconds(phase.ended_at) })),
      checkpoints: spaced(own.filter((event) => event.kind === "checkpoint").map((event) => seconds(event.at)), span * DOT_SPACING),
      notices: own.filter((event) => event.kind === "notice").map((event) => seconds(event.at)),
    };
  });
  const prices = timeline.prices
    .filter((series) => series.points.length > 0)
    .map((series): PriceLine => {
      const [, , zone = "", instance = ""] = series.offer.split("/");
      return {
        offer: series.offer,
        label: `${instance} ${zone === "*" ? "" : zone}`.trim(),
        onDemand: series.on_demand_usd_per_hour || null,
        isSpot: series.capacity_type === "spot",
        points: series.points.map((point) => [Math.max(0, seconds(point.at)), point.usd_per_hour]),
      };
    });
  return {
    span,
    now,
    lanes,
    hidden: timeline.attempts.length - shown.length,
    waits: timeline.waits
      .map((wait) => ({ start: seconds(wait.from), end: seconds(wait.until), rule: wait.rule, detail: wait.detail }))
      .filter((wait) => wait.rule !== "" || wait.end - wait.start >= span * SEEN),
    deadline: isDrawn ? due : null,
    pointOfNoReturn: isDrawn && timeline.point_of_no_return ? seconds(timeline.point_of_no_return) : null,
    prices,
    ticks: ticksOf(span),
  };
}

function spaced(at: number[], apart: number): number[] {
  const kept: number[] = [];
  for (const [index, one] of at.entries()) {
    const isLast = index === at.length - 1;
    if (isLast || one - (kept.at(-1) ?? -Infinity) >= apart) kept.push(one);
  }
  return kept;
}

/** Round seconds, at most about seven of them. */
function ticksOf(span: number): number[] {
  const step = STEPS.find((one) => span / one <= 7) ?? Math.ceil(span / 7);
  return Array.from({ length: Math.floor(span / step) + 1 }, (_, index) => index * step);
}

/** The points of a line that holds each value until the next one, to `end`. */
export function stepped(points: [number, number][], end: number): [number, number][] {
  return points.flatMap(([at, value], index): [number, number][] => {
    const next = points[index + 1]?.[0] ?? Math.max(at, end);
    return [
      [at, value],
      [next, value],
    ];
  });
}
