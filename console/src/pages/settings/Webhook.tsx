import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { App, Button } from "antd";
import { useState } from "react";
import { Link, useNavigate, useParams } from "react-router";

import { send } from "../../api/client";
import { keys } from "../../api/keys";
import { useMay } from "../../api/session";
import { ErrorLine } from "../../components/ErrorState";
import { Facts } from "../../components/Facts";
import { TimeAgo } from "../../components/Figures";
import { Section } from "../../components/Page";
import { QueryState } from "../../components/QueryState";
import { StateTag } from "../../components/StateTag";
import { Deliveries } from "./Deliveries";
import type { Webhook } from "./documents";
import { OnceShown, Part } from "./Part";
import { useSettingsText } from "./text";
import { Types, WebhookForm } from "./Webhooks";

/** One address: what it gets, what became of it, and all that can be done about it. */
export default function WebhookPart() {
  const t = useSettingsText();
  const { webhookId = "" } = useParams();
  const webhook = useQuery({
    queryKey: [...keys.webhooks, webhookId],
    queryFn: ({ signal }) => send<Webhook>("GET", `/v1/webhooks/${webhookId}`, { signal }),
  });
  return (
    <Part title={t("webhook.title")} lead={<Link to="/settings/webhooks">{t("webhook.back")}</Link>}>
      <QueryState query={webhook}>{(one) => <Shown webhook={one} />}</QueryState>
    </Part>
  );
}

function Shown({ webhook }: { webhook: Webhook }) {
  const t = useSettingsText();
  const mayAdmin = useMay("admin");
  const [secret, setSecret] = useState<string | null>(null);
  return (
    <>
      {secret !== null && <OnceShown title={t("webhook.newSecret")} detail={t("webhook.rotated")} secret={secret} label={t("webhooks.secret")} />}
      {!webhook.enabled && <p className="sk-notice">{t("webhook.off")}</p>}
      <Section title={webhook.url} actions={<StateTag state={webhook.enabled ? "enabled" : "disabled"} />}>
        <div className="sk-stack">
          <Facts
            facts={[
              { label: t("webhooks.types"), value: <Types types={webhook.types} /> },
              { label: t("column.created"), value: <TimeAgo at={webhook.created_at} /> },
              ...(webhook.previous_secret_until === null ? [] : [{ label: t("webhook.oldSecret"), value: <TimeAgo at={webhook.previous_secret_until} /> }]),
            ]}
          />
          {mayAdmin && <Actions webhook={webhook} onSecret={setSecret} />}
        </div>
      </Section>
      <Deliveries webhook={webhook} mayReplay={mayAdmin} />
    </>
  );
}

function Actions({ webhook, onSecret }: { webhook: Webhook; onSecret: (secret: string) => void }) {
  const t = useSettingsText();
  const { modal, message } = App.useApp();
  const navigate = useNavigate();
  const client = useQueryClient();
  const [isEditing, setIsEditing] = useState(false);
  const path = `/v1/webhooks/${webhook.id}`;
  const refresh = () => client.invalidateQueries({ queryKey: keys.webhooks });
  const test = useMutation({
    mutationFn: () => send("POST", `${path}/test`),
    onSuccess: async () => {
      void message.success(t("webhook.tested"));
      await refresh();
    },
  });
  const turn = useMutation({ mutationFn: () => send("PATCH", path, { body: { enabled: !webhook.enabled } }), onSuccess: refresh });
  const rotate = useMutation({
    mutationFn: (revoke: boolean) => send<Webhook>("POST", `${path}/secret`, { body: { revoke_previous: revoke } }),
    onSuccess: async ({ secret }) => {
      if (secret !== undefined) onSecret(secret);
      await refresh();
    },
  });
  const remove = useMutation({
    mutationFn: () => send("DELETE", path),
    onSuccess: async () => {
      await navigate("/settings/webhooks");
      await refresh();
    },
  });
  const confirm = (key: "rotate" | "delete", onOk: () => Promise<unknown>) =>
    modal.confirm({
      title: t(`webhook.${key}Title`),
      content: t(`webhook.${key}Detail`),
      okText: t(`webhook.${key}`),
      okButtonProps: { danger: key === "delete" },
      cancelText: t("cancel"),
      onOk: () => onOk().catch(() => undefined),
    });
  return (
    <>
      <div className="sk-row">
        <Button onClick={() => test.mutate()} loading={test.isPending} disabled={!webhook.enabled}>
          {t("webhook.test")}
        </Button>
        <Button onClick={() => setIsEditing(true)}>{t("webhooks.edit")}</Button>
        <Button onClick={() => turn.mutate()} loading={turn.isPending}>
          {t(webhook.enabled ? "webhook.disable" : "webhook.enable")}
        </Button>
        <Button onClick={() => confirm("rotate", () => rotate.mutateAsync(false))}>{t("webhook.rotate")}</Button>
        <Button danger type="text" onClick={() => confirm("delete", () => remove.mutateAsync())}>
          {t("webhook.delete")}
        </Button>
      </div>
      <ErrorLine error={test.error ?? turn.error ?? rotate.error ?? remove.error} />
      {isEditing && (
        <WebhookForm
          webhook={webhook}
          onClose={() => setIsEditing(false)}
          onMade={() => {
            setIsEditing(false);
            void refresh();
          }}
        />
      )}
    </>
  );
}
