/** Spans of whole days in UTC, as the ledger counts. Pure. */

export type SpanName = "month" | "last" | "days30" | "days90" | "custom";
export const SPANS: readonly SpanName[] = ["month", "last", "days30", "days90", "custom"];

export interface Span {
  /** First and last day, "2026-11-01". */
  first: string;
  last: string;
}

const DAY_MS = 86_400_000;

export function spanOf(name: Exclude<SpanName, "custom">, now: Date): Span {
  const [year, month] = [now.getUTCFullYear(), now.getUTCMonth()];
  if (name === "month") return { first: dayOf(Date.UTC(year, month, 1)), last: dayOf(now.getTime()) };
  if (name === "last") return { first: dayOf(Date.UTC(year, month - 1, 1)), last: dayOf(Date.UTC(year, month, 0)) };
  return { first: dayOf(now.getTime() - (name === "days30" ? 29 : 89) * DAY_MS), last: dayOf(now.getTime()) };
}

/** As `/v1/costs` wants it. */
export function queryOf({ first, last }: Span): { since: string; until: string } {
  return { since: `${first}T00:00:00Z`, until: `${last}T23:59:59Z` };
}

/** The newest months first: their names, "2026-11", and where each begins and the next one does. */
export function months(now: Date, count: number): { name: string; since: string; until: string }[] {
  return Array.from({ length: count }, (_, back) => {
    const at = (shift: number) => new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth() - back + shift, 1)).toISOString();
    return { name: at(0).slice(0, 7), since: at(0), until: at(1) };
  });
}

function dayOf(at: number): string {
  return new Date(at).toISOString().slice(0, 10);
}
