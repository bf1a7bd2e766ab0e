import { useCallback, useSyncExternalStore } from "react";

import { usePreferences } from "../app/preferences";
import { useCommonText } from "../app/text";
import { bytes, dateTime, durationParts, money, timeAgo } from "../i18n/figures";

/** Dollars; a dash where nothing is known. */
export function Money({ usd }: { usd: number | null | undefined }) {
  const { locale } = usePreferences();
  return <span className="sk-figure">{usd === null || usd === undefined ? "–" : money(usd, locale)}</span>;
}

export function Bytes({ count }: { count: number | null | undefined }) {
  const { locale } = usePreferences();
  return <span className="sk-figure">{count === null || count === undefined ? "–" : bytes(count, locale)}</span>;
}

/** For places that want a string, as a chart's axis. */
export function useDuration(): (seconds: number) => string {
  const t = useCommonText();
  return useCallback(
    (seconds) => durationParts(seconds).map(({ part, count }) => t(`duration.${part}`, { count })).join(" "),
    [t],
  );
}

export function Duration({ seconds }: { seconds: number | null | undefined }) {
  const told = useDuration();
  return <span className="sk-figure">{seconds === null || seconds === undefined ? "–" : told(seconds)}</span>;
}

/** How long ago, with the exact time for who points at it and for machines. */
export function TimeAgo({ at }: { at: string | null | undefined }) {
  const { locale } = usePreferences();
  const now = useSyncExternalStore(watchMinute, currentMinute);
  if (at === null || at === undefined) return <span className="sk-figure">–</span>;
  const time = new Date(at);
  // The minute that is shown may have begun before what is told happened.
  return (
    <time className="sk-figure" dateTime={at} title={dateTime(time, locale)}>
      {timeAgo(time, new Date(Math.max(now, Math.min(time.getTime(), now + MINUTE_MS))), locale)}
    </time>
  );
}

const MINUTE_MS = 60_000;
const currentMinute = () => Math.floor(Date.now() / MINUTE_MS) * MINUTE_MS;

function watchMinute(changed: () => void): () => void {
  let timer: ReturnType<typeof setTimeout>;
  const wait = () => {
    timer = setTimeout(() => {
      changed();
      wait();
    }, MINUTE_MS - (Date.now() % MINUTE_MS));
  };
  wait();
  return () => clearTimeout(timer);
}
