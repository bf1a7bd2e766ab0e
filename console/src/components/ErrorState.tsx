import { Button } from "antd";

import { ProblemError } from "../api/problem";
import { useCommonText } from "../app/text";
import { Icon } from "./icons";

/** A problem of the gateway in its own words, with a way to try again. */
export function ErrorState({ error, onRetry }: { error: unknown; onRetry?: (() => void) | undefined }) {
  const t = useCommonText();
  const problem = error instanceof ProblemError ? error : null;
  const detail = problem?.detail ?? (error instanceof Error ? error.message : "");
  return (
    <div className="sk-state sk-error" role="alert">
      <span className="sk-error-sign">
        <Icon name="warning" size={22} />
      </span>
      <h2 className="sk-state-title">{problem?.title ?? t("error.title")}</h2>
      {detail !== "" && <p className="sk-state-detail">{detail}</p>}
      {problem?.field !== undefined && <code className="sk-code-inline">{t("error.field", { field: problem.field })}</code>}
      {onRetry !== undefined && <Button onClick={onRetry}>{t("retry")}</Button>}
    </div>
  );
}

/** The same in one line, for a form or beside a button. */
export function ErrorLine({ error }: { error: unknown }) {
  const t = useCommonText();
  if (!error) return null;
  const problem = error instanceof ProblemError ? error : null;
  const text = problem?.detail || (problem?.title ?? (error instanceof Error ? error.message : t("error.title")));
  return (
    <p className="sk-error-line" role="alert">
      {text}
    </p>
  );
}
