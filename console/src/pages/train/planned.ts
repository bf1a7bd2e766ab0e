/** What a plan says, computed from its document. Pure. */

import type { Candidate, Placement, Plan, Rejection } from "./documents";

export const machinesOf = (candidate: Candidate): number => candidate.machine_count ?? 1;

/** USD an hour of all machines together. */
export const hourlyOf = (candidate: Candidate): number => candidate.placement.price_usd_per_hour * machinesOf(candidate);

/** The zone, whose id is the same for every account; or the region where prices are per region. */
export function placeOf({ zone, region }: Placement): string {
  return zone === "" || zone === "*" ? region : zone;
}

export function acceleratorsOf({ accelerator_name, accelerator_count }: Placement): string {
  return accelerator_name === "" ? "" : `${accelerator_count} × ${accelerator_name}`;
}

/** What spot saves against the same machines on demand; null: nothing, or it is not known. */
export function savingOf({ placement, total_usd, on_demand_total_usd }: Candidate): { usd: number; fraction: number; onDemandUsd: number } | null {
  const expected = total_usd?.expected;
  if (placement.capacity_type !== "spot" || !on_demand_total_usd || expected === null || expected === undefined) return null;
  if (expected >= on_demand_total_usd) return null;
  return { usd: on_demand_total_usd - expected, fraction: 1 - expected / on_demand_total_usd, onDemandUsd: on_demand_total_usd };
}

export interface Rejected {
  reason: string;
  count: number;
  first: Rejection;
}

/** By reason, the most frequent first. */
export function rejectedBy(rejections: Rejection[]): Rejected[] {
  const reasons = new Map<string, Rejected>();
  for (const rejection of rejections) {
    const known = reasons.get(rejection.reason);
    if (known) known.count += 1;
    else reasons.set(rejection.reason, { reason: rejection.reason, count: 1, first: rejection });
  }
  return [...reasons.values()].sort((a, b) => b.count - a.count);
}

export interface ParetoPoint {
  index: number;
  hours: number;
  usd: number;
  isSpot: boolean;
  isOnFront: boolean;
}

/** Candidates that can be drawn, in their order: the first is the chosen one. */
export function pointsOf(plan: Plan): ParetoPoint[] {
  return (plan.candidates ?? []).flatMap((candidate, index) => {
    const [hours, usd] = [candidate.hours?.expected, candidate.total_usd?.expected];
    if (typeof hours !== "number" || typeof usd !== "number") return [];
    return [{ index, hours, usd, isSpot: candidate.placement.capacity_type === "spot", isOnFront: candidate.on_pareto_front }];
  });
}

/** The frontier's points by time; one that only equals another is left out. */
export function frontOf(points: ParetoPoint[]): ParetoPoint[] {
  const front = points.filter((point) => point.isOnFront).sort((a, b) => a.hours - b.hours || a.usd - b.usd);
  return front.filter((point, index) => index === 0 || point.usd < (front[index - 1]?.usd ?? Infinity));
}

const ROUND = [1, 2, 2.5, 5, 10];
/** Seconds that read well as a duration. */
const ROUND_SECONDS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 172_800, 432_000];

/** A round scale around the values, of about five marks: from nothing, unless they lie near together far from it. */
export function scaleOf(values: number[], areSeconds = false): number[] {
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const spread = Math.max(most - least, most * 0.1, 1e-9);
  const from = least - spread * 0.3 > most * 0.3 ? least - spread * 0.3 : 0;
  const rough = (most + spread * 0.15 - from) / 4.5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const decimal = (ROUND.find((factor) => factor * power >= rough) ?? 10) * power;
  const step = areSeconds ? (ROUND_SECONDS.find((one) => one >= rough) ?? decimal) : decimal;
  const first = Math.floor(from / step);
  const count = Math.ceil((most + spread * 0.1) / step) - first;
  return Array.from({ length: count + 1 }, (_, index) => Number(((first + index) * step).toPrecision(12)));
}
