import { useQuery } from "@tanstack/react-query";
import { useEffect } from "react";
import { Navigate, useLocation } from "react-router";

import { sessionQuery } from "../api/session";
import { stream } from "../api/useEvents";
import { ErrorState } from "../components/ErrorState";
import { Layout } from "./Layout";

/** The layout for who has a session; the others are sent to sign in, and come back. */
export function SignedIn() {
  const { data: session, error, refetch } = useQuery(sessionQuery);
  const { pathname, search } = useLocation();
  const tenantId = session?.tenant?.id;

  useEffect(() => {
    if (tenantId === undefined) return undefined;
    stream.start();
    return () => stream.stop();
  }, [tenantId]);

  if (error) {
    return (
      <main className="sk-alone">
        <ErrorState error={error} onRetry={() => void refetch()} />
      </main>
    );
  }
  if (session === undefined) return null;
  if (session === null) {
    const next = pathname === "/" ? "" : `?next=${encodeURIComponent(pathname + search)}`;
    return <Navigate to={`/signin${next}`} replace />;
  }
  return <Layout key={tenantId ?? "none"} session={session} />;
}
