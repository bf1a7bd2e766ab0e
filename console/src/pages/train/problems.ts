/** Problems of the gateway by the field of the job file that they are about. Pure. */

import { ProblemError } from "../../api/problem";

export function problemsOf(error: unknown): Record<string, string> {
  if (!(error instanceof ProblemError) || error.status !== 422) return {};
  const found: Record<string, string> = {};
  // The first of a field is what the figure breaks; those after it say that it is not "auto" either.
  for (const { field, message } of error.errors) found[field] ??= message;
  if (error.field !== undefined) found[error.field] ??= withoutField(error.detail, error.field);
  return found;
}

function withoutField(detail: string, field: string): string {
  return detail.startsWith(`${field} `) ? detail.slice(field.length + 1) : detail;
}
