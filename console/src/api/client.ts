import createClient from "openapi-fetch";

import { ProblemError, problemOf } from "./problem";
import type { paths } from "./schema";

let csrfToken: string | null = null;
let whenSignedOut: () => void = () => undefined;

/** The token of the session: each request that changes something sends it. */
export function setCsrfToken(token: string | null): void {
  csrfToken = token;
}

/** For uploads by XMLHttpRequest, which alone tells their progress. */
export function csrfHeaders(): Record<string, string> {
  return csrfToken === null ? {} : { "X-CSRF-Token": csrfToken };
}

/** What happens when the gateway says that there is no session any more. */
export function onSignedOut(listener: () => void): void {
  whenSignedOut = listener;
}

/** `fetch` with the session's token. Raises ProblemError for everything that is not 2xx, and where no answer comes. */
export async function request(input: string | Request, init?: RequestInit): Promise<Response> {
  const asked = new Request(input, init);
  if (asked.method !== "GET" && asked.method !== "HEAD") {
    for (const [name, value] of Object.entries(csrfHeaders())) asked.headers.set(name, value);
  }
  let response: Response;
  try {
    response = await fetch(asked);
  } catch (error) {
    if (asked.signal.aborted) throw error;
    throw new ProblemError(0, "The gateway does not answer", "Check that it runs and that you are connected.");
  }
  if (response.ok) return response;
  const isSigningIn = asked.method === "POST" && new URL(asked.url).pathname === "/v1/session";
  if (response.status === 401 && !isSigningIn) whenSignedOut();
  throw await problemOf(response);
}

/** Routes, parameters and bodies typed by openapi.json: `as<Job>(api.GET("/v1/jobs/{job_id}", {params: ...}))`. */
export const api = createClient<paths>({ baseUrl: "/", fetch: (asked) => request(asked) });

/** The document that an answer holds; openapi.json says of most only that they are objects. */
export async function as<T>(answer: Promise<{ data?: unknown }>): Promise<T> {
  return (await answer).data as T;
}

interface SendOptions {
  query?: Record<string, string | number | boolean | null | undefined>;
  body?: unknown;
  headers?: Record<string, string>;
  signal?: AbortSignal;
}

/** A request by its bare path; `body` becomes JSON. `undefined` where the answer is empty. */
export async function send<T>(method: string, path: string, options: SendOptions = {}): Promise<T> {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(options.query ?? {})) {
    if (value !== undefined && value !== null && value !== "") query.set(name, String(value));
  }
  const init: RequestInit = { method, headers: { ...options.headers } };
  if (options.signal) init.signal = options.signal;
  if (options.body !== undefined) {
    init.body = JSON.stringify(options.body);
    init.headers = { "Content-Type": "application/json", ...options.headers };
  }
  const response = await request(query.size > 0 ? `${path}?${query}` : path, init);
  const text = await response.text();
  return (text === "" ? undefined : JSON.parse(text)) as T;
}
