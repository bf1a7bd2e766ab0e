import { send } from "../../api/client";
import { postForm, type Tell } from "../../api/postForm";
import { ProblemError } from "../../api/problem";
import type { Dataset, Upload } from "./documents";

/** Up to here a file goes in one request; above in parts that can be resumed. */
export const WHOLE_BYTES = 64 * 1024 * 1024;
const PART_BYTES = 16 * 1024 * 1024;
const AT_ONCE = 3;
const PAUSES_MS = [1_000, 2_000, 4_000, 8_000];
const STORED = "sskai.upload ";

/** A file in one request, checked while it comes in. */
export function sendWhole(file: File, name: string, tell: Tell, signal: AbortSignal): Promise<Dataset> {
  const form = new FormData();
  form.set("name", name);
  form.set("file", file);
  return postForm<Dataset>("/v1/datasets", form, (sent) => tell(Math.min(sent, file.size)), signal);
}

/**
 * A large file part by part: those that are there already are not sent again, also after the page was closed. Answers
 * once all is there; `validating` means that its rows are still being checked.
 */
export async function sendInParts(file: File, name: string, tell: Tell, signal: AbortSignal): Promise<Upload> {
  const upload = (await unfinished(file, name, signal)) ?? (await begun(file, name, signal));
  const there = new Set((upload.parts ?? []).map((part) => part.part_number));
  const sent = new Map<number, number>();
  const waiting: number[] = [];
  for (let number = 1; (number - 1) * upload.part_bytes < file.size; number += 1) {
    if (there.has(number)) sent.set(number, sizeOf(file, upload, number));
    else waiting.push(number);
  }
  const told = () => tell([...sent.values()].reduce((total, bytes) => total + bytes, 0));
  told();
  const failing = new AbortController();
  const either = AbortSignal.any([signal, failing.signal]);
  const work = async () => {
    for (let number = waiting.shift(); number !== undefined; number = waiting.shift()) {
      const part = number;
      await withRetries(either, () =>
        sendPart(file, upload, part, either, (bytes) => {
          sent.set(part, bytes);
          told();
        }),
      );
    }
  };
  try {
    await Promise.all(Array.from({ length: AT_ONCE }, work));
  } catch (error) {
    failing.abort();
    if (signal.aborted) await giveUp(file, name, upload.id);
    throw error;
  }
  try {
    const whole = await withRetries(signal, () => send<Upload>("POST", `/v1/uploads/${upload.id}/complete`, { body: {}, signal }));
    forget(file, name);
    return whole;
  } catch (error) {
    if (error instanceof ProblemError && !error.isPassing) forget(file, name);
    throw error;
  }
}

async function sendPart(file: File, upload: Upload, number: number, signal: AbortSignal, tell: Tell): Promise<void> {
  const from = (number - 1) * upload.part_bytes;
  const size = sizeOf(file, upload, number);
  const form = new FormData();
  form.set("part_number", String(number));
  form.set("data", file.slice(from, from + size));
  await postForm(`/v1/uploads/${upload.id}/parts`, form, (sent) => tell(Math.min(sent, size)), signal);
  tell(size);
}

function sizeOf(file: File, upload: Upload, number: number): number {
  return Math.min(upload.part_bytes, file.size - (number - 1) * upload.part_bytes);
}

async function begun(file: File, name: string, signal: AbortSignal): Promise<Upload> {
  const body = { bytes: file.size, filename: file.name, mime_type: file.type || "application/octet-stream", purpose: "fine-tune", name, part_bytes: PART_BYTES };
  const upload = await send<Upload>("POST", "/v1/uploads", { body, signal });
  localStorage.setItem(storedKey(file, name), upload.id);
  return upload;
}

/** The upload of this very file that was begun before, as far as it came. */
async function unfinished(file: File, name: string, signal: AbortSignal): Promise<Upload | null> {
  const id = localStorage.getItem(storedKey(file, name));
  if (id === null) return null;
  try {
    const upload = await send<Upload>("GET", `/v1/uploads/${id}`, { signal });
    if (upload.status === "pending") return upload;
  } catch (error) {
    if (!(error instanceof ProblemError) || error.isPassing) throw error;
  }
  forget(file, name);
  return null;
}

async function giveUp(file: File, name: string, id: string): Promise<void> {
  forget(file, name);
  // What nobody cancels expires by itself.
  await send("POST", `/v1/uploads/${id}/cancel`).catch(() => undefined);
}

async function withRetries<T>(signal: AbortSignal, attempt: () => Promise<T>): Promise<T> {
  for (const pauseMs of PAUSES_MS) {
    try {
      return await attempt();
    } catch (error) {
      if (!(error instanceof ProblemError) || !error.isPassing) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, pauseMs));
    signal.throwIfAborted();
  }
  return attempt();
}

function storedKey(file: File, name: string): string {
  return STORED + JSON.stringify([name, file.name, file.size, file.lastModified]);
}

function forget(file: File, name: string): void {
  localStorage.removeItem(storedKey(file, name));
}

export interface Unfinished {
  key: string;
  uploadId: string;
  name: string;
  filename: string;
  bytes: number;
}

/** Uploads that a closed page left behind: choosing the file again goes on with one. */
export function unfinishedUploads(): Unfinished[] {
  const found: Unfinished[] = [];
  for (const key of Object.keys(localStorage)) {
    if (!key.startsWith(STORED)) continue;
    const [name, filename, bytes] = JSON.parse(key.slice(STORED.length)) as [string, string, number];
    found.push({ key, uploadId: localStorage.getItem(key) ?? "", name, filename, bytes });
  }
  return found;
}

export function forgetUnfinished({ key, uploadId }: Unfinished): Promise<unknown> {
  localStorage.removeItem(key);
  return send("POST", `/v1/uploads/${uploadId}/cancel`).catch(() => undefined);
}
