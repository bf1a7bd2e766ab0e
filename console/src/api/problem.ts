/** A refusal of the gateway (RFC 9457): what is wrong, where, and what to do. */

export interface FieldError {
  field: string;
  message: string;
}

export class ProblemError extends Error {
  override readonly name = "ProblemError";

  constructor(
    /** HTTP's status; 0 where no answer came. */
    readonly status: number,
    readonly title: string,
    readonly detail: string,
    /** The whole document: `row`, `reason`, `advice`, `scope` and the like. */
    readonly document: Readonly<Record<string, unknown>> = {},
  ) {
    super(detail || title);
  }

  get field(): string | undefined {
    const field = this.document["field"];
    return typeof field === "string" ? field : undefined;
  }

  get errors(): FieldError[] {
    const errors = this.document["errors"];
    return Array.isArray(errors) ? (errors as FieldError[]) : [];
  }

  /** Trying again may help: nothing was reached, or somebody was busy. */
  get isPassing(): boolean {
    return this.status === 0 || this.status === 429 || this.status >= 502;
  }
}

/** The problem in an answer that is not 2xx; also in one that is no problem document, as a proxy's. */
export async function problemOf(response: Response): Promise<ProblemError> {
  const text = await response.text().catch(() => "");
  return problemOfText(response.status, response.statusText, text);
}

export function problemOfText(status: number, statusText: string, text: string): ProblemError {
  const fallback = statusText || `HTTP ${status}`;
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch {
    return new ProblemError(status, fallback, "");
  }
  if (typeof body !== "object" || body === null) return new ProblemError(status, fallback, "");
  const document = body as Record<string, unknown>;
  // Routes that models answer have OpenAI's shape of errors.
  const inner = document["error"] as Record<string, unknown> | undefined;
  const title = stringOr(document["title"], fallback);
  const detail = stringOr(document["detail"], stringOr(inner?.["message"], ""));
  return new ProblemError(status, title, detail, document);
}

function stringOr(value: unknown, fallback: string): string {
  return typeof value === "string" && value !== "" ? value : fallback;
}
