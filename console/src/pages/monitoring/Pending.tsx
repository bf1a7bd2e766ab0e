import { useMutation, useQueryClient } from "@tanstack/react-query";
import { Button } from "antd";

import { send } from "../../api/client";
import { keys } from "../../api/keys";
import { ErrorLine } from "../../components/ErrorState";
import { TimeAgo } from "../../components/Figures";
import type { Suggestion } from "./documents";
import { useMonitoringText } from "./text";

/** What waits for a yes or a no. */
export function Pending({ endpointId, pending, mayDecide }: { endpointId: string; pending: Suggestion[]; mayDecide: boolean }) {
  const t = useMonitoringText();
  const client = useQueryClient();
  const decide = useMutation({
    mutationFn: ({ id, word }: { id: string; word: "approve" | "decline" }) => send("POST", `/v1/endpoints/${endpointId}/retraining/${id}/${word}`),
    onSettled: () => client.invalidateQueries({ queryKey: keys.retraining(endpointId) }),
  });
  return (
    <section className="sk-monitoring-pending" aria-label={t("pending.title")}>
      {pending.map((one) => (
        <div key={one.retrain_id} className="sk-monitoring-decision">
          <div>
            <h2>{t("pending.ask", { version: one.version })}</h2>
            <p>{one.detail}</p>
            <p className="sk-hint">
              {t(one.data === "traffic" ? "pending.onTraffic" : "pending.onDataset")}
              {one.expires_at !== null && (
                <>
                  {" "}
                  {t("pending.expires")} <TimeAgo at={one.expires_at} />
                </>
              )}
            </p>
          </div>
          {mayDecide && (
            <div className="sk-row">
              <Button type="primary" loading={decide.isPending} disabled={decide.isSuccess} onClick={() => decide.mutate({ id: one.retrain_id, word: "approve" })}>
                {t("pending.approve")}
              </Button>
              <Button disabled={decide.isPending || decide.isSuccess} onClick={() => decide.mutate({ id: one.retrain_id, word: "decline" })}>
                {t("pending.decline")}
              </Button>
            </div>
          )}
        </div>
      ))}
      {!mayDecide && <p className="sk-hint">{t("pending.mayNot")}</p>}
      <span role="status">{decide.isSuccess ? t("pending.told") : ""}</span>
      <ErrorLine error={decide.error} />
    </section>
  );
}
