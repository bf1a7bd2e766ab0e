import { type QueryClient, queryOptions, useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "react-router";

import { send, setCsrfToken } from "./client";
import type { Auth, Scope, Session } from "./documents";
import { keys } from "./keys";
import { ProblemError } from "./problem";

export const authQuery = queryOptions({ queryKey: keys.auth, queryFn: ({ signal }) => send<Auth>("GET", "/v1/auth", { signal }) });

/** The session document; null: nobody is signed in. */
export const sessionQuery = queryOptions({
  queryKey: keys.session,
  staleTime: Infinity,
  queryFn: async ({ signal }): Promise<Session | null> => {
    try {
      return remember(await send<Session>("GET", "/v1/session", { signal }));
    } catch (error) {
      if (error instanceof ProblemError && error.status === 401) return remember(null);
      throw error;
    }
  },
});

function remember<T extends Session | null>(session: T): T {
  setCsrfToken(session?.csrf_token ?? null);
  return session;
}

/** Inside of the layout, where there always is a session. */
export function useSession(): Session {
  const { data } = useQuery(sessionQuery);
  if (!data) throw new Error("useSession where nobody is signed in");
  return data;
}

/** May the caller do this? Only what to show is decided so; the gateway decides what is done. */
export function useMay(scope: Scope): boolean {
  const { data } = useQuery(sessionQuery);
  return data?.scopes.includes(scope) ?? false;
}

/** Nothing of the session before stays in memory. */
function begin(client: QueryClient, session: Session | null): void {
  client.removeQueries({ predicate: (query) => query.queryKey[0] !== keys.session[0] });
  client.setQueryData(keys.session, remember(session));
}

export type Credential = { key: string } | { link: string };

export function useSignIn() {
  const client = useQueryClient();
  return useMutation({
    mutationFn: async (credential: Credential) => {
      // By a link one signs in while the page still asks who is there: that answer must not come last.
      await client.cancelQueries({ queryKey: keys.session });
      return send<Session>("POST", "/v1/session", { body: credential });
    },
    onSuccess: (session) => client.setQueryData(keys.session, remember(session)),
  });
}

/** What is open belongs to the former project: the start page is gone to first. */
export function useSwitchTenant() {
  const client = useQueryClient();
  const navigate = useNavigate();
  return useMutation({
    mutationFn: (tenantId: string) => send<Session>("PATCH", "/v1/session", { body: { tenant_id: tenantId } }),
    onSuccess: async (session) => {
      await navigate("/");
      begin(client, session);
    },
  });
}

export function useSignOut() {
  const client = useQueryClient();
  return useMutation({
    mutationFn: () => send<undefined>("DELETE", "/v1/session"),
    onSuccess: () => begin(client, null),
  });
}
