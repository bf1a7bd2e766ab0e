import type { ReactNode } from "react";

import { ErrorState } from "./ErrorState";
import { Loading } from "./Loading";

interface Query<T> {
  data: T | undefined;
  error: unknown;
  refetch: () => unknown;
}

/** The three faces of what is read: loading, refused, there. `<QueryState query={jobs}>{(data) => ...}</QueryState>` */
export function QueryState<T>({ query, rows, children }: { query: Query<T>; rows?: number; children: (data: T) => ReactNode }) {
  if (query.data !== undefined) return children(query.data);
  if (query.error) return <ErrorState error={query.error} onRetry={() => void query.refetch()} />;
  return rows === undefined ? <Loading /> : <Loading rows={rows} />;
}
