/** Figures as a language writes them; pure. Components beside (Money, Duration, TimeAgo) show them. */

import type { Locale } from "./text";

/** Small sums keep what makes them more than zero: $0.00028, $0.0042, $1.20, $1,234. */
export function money(usd: number, locale: Locale): string {
  const size = Math.abs(usd);
  const style = { style: "currency", currency: "USD", currencyDisplay: "narrowSymbol" } as const;
  if (size > 0 && size < 0.001) return new Intl.NumberFormat(locale, { ...style, maximumSignificantDigits: 2 }).format(usd);
  const digits = size === 0 || size >= 1 ? (size >= 1000 ? 0 : 2) : size >= 0.1 ? 3 : 4;
  return new Intl.NumberFormat(locale, {
    ...style,
    minimumFractionDigits: Math.min(digits, 2),
    maximumFractionDigits: digits,
  }).format(usd);
}

export type DurationPart = "days" | "hours" | "minutes" | "seconds";

const PARTS: [DurationPart, number][] = [
  ["days", 86_400],
  ["hours", 3_600],
  ["minutes", 60],
  ["seconds", 1],
];

/** At most two parts, the largest first: 90061 s is 1 day and 1 hour. */
export function durationParts(seconds: number): { part: DurationPart; count: number }[] {
  let rest = Math.max(0, Math.round(seconds));
  if (rest === 0) return [{ part: "seconds", count: 0 }];
  const first = PARTS.findIndex(([, length]) => rest >= length);
  const told = [];
  for (const [part, length] of PARTS.slice(first, first + 2)) {
    const count = Math.floor(rest / length);
    rest -= count * length;
    if (count > 0) told.push({ part, count });
  }
  return told;
}

/** "3 minutes ago", "in 2 days". */
export function timeAgo(time: Date, now: Date, locale: Locale): string {
  const seconds = (time.getTime() - now.getTime()) / 1000;
  const formatter = new Intl.RelativeTimeFormat(locale, { numeric: "auto" });
  const size = Math.abs(seconds);
  if (size < 45) return formatter.format(0, "second");
  if (size < 3_600) return formatter.format(Math.round(seconds / 60), "minute");
  if (size < 86_400) return formatter.format(Math.round(seconds / 3_600), "hour");
  return formatter.format(Math.round(seconds / 86_400), "day");
}

export function dateTime(time: Date, locale: Locale): string {
  return new Intl.DateTimeFormat(locale, { dateStyle: "medium", timeStyle: "short" }).format(time);
}

const SIZES = ["B", "KB", "MB", "GB", "TB"];

export function bytes(count: number, locale: Locale): string {
  const power = count < 1000 ? 0 : Math.min(SIZES.length - 1, Math.floor(Math.log10(count) / 3));
  const figure = new Intl.NumberFormat(locale, { maximumSignificantDigits: 3 }).format(count / 1000 ** power);
  return `${figure} ${SIZES[power] ?? "B"}`;
}

export function number(value: number, locale: Locale, digits = 4): string {
  return new Intl.NumberFormat(locale, { maximumSignificantDigits: digits }).format(value);
}

export function percent(fraction: number, locale: Locale): string {
  return new Intl.NumberFormat(locale, { style: "percent", maximumFractionDigits: 1 }).format(fraction);
}

export function date(time: Date, locale: Locale): string {
  return new Intl.DateTimeFormat(locale, { dateStyle: "medium" }).format(time);
}

/** A day of the ledger, which counts in UTC: "2026-11-29" is Nov 29 wherever one is. */
export function day(iso: string, locale: Locale): string {
  return new Intl.DateTimeFormat(locale, { month: "short", day: "numeric", timeZone: "UTC" }).format(new Date(`${iso}T00:00:00Z`));
}

/** 1.2K, 70.6B (한국어: 706억): counts of tokens, rows and parameters. */
export function compact(count: number, locale: Locale): string {
  return new Intl.NumberFormat(locale, { notation: "compact", maximumSignificantDigits: 3 }).format(count);
}
