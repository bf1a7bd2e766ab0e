import { keepPreviousData, useQuery, useQueryClient } from "@tanstack/react-query";
import { useRef } from "react";

import { send } from "../../api/client";
import type { Listing } from "../../api/documents";
import { keys } from "../../api/keys";
import { useEvents, useRefreshOn } from "../../api/useEvents";
import type { Budget, Costs, GroupBy, Named } from "./documents";
import { queryOf, type Span } from "./spans";

const MONEY_EVERY_MS = 15_000;
const NAMES = 100;

/** Spend is told every few seconds of each machine: sums are read again at most so often. */
export function useLiveCosts(): void {
  const client = useQueryClient();
  const readAt = useRef(0);
  useRefreshOn({ types: ["ReceiptIssued"] }, keys.receipts, keys.costs);
  useRefreshOn({ types: ["BudgetSet", "BudgetRemoved", "BudgetThresholdReached"] }, keys.budgets);
  useEvents({ types: ["SpendRecorded"] }, () => {
    if (Date.now() - readAt.current < MONEY_EVERY_MS) return;
    readAt.current = Date.now();
    void client.invalidateQueries({ queryKey: keys.costs });
    void client.invalidateQueries({ queryKey: keys.budgets });
  });
}

export function useCosts(span: Span, groupBy: GroupBy | "day") {
  return useQuery({
    queryKey: [...keys.costs, groupBy, span],
    placeholderData: keepPreviousData,
    queryFn: ({ signal }) => send<Costs>("GET", "/v1/costs", { query: { group_by: groupBy, ...queryOf(span) }, signal }),
  });
}

export function useBudgets() {
  return useQuery({ queryKey: keys.budgets, queryFn: ({ signal }) => send<Listing<Budget>>("GET", "/v1/budgets", { signal }) });
}

/** What the newest jobs and endpoints are called, by their ids. */
export function useNames(): (id: string) => string {
  const list = (path: string) => ({ signal }: { signal: AbortSignal }) => send<Listing<Named>>("GET", path, { query: { limit: NAMES }, signal });
  const jobs = useQuery({ queryKey: [...keys.jobs, "names"], queryFn: list("/v1/jobs") });
  const endpoints = useQuery({ queryKey: [...keys.endpoints, "names"], queryFn: list("/v1/endpoints") });
  const names = new Map([...(jobs.data?.data ?? []), ...(endpoints.data?.data ?? [])].map(({ id, name }) => [id, name]));
  return (id) => names.get(id) ?? id;
}
