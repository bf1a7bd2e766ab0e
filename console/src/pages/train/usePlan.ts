import { useQuery, useQueryClient } from "@tanstack/react-query";

import { send } from "../../api/client";
import { keys } from "../../api/keys";
import { ProblemError } from "../../api/problem";
import { useRefreshOn } from "../../api/useEvents";
import type { Plan } from "./documents";
import type { JobFile } from "./draft";

const STORED_AS = "sskai.train.plans";
const KEPT = 5;

export interface DryRun {
  /** Proposed or refused; undefined while it is being made. */
  plan: Plan | undefined;
  isPlanning: boolean;
  /** What is wrong with the job file, or the gateway. */
  error: unknown;
  again: () => void;
}

/** The plan of a job file: asked for once, found again after a reload, followed by its events if it takes longer. */
export function usePlan(file: JobFile, enabled: boolean): DryRun {
  const client = useQueryClient();
  const text = JSON.stringify(file);
  const asked = useQuery({
    queryKey: ["dry-runs", text],
    queryFn: ({ signal }) => ask(file, text, signal),
    enabled,
    retry: false,
    staleTime: Infinity,
    gcTime: Infinity,
  });
  const id = asked.data?.id;
  const isPending = asked.data?.status === "pending";
  const later = useQuery({
    queryKey: keys.plan(id ?? ""),
    queryFn: ({ signal }) => send<Plan>("GET", `/v1/plans/${id}`, { signal }),
    enabled: enabled && isPending,
  });
  useRefreshOn({ types: ["PlanProposed", "PlanRefused"], subject: id ?? "" }, keys.plan(id ?? ""));
  const newest = isPending ? later.data : asked.data;
  const plan = newest?.status === "pending" ? undefined : newest;
  return {
    plan,
    isPlanning: enabled && plan === undefined && asked.error === null && later.error === null,
    error: asked.error ?? later.error,
    again: () => {
      forget(text);
      void client.resetQueries({ queryKey: ["dry-runs", text] });
    },
  };
}

async function ask(file: JobFile, text: string, signal: AbortSignal): Promise<Plan> {
  const known = stored()[text];
  if (known !== undefined) {
    try {
      return await send<Plan>("GET", `/v1/plans/${known}`, { signal });
    } catch (error) {
      if (!(error instanceof ProblemError) || error.status !== 404) throw error;
      forget(text);
    }
  }
  const plan = await send<Plan>("POST", "/v1/plans", { body: file, signal }).catch(refused);
  store({ [text]: plan.id });
  return plan;
}

/** That nothing meets the constraints is a plan's end, not a mistake in the job file. */
function refused(error: unknown): Plan {
  if (!(error instanceof ProblemError) || typeof error.document["plan_id"] !== "string") throw error;
  const { plan_id, reason, advice } = error.document;
  const told = String(advice ?? "");
  return {
    id: plan_id as string,
    status: "refused",
    created_at: "",
    reason: String(reason ?? ""),
    detail: error.detail.endsWith(told) ? error.detail.slice(0, error.detail.length - told.length).trim() : error.detail,
    advice: told,
  };
}

function stored(): Record<string, string> {
  try {
    return JSON.parse(sessionStorage.getItem(STORED_AS) ?? "{}") as Record<string, string>;
  } catch {
    return {};
  }
}

function store(more: Record<string, string>): void {
  try {
    const kept = Object.entries({ ...stored(), ...more }).slice(-KEPT);
    sessionStorage.setItem(STORED_AS, JSON.stringify(Object.fromEntries(kept)));
  } catch {
    // Storage may be forbidden or full: after a reload the plan is asked for anew.
  }
}

function forget(text: string): void {
  const kept = Object.entries(stored()).filter(([file]) => file !== text);
  sessionStorage.setItem(STORED_AS, JSON.stringify(Object.fromEntries(kept)));
}
