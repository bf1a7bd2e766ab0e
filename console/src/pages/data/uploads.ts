import { useSyncExternalStore } from "react";

import { send } from "../../api/client";
import { ProblemError } from "../../api/problem";
import { stream } from "../../api/useEvents";
import type { Dataset, Upload } from "./documents";
import { sendInParts, sendWhole, WHOLE_BYTES } from "./transfer";

export interface Sending {
  id: number;
  name: string;
  file: File;
  sentBytes: number;
  state: "sending" | "checking" | "kept" | "refused" | "failed";
  dataset: Dataset | null;
  problem: ProblemError | null;
}

/** Uploads of this page's life; they go on while other pages are looked at. */
let sendings: readonly Sending[] = [];
const stops = new Map<number, AbortController>();
const listeners = new Set<() => void>();
let lastId = 0;

function change(id: number, changes: Partial<Sending>): void {
  sendings = sendings.map((one) => (one.id === id ? { ...one, ...changes } : one));
  for (const listener of listeners) listener();
}

export function useSendings(): readonly Sending[] {
  return useSyncExternalStore(subscribe, () => sendings);
}

function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export function startUpload(file: File, name: string): void {
  lastId += 1;
  sendings = [{ id: lastId, name, file, sentBytes: 0, state: "sending", dataset: null, problem: null }, ...sendings];
  void run(lastId, file, name);
}

export function retryUpload({ id, file, name }: Sending): void {
  change(id, { state: "sending", problem: null, sentBytes: 0 });
  void run(id, file, name);
}

/** Stop it if it is under way, and take it off the list. */
export function dismissUpload(id: number): void {
  stops.get(id)?.abort();
  sendings = sendings.filter((one) => one.id !== id);
  for (const listener of listeners) listener();
}

async function run(id: number, file: File, name: string): Promise<void> {
  const stop = new AbortController();
  stops.set(id, stop);
  const tell = (sentBytes: number) => change(id, { sentBytes, state: sentBytes >= file.size ? "checking" : "sending" });
  change(id, {});
  try {
    const dataset =
      file.size <= WHOLE_BYTES
        ? await sendWhole(file, name, tell, stop.signal)
        : await checked(await sendInParts(file, name, tell, stop.signal), stop.signal);
    change(id, { state: "kept", dataset, sentBytes: file.size });
  } catch (error) {
    if (stop.signal.aborted) return;
    const problem = error instanceof ProblemError ? error : new ProblemError(0, String(error), "");
    change(id, { state: problem.document["reason"] === undefined ? "failed" : "refused", problem });
  } finally {
    stops.delete(id);
  }
}

/** The dataset, once all rows are checked: an event says so, and then the upload is read again. */
async function checked(upload: Upload, signal: AbortSignal): Promise<Dataset> {
  let now = upload;
  while (now.status === "validating") {
    const told = nextVerdict(upload.name, signal);
    now = await send<Upload>("GET", `/v1/uploads/${upload.id}`, { signal });
    if (now.status === "validating") {
      await told;
      now = await send<Upload>("GET", `/v1/uploads/${upload.id}`, { signal });
    }
  }
  if (now.file !== null) return send<Dataset>("GET", `/v1/datasets/${now.file.id}`, { signal });
  throw new ProblemError(422, "The dataset was refused", now.problem?.reason ?? "", { ...now.problem });
}

function nextVerdict(name: string, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const leave = stream.subscribe({ types: ["DatasetValidated", "DatasetRejected"] }, (event) => {
      if (event.data["name"] === name) done();
    });
    const done = () => {
      leave();
      resolve();
    };
    signal.addEventListener("abort", done, { once: true });
  });
}
