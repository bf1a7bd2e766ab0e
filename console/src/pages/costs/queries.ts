import { keepPreviousData, useQuery, useQueryClient } from "@tanstack/react-query";
import { useRef } from "react";

import { send } from "../../api/client";
import type { Listing } from "../../api/documents";
import { keys } from "../../api/keys";
import { useEvents, useRefreshOn } from "../../api/useEvents";
import type { Budget, Costs, GroupBy, Named, Version } from "./documents";
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
  const jobs = useList<Named>([...keys.jobs, "names"], "/v1/jobs");
  const endpoints = useList<Named>([...keys.endpoints, "names"], "/v1/endpoints");
  const names = new Map([...jobs, ...endpoints].map(({ id, name }) => [id, name]));
  return (id) => names.get(id) ?? id;
}

export interface Stored {
  label: string;
  link: string;
}

/** What is stored as `dataset_...@1` or `model_...@1`: the ledger names it so in the place of a job. */
export function useStored(): (id: string) => Stored | undefined {
  const datasets = useList<Version>([...keys.datasets, "names"], "/v1/datasets");
  const models = useList<Version>([...keys.models, "names"], "/v1/models");
  const stored = new Map<string, Stored>();
  for (const [page, versions] of [["data", datasets], ["models", models]] as const) {
    for (const { id, model_id: modelId, name, version } of versions) {
      stored.set(`${modelId ?? id}@${version}`, { label: `${name}@${version}`, link: `/${page}/${name}?version=${version}` });
    }
  }
  return (id) => stored.get(id);
}

function useList<T>(queryKey: readonly string[], path: string): T[] {
  const list = useQuery({ queryKey, queryFn: ({ signal }) => send<Listing<T>>("GET", path, { query: { limit: NAMES }, signal }) });
  return list.data?.data ?? [];
}
