import { csrfHeaders } from "./client";
import { ProblemError, problemOfText } from "./problem";

export type Tell = (sentBytes: number) => void;

/** A form by XMLHttpRequest, which alone tells its progress. Raises ProblemError, and AbortError once `signal` says so. */
export function postForm<T>(path: string, form: FormData, tell: Tell, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const stop = () => request.abort();
    request.open("POST", path);
    for (const [name, value] of Object.entries(csrfHeaders())) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => tell(event.loaded);
    request.onload = () => {
      if (request.status >= 200 && request.status < 300) resolve(JSON.parse(request.responseText) as T);
      else reject(problemOfText(request.status, request.statusText, request.responseText));
    };
    request.onerror = () => reject(new ProblemError(0, "The gateway does not answer", "Check that it runs and that you are connected."));
    request.onabort = () => reject(new DOMException("given up", "AbortError"));
    request.onloadend = () => signal.removeEventListener("abort", stop);
    if (signal.aborted) return reject(new DOMException("given up", "AbortError"));
    signal.addEventListener("abort", stop);
    request.send(form);
  });
}
