import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useRef } from "react";

import { send } from "../../api/client";
import type { EventType } from "../../api/event-types";
import type { StreamEvent } from "../../api/events";
import { keys } from "../../api/keys";
import { useEvents, useRefreshOn } from "../../api/useEvents";
import type { Overview, Progress } from "./documents";

/** What changes a list or a count here. Heartbeats and spend come by the second and are not among them. */
const CHANGES: EventType[] = [
  "DatasetValidated", "DatasetRejected",
  "JobSubmitted", "JobHeld", "JobAdmitted", "JobRequeued", "JobSucceeded", "JobFailed", "JobCancelled", "JobCancelRequested",
  "AttemptStarted", "AttemptLost", "AttemptDrained", "AttemptResumed",
  "ModelVersionReady", "ModelVersionRefused", "ModelPromoted", "ModelRolledBack",
  "EndpointRequested", "EndpointReady", "EndpointFailed", "EndpointDeleted", "CanaryStarted",
  "DriftDetected", "ObjectiveBreached", "ObjectiveRecovered",
  "RetrainSuggested", "RetrainRequested", "RetrainDeclined", "RetrainDecided",
  "BudgetSet", "BudgetRemoved", "BudgetThresholdReached", "ReceiptIssued",
];
const MONEY_EVERY_MS = 15_000;

export function useOverview() {
  const client = useQueryClient();
  const moneyReadAt = useRef(0);
  useRefreshOn({ types: CHANGES }, keys.overview);
  useEvents({ types: ["AttemptProgressed"] }, (event) => {
    client.setQueryData<Overview>(keys.overview, (overview) => overview && withProgress(overview, event));
  });
  useEvents({ types: ["SpendRecorded"] }, () => {
    if (Date.now() - moneyReadAt.current < MONEY_EVERY_MS) return;
    moneyReadAt.current = Date.now();
    void client.invalidateQueries({ queryKey: keys.overview });
  });
  return useQuery({ queryKey: keys.overview, queryFn: ({ signal }) => send<Overview>("GET", "/v1/overview", { signal }) });
}

/** A heartbeat holds all that its job's line shows: nothing is asked for. */
function withProgress(overview: Overview, { subject, data }: StreamEvent): Overview {
  const progress: Progress = {
    step: Number(data["step"] ?? 0),
    total_steps: Number(data["total_steps"] ?? 0),
    phase: String(data["phase"] ?? ""),
    loss: data["loss"] === undefined ? null : Number(data["loss"]),
    eta_seconds: data["eta_seconds"] === undefined ? null : Number(data["eta_seconds"]),
  };
  const jobs = overview.jobs.map((job) => (job.id === subject ? { ...job, progress, attempt: Number(data["attempt"] ?? job.attempt) } : job));
  return { ...overview, jobs };
}
