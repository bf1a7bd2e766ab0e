import { Button } from "antd";
import { useRouteError } from "react-router";

import { ProblemError } from "../api/problem";
import { ErrorState } from "../components/ErrorState";
import { useCommonText } from "./text";

/** What is shown where a page failed, or cannot be loaded because a newer console is installed. */
export function ErrorBoundary() {
  const error = useRouteError();
  const t = useCommonText();
  if (error instanceof ProblemError) return <ErrorState error={error} onRetry={() => location.reload()} />;
  const stale = error instanceof TypeError && /dynamically imported module|module script/i.test(error.message);
  return (
    <div className="sk-state" role="alert">
      <h1 className="sk-state-title">{t(stale ? "error.stale" : "error.crashed")}</h1>
      <p className="sk-state-detail">{t(stale ? "error.staleDetail" : "error.crashedDetail")}</p>
      {!stale && error instanceof Error && <code className="sk-code-inline">{error.message}</code>}
      <Button type="primary" onClick={() => location.reload()}>
        {t("error.reload")}
      </Button>
    </div>
  );
}
