import { StateTag } from "../../components/StateTag";
import type { Endpoint } from "./documents";
import { useEndpointsText } from "./text";

const TONES = { requested: "busy", ready: "good", failed: "bad", deleting: "wait", deleted: "off" } as const;

/** A serverless endpoint without a replica sleeps: the next request wakes it. */
export function EndpointState({ endpoint }: { endpoint: Pick<Endpoint, "state" | "replicas" | "kind"> }) {
  const t = useEndpointsText();
  const sleeps = endpoint.state === "ready" && endpoint.replicas === 0;
  if (sleeps) return <StateTag state="asleep" tone="off" label={t("state.asleep")} />;
  return <StateTag state={endpoint.state} tone={TONES[endpoint.state]} label={t(`state.${endpoint.state}`)} />;
}

/** Who answers how much of the requests; a bar where two do. */
export function Split({ champion, canary, fraction }: { champion: number; canary: number | null; fraction: number | null }) {
  const t = useEndpointsText();
  const share = canary === null ? 0 : (fraction ?? 0);
  const words = (version: number) => (version === 0 ? t("version.base") : t("version.short", { version }));
  return (
    <span className="sk-endpoints-split">
      {canary !== null && (
        <span className="sk-endpoints-bar" aria-hidden="true">
          <span style={{ width: `${100 * (1 - share)}%` }} />
          <span data-role="canary" style={{ width: `${100 * share}%` }} />
        </span>
      )}
      <span>
        {canary === null
          ? words(champion)
          : t("split.two", { champion: words(champion), canary: words(canary), percent: Math.round(1000 * share) / 10 })}
      </span>
    </span>
  );
}
