import { useMutation, useQueryClient } from "@tanstack/react-query";
import { App, Button, Segmented, type TableColumnsType } from "antd";
import { useMemo, useState } from "react";

import { send } from "../../api/client";
import { keys } from "../../api/keys";
import { useRefreshOn } from "../../api/useEvents";
import { usePages } from "../../api/usePages";
import { DataTable } from "../../components/DataTable";
import { EmptyState } from "../../components/EmptyState";
import { ErrorLine } from "../../components/ErrorState";
import { TimeAgo } from "../../components/Figures";
import { Section } from "../../components/Page";
import { StateTag, type Tone } from "../../components/StateTag";
import type { Delivery, Webhook } from "./documents";
import { useSettingsText } from "./text";

const STATES = ["all", "waiting", "delivered", "failed"] as const;
const TONES: Record<string, Tone> = { waiting: "wait", delivered: "good", failed: "bad" };

/** What was and is to be sent there; what failed can be sent again. */
export function Deliveries({ webhook, mayReplay }: { webhook: Webhook; mayReplay: boolean }) {
  const t = useSettingsText();
  const { message } = App.useApp();
  const client = useQueryClient();
  const [state, setState] = useState<(typeof STATES)[number]>("all");
  const path = `/v1/webhooks/${webhook.id}/deliveries`;
  const key = [...keys.webhooks, webhook.id, "deliveries"];
  const list = usePages<Delivery>([...key, state], path, state === "all" ? {} : { state });
  // Each event that is told is a delivery of somebody who asked for all of them.
  useRefreshOn({ types: "all" }, key);
  const refresh = () => client.invalidateQueries({ queryKey: key });
  const replay = useMutation({
    mutationFn: (delivery: Delivery) => send("POST", `${path}/${delivery.id}/replay`),
    onSuccess: async () => {
      void message.success(t("deliveries.again"));
      await refresh();
    },
  });
  const columns = useColumns(mayReplay && webhook.enabled ? replay.mutate : null);
  return (
    <Section
      title={t("deliveries.title")}
      actions={
        <span className="sk-row">
          <Segmented aria-label={t("deliveries.filter")} value={state} onChange={setState} options={STATES.map((one) => ({ value: one, label: t(`deliveries.${one}`) }))} />
          <Button onClick={() => void refresh()}>{t("deliveries.refresh")}</Button>
        </span>
      }
    >
      <ErrorLine error={replay.error} />
      <DataTable label={t("deliveries.title")} pages={list} columns={columns} rowKey={(one) => one.id} empty={<EmptyState title={t("deliveries.none")} detail={t("deliveries.noneDetail")} />} />
    </Section>
  );
}

function useColumns(onReplay: ((delivery: Delivery) => void) | null): TableColumnsType<Delivery> {
  const t = useSettingsText();
  return useMemo(
    () => [
      { title: t("deliveries.event"), key: "type", render: (_, one) => <code>{one.type}</code> },
      {
        title: t("column.state"),
        key: "state",
        render: (_, one) => {
          const words = `deliveries.${one.state}` as Parameters<typeof t>[0];
          return <StateTag state={one.state} tone={TONES[one.state] ?? "off"} label={t(words)} />;
        },
      },
      { title: t("deliveries.tries"), key: "tries", align: "right", render: (_, one) => one.tries },
      {
        title: t("deliveries.answer"),
        key: "answer",
        render: (_, one) => (
          <span className="sk-settings-name">
            <span>{one.last_status ?? "–"}</span>
            {one.last_problem !== null && <small>{one.last_problem}</small>}
          </span>
        ),
      },
      { title: t("deliveries.told"), key: "told", render: (_, one) => <TimeAgo at={one.told_at} /> },
      { title: t("deliveries.next"), key: "next", render: (_, one) => <TimeAgo at={one.next_try_at} /> },
      {
        title: <span className="sk-hidden">{t("column.actions")}</span>,
        key: "actions",
        align: "right",
        render: (_, one) =>
          onReplay !== null && (
            <Button type="text" size="small" aria-label={t("deliveries.replayOne", { type: one.type })} onClick={() => onReplay(one)}>
              {t("deliveries.replay")}
            </Button>
          ),
      },
    ],
    [t, onReplay],
  );
}
