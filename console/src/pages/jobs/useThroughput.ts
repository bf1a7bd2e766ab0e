import { useEffect, useState } from "react";

import { request } from "../../api/client";
import { useEvents } from "../../api/useEvents";
import { hasEnded, type Job } from "./documents";

const PAGES = 5;
const LIMIT = 100;

type Points = ReadonlyMap<number, number>;

const NONE: Points = new Map();

interface EventPage {
  data: { id: number; event: { data: Record<string, unknown> } }[];
  has_more: boolean;
  next: number | null;
}

/** Tokens a second by step: what the log of events still has, then what comes. */
export function useThroughput(job: Job): [number, number][] {
  const [points, setPoints] = useState<Points>(new Map());
  const { id } = job;
  useEffect(() => {
    const stop = new AbortController();
    history(id, stop.signal).then(
      (old) => setPoints((known) => new Map([...old, ...known])),
      // Without its history the chart begins now.
      () => undefined,
    );
    return () => stop.abort();
  }, [id]);
  useEvents({ types: ["AttemptProgressed"], subject: id }, ({ data }) => setPoints((known) => new Map([...known, ...pointOf(data)])));
  const now = job.progress;
  const shown = new Map(points);
  if (!hasEnded(job.state) && now?.tokens_per_second) shown.set(now.step, now.tokens_per_second);
  // One point makes no line.
  return useSorted(shown.size > 1 ? shown : NONE);
}

async function history(jobId: string, signal: AbortSignal): Promise<Points> {
  const points = new Map<number, number>();
  let after: number | null = null;
  for (let page = 0; page < PAGES; page += 1) {
    const query = new URLSearchParams({ format: "json", subject: jobId, types: "AttemptProgressed", order: "desc", limit: String(LIMIT) });
    if (after !== null) query.set("after", String(after));
    const response = await request(`/v1/events?${query}`, { headers: { Accept: "application/json" }, signal });
    if (!response.headers.get("content-type")?.startsWith("application/json")) {
      await response.body?.cancel();
      break;
    }
    const told = (await response.json()) as EventPage;
    // Newest first: what is there already is newer.
    for (const { event } of told.data) for (const [step, tokens] of pointOf(event.data)) if (!points.has(step)) points.set(step, tokens);
    if (!told.has_more || told.next === null) break;
    after = told.next;
  }
  return points;
}

function pointOf(data: Record<string, unknown>): [number, number][] {
  // Protobuf's JSON leaves out what is 0.
  const [step, tokens] = [Number(data["step"] ?? 0), Number(data["tokens_per_second"] ?? data["tokensPerSecond"] ?? 0)];
  return step > 0 && tokens > 0 ? [[step, tokens]] : [];
}

/** The same array as long as it holds the same, so that a chart does not draw anew. */
function useSorted(points: Points): [number, number][] {
  const sorted = [...points].sort((a, b) => a[0] - b[0]);
  const text = JSON.stringify(sorted);
  const [kept, keep] = useState({ text, sorted });
  if (kept.text !== text) keep({ text, sorted });
  return kept.sorted;
}
