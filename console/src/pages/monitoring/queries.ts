import { queryOptions } from "@tanstack/react-query";

import { send } from "../../api/client";
import type { Listing } from "../../api/documents";
import type { EventType } from "../../api/event-types";
import { keys } from "../../api/keys";
import { ProblemError } from "../../api/problem";
import type { DriftVersion, Endpoint, Objective, Retraining } from "./documents";

export const DRIFT_EVENTS: readonly EventType[] = ["DriftDetected", "InferenceSampled"];
export const OBJECTIVE_EVENTS: readonly EventType[] = ["EndpointObjectivesSet", "ObjectiveBreached", "ObjectiveRecovered"];
export const RETRAINING_EVENTS: readonly EventType[] = [
  "RetrainingPolicySet", "RetrainingPolicyRemoved", "RetrainSuggested", "RetrainDecided", "RetrainRequested", "RetrainDeclined", "DriftDetected", "CanaryStarted",
];
/** Of jobs and models: which endpoint they belong to is known by the gateway alone. */
export const LOOP_EVENTS: readonly EventType[] = [
  "JobSubmitted", "JobSucceeded", "JobFailed", "JobCancelled", "ModelVersionReady", "ModelEvaluated", "ModelPromoted", "ModelRolledBack",
];

export const endpointQuery = (id: string) =>
  queryOptions({ queryKey: keys.endpoint(id), queryFn: ({ signal }) => send<Endpoint>("GET", `/v1/endpoints/${id}`, { signal }) });

export const objectivesQuery = (id: string) =>
  queryOptions({
    queryKey: keys.objectives(id),
    queryFn: ({ signal }) => send<Listing<Objective>>("GET", `/v1/endpoints/${id}/objectives`, { signal }),
  });

/** Each version's tests; none of an endpoint that was not asked anything yet. */
export const driftQuery = (id: string) =>
  queryOptions({
    queryKey: keys.drift(id),
    queryFn: async ({ signal }): Promise<DriftVersion[]> => {
      try {
        return (await send<{ versions: DriftVersion[] }>("GET", `/v1/endpoints/${id}/drift`, { signal })).versions;
      } catch (error) {
        if (error instanceof ProblemError && error.status === 404) return [];
        throw error;
      }
    },
  });

export const retrainingQuery = (id: string) =>
  queryOptions({ queryKey: keys.retraining(id), queryFn: ({ signal }) => send<Retraining>("GET", `/v1/endpoints/${id}/retraining`, { signal }) });
