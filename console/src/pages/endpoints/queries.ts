import { queryOptions } from "@tanstack/react-query";

import { send } from "../../api/client";
import type { Listing } from "../../api/documents";
import type { EventType } from "../../api/event-types";
import { keys } from "../../api/keys";
import type { Endpoint, FiguresDocument, Model, PlaygroundDocument } from "./documents";

/** What changes an endpoint's document. */
export const ENDPOINT_EVENTS: readonly EventType[] = [
  "EndpointRequested", "EndpointReady", "EndpointFailed", "EndpointScaled", "EndpointDeletionRequested", "EndpointDeleted",
  "EndpointTrafficRequested", "CanaryStarted", "ModelPromoted", "ModelRolledBack", "ModelEvaluated", "DriftDetected", "FeedbackGiven", "SpendRecorded",
];

export const endpointQuery = (id: string) =>
  queryOptions({ queryKey: keys.endpoint(id), queryFn: ({ signal }) => send<Endpoint>("GET", `/v1/endpoints/${id}`, { signal }) });

export const playgroundQuery = (id: string) =>
  queryOptions({
    queryKey: [...keys.endpoint(id), "playground"],
    queryFn: ({ signal }) => send<PlaygroundDocument>("GET", `/v1/endpoints/${id}/playground`, { signal }),
  });

/** Models that can be served now: base models whose weights are here, and what was trained from them. */
export const servableQuery = queryOptions({
  queryKey: [...keys.models, "servable"],
  queryFn: async ({ signal }) => {
    const { data } = await send<Listing<Model>>("GET", "/v1/models", { query: { limit: 100 }, signal });
    return data.filter((model) => model.available);
  },
});

export const endpointsQuery = queryOptions({
  queryKey: [...keys.endpoints, "first"],
  queryFn: ({ signal }) => send<Listing<Endpoint>>("GET", "/v1/endpoints", { query: { limit: 100 }, signal }),
});

export const RANGES = {
  hour: { seconds: 3_600, window: "1m" },
  day: { seconds: 86_400, window: "1h" },
  week: { seconds: 7 * 86_400, window: "1h" },
  month: { seconds: 30 * 86_400, window: "1d" },
} as const;

export type RangeName = keyof typeof RANGES;

/** Of inference's spans, by their name ("chat support-bot"). `whole`: one row for all of the time. */
export const figuresQuery = (endpointId: string, range: RangeName, whole: boolean) =>
  queryOptions({
    queryKey: [...keys.figures, endpointId, range, whole],
    queryFn: ({ signal }) => {
      const { seconds, window } = RANGES[range];
      const since = new Date(Date.now() - seconds * 1000).toISOString();
      const query = { endpoint_id: endpointId, service: "inference", group_by: "name", window, since, whole };
      return send<FiguresDocument>("GET", "/v1/figures", { query, signal });
    },
  });
