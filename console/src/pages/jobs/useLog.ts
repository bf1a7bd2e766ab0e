import { useEffect, useState } from "react";

import { ProblemError } from "../../api/problem";
import { type LogLine, readLog } from "./logStream";

const KEPT = 5_000;
const TAIL = 500;
const [FIRST_PAUSE_MS, LAST_PAUSE_MS] = [1_000, 15_000];

export interface Log {
  lines: LogLine[];
  state: "connecting" | "following" | "ended" | "failed";
  error: ProblemError | null;
}

const START: Log = { lines: [], state: "connecting", error: null };

/** The last lines of an attempt (null: the newest, and those that follow), and what comes. Resumes where it broke off. */
export function useLog(jobId: string, attempt: number | null): Log {
  const [log, setLog] = useState<Log>(START);
  useEffect(() => {
    const stop = new AbortController();
    let [position, pauseMs] = ["", FIRST_PAUSE_MS];
    let timer: ReturnType<typeof setTimeout>;
    const follow = async () => {
      const query = new URLSearchParams({ follow: "true", tail: String(TAIL) });
      if (attempt !== null) query.set("attempt", String(attempt));
      if (position !== "") query.set("after", position);
      try {
        const ended = await readLog(`/v1/jobs/${jobId}/logs?${query}`, stop.signal, {
          lines: (more) => {
            pauseMs = FIRST_PAUSE_MS;
            setLog((old) => ({ lines: [...old.lines, ...more].slice(-KEPT), state: "following", error: null }));
          },
          position: (id) => {
            position = id;
          },
        });
        if (ended) return setLog((old) => ({ ...old, state: "ended" }));
      } catch (error) {
        if (stop.signal.aborted) return undefined;
        if (error instanceof ProblemError && !error.isPassing) return setLog((old) => ({ ...old, state: "failed", error }));
      }
      if (stop.signal.aborted) return undefined;
      setLog((old) => ({ ...old, state: "connecting" }));
      timer = setTimeout(() => void follow(), pauseMs);
      pauseMs = Math.min(2 * pauseMs, LAST_PAUSE_MS);
      return undefined;
    };
    setLog(START);
    void follow();
    return () => {
      stop.abort();
      clearTimeout(timer);
    };
  }, [jobId, attempt]);
  return log;
}
