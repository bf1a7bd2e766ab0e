import { type QueryKey, useQueryClient } from "@tanstack/react-query";
import { useEffect, useEffectEvent, useSyncExternalStore } from "react";

import { type EventFilter, EventStream, type StreamEvent, type StreamState } from "./events";

/** One for the whole application; the layout starts it with the session. */
export const stream = new EventStream();

/** A run told step by step, or a burst of events, refreshes a page at most this often. */
const REFRESH_EVERY_MS = 500;

/** Calls `handle` for each event that the filter lets through, for as long as the component is shown. */
export function useEvents(filter: EventFilter, handle: (event: StreamEvent) => void): void {
  const latest = useEffectEvent(handle);
  const types = filter.types === "all" ? "all" : filter.types.join(",");
  const { subject } = filter;
  useEffect(() => {
    const wanted = types === "all" ? "all" : (types.split(",") as StreamEvent["type"][]);
    return stream.subscribe({ types: wanted, subject }, (event) => latest(event));
  }, [types, subject]);
}

/** Reads `key` again when such an event comes: `useRefreshOn({types: ["JobSucceeded"], subject: id}, keys.job(id))`. */
export function useRefreshOn(filter: EventFilter, ...refreshed: QueryKey[]): void {
  const client = useQueryClient();
  useEvents(filter, () => refreshed.forEach((key) => refreshSoon(key, () => client.invalidateQueries({ queryKey: key }))));
}

const waiting = new Set<string>();

function refreshSoon(key: QueryKey, refresh: () => void): void {
  const name = JSON.stringify(key);
  if (waiting.has(name)) return;
  waiting.add(name);
  setTimeout(() => {
    waiting.delete(name);
    refresh();
  }, REFRESH_EVERY_MS);
}

export function useStreamState(): StreamState {
  return useSyncExternalStore(stream.subscribeState, stream.currentState);
}
