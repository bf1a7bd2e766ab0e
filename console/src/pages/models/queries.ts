import { useQuery } from "@tanstack/react-query";

import { send } from "../../api/client";
import type { Listing } from "../../api/documents";
import { keys } from "../../api/keys";
import { ProblemError } from "../../api/problem";
import { useRefreshOn } from "../../api/useEvents";
import type { Alias, Comparison, Dataset, Job, LoggedEvent, Model, Receipt } from "./documents";

const MOST = 1_000;
const COMPARISONS = 20;

/** All models, one's own first; read again when there is another version. */
export function useModels() {
  useRefreshOn({ types: ["ModelVersionReady", "ModelEvaluated", "ModelPromoted", "ModelRolledBack", "ModelDeleted"] }, keys.models);
  return useQuery({
    queryKey: [...keys.models, "list"],
    queryFn: ({ signal }) => send<Listing<Model>>("GET", "/v1/models", { query: { limit: MOST }, signal }),
  });
}

export function useAliases(name: string, enabled: boolean) {
  return useQuery({
    queryKey: [...keys.model(name), "aliases"],
    enabled,
    queryFn: ({ signal }) => send<Listing<Alias>>("GET", `/v1/models/${name}/aliases`, { signal }),
  });
}

/** How a version did against the champion of its time, newest first. */
export function useComparisons(model: Model) {
  const query = { format: "json", types: "ModelEvaluated", subject: model.model_id, order: "desc", limit: COMPARISONS };
  return useQuery({
    queryKey: [...keys.model(model.id), "comparisons"],
    enabled: model.origin === "trained",
    queryFn: async ({ signal }): Promise<Comparison[]> => {
      const { data } = await send<Listing<LoggedEvent>>("GET", "/v1/events", { query, signal });
      return data.map((one) => one.event.data).filter((one) => one.version === model.version);
    },
  });
}

export interface Making {
  job: Job;
  receipt: Receipt | null;
  dataset: Dataset | null;
}

/** What made a version: its job, what that cost, and what it learnt from. */
export function useMaking({ job_id: jobId }: Model) {
  return useQuery({
    queryKey: [...keys.job(jobId ?? ""), "making"],
    enabled: jobId !== null,
    queryFn: async ({ signal }): Promise<Making> => {
      const job = await send<Job>("GET", `/v1/jobs/${jobId}`, { signal });
      const reference = job.dataset?.replace("dataset://", "").replace("/", "@");
      const [receipt, dataset] = await Promise.all([
        orNull(send<Receipt>("GET", `/v1/receipts/${jobId}`, { signal })),
        reference === undefined ? null : orNull(send<Dataset>("GET", `/v1/datasets/${reference}`, { signal })),
      ]);
      return { job, receipt, dataset };
    },
  });
}

/** A receipt that is not there yet, a dataset that was deleted. */
async function orNull<T>(asked: Promise<T>): Promise<T | null> {
  try {
    return await asked;
  } catch (error) {
    if (error instanceof ProblemError && error.status === 404) return null;
    throw error;
  }
}
