import type { DayCost } from "./DayBars";

const DAY_MS = 86_400_000;

/** Every day of a span, those without a row in the ledger too: nothing was paid then. Both ends are days in UTC. */
export function filled(costs: readonly DayCost[], since: string, until: string): DayCost[] {
  const told = new Map(costs.map((one) => [one.day, one]));
  const days: DayCost[] = [];
  for (let at = Date.parse(since); at <= Date.parse(until); at += DAY_MS) {
    const day = new Date(at).toISOString().slice(0, 10);
    days.push(told.get(day) ?? { day, paid_usd: 0, on_demand_usd: 0 });
  }
  return days;
}
