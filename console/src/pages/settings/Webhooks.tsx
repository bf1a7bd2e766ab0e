import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { Button, Input, Modal, Select } from "antd";
import { useId, useState } from "react";
import { Link } from "react-router";

import { send } from "../../api/client";
import type { Listing } from "../../api/documents";
import { EVENT_TYPES } from "../../api/event-types";
import { keys } from "../../api/keys";
import { ProblemError } from "../../api/problem";
import { useMay } from "../../api/session";
import { EmptyState } from "../../components/EmptyState";
import { ErrorLine } from "../../components/ErrorState";
import { TimeAgo } from "../../components/Figures";
import { FormField } from "../../components/FormField";
import { Icon } from "../../components/icons";
import { QueryState } from "../../components/QueryState";
import { StateTag } from "../../components/StateTag";
import type { Webhook } from "./documents";
import { OnceShown, Part } from "./Part";
import { useSettingsText } from "./text";

/** Where events are sent. */
export default function WebhooksPart() {
  const t = useSettingsText();
  const client = useQueryClient();
  const mayAdmin = useMay("admin");
  const [isOpen, setIsOpen] = useState(false);
  const [made, setMade] = useState<Webhook | null>(null);
  const list = useQuery({ queryKey: [...keys.webhooks, "list"], queryFn: ({ signal }) => send<Listing<Webhook>>("GET", "/v1/webhooks", { signal }) });
  const open = mayAdmin && (
    <Button type="primary" icon={<Icon name="plus" size={16} />} onClick={() => setIsOpen(true)}>
      {t("webhooks.new")}
    </Button>
  );
  return (
    <Part title={t("part.webhooks")} lead={t("webhooks.lead")} actions={open}>
      {made?.secret !== undefined && <OnceShown title={t("webhooks.made")} detail={t("webhooks.secretDetail")} secret={made.secret} label={t("webhooks.secret")} />}
      <QueryState query={list}>
        {({ data }) =>
          data.length === 0 ? (
            <EmptyState title={t("webhooks.none")} detail={t("webhooks.noneDetail")} action={open} />
          ) : (
            <ul className="sk-settings-webhooks">
              {data.map((webhook) => (
                <li key={webhook.id} className="sk-section">
                  <div>
                    <Link to={`/settings/webhooks/${webhook.id}`}>{webhook.url}</Link>
                    <Types types={webhook.types} />
                  </div>
                  <StateTag state={webhook.enabled ? "enabled" : "disabled"} />
                  <TimeAgo at={webhook.created_at} />
                </li>
              ))}
            </ul>
          )
        }
      </QueryState>
      {isOpen && (
        <WebhookForm
          onClose={() => setIsOpen(false)}
          onMade={(webhook) => {
            setMade(webhook);
            setIsOpen(false);
            void client.invalidateQueries({ queryKey: keys.webhooks });
          }}
        />
      )}
    </Part>
  );
}

const SHOWN_TYPES = 6;

export function Types({ types }: { types: string[] }) {
  const t = useSettingsText();
  if (types.length === 0) return <p className="sk-muted">{t("webhooks.all")}</p>;
  return (
    <p className="sk-row">
      {types.slice(0, SHOWN_TYPES).map((type) => (
        <span key={type} className="sk-settings-scope">{type}</span>
      ))}
      {types.length > SHOWN_TYPES && <span className="sk-muted">{t("webhooks.moreTypes", { count: types.length - SHOWN_TYPES })}</span>}
    </p>
  );
}

interface WebhookFormProps {
  /** The one to change; without it another is made. */
  webhook?: Webhook;
  onClose: () => void;
  onMade: (webhook: Webhook) => void;
}

export function WebhookForm({ webhook, onClose, onMade }: WebhookFormProps) {
  const t = useSettingsText();
  const formId = useId();
  const [url, setUrl] = useState(webhook?.url ?? "");
  const [types, setTypes] = useState<string[]>(webhook?.types ?? []);
  const save = useMutation({
    mutationFn: () => {
      const body = { url: url.trim(), types };
      return webhook === undefined ? send<Webhook>("POST", "/v1/webhooks", { body }) : send<Webhook>("PATCH", `/v1/webhooks/${webhook.id}`, { body });
    },
    onSuccess: onMade,
  });
  const isOfUrl = save.error instanceof ProblemError && save.error.field === "url";
  return (
    <Modal
      open
      title={t(webhook === undefined ? "webhooks.new" : "webhooks.edit")}
      onCancel={onClose}
      okText={t(webhook === undefined ? "webhooks.create" : "save")}
      cancelText={t("cancel")}
      okButtonProps={{ htmlType: "submit", form: formId, disabled: url.trim() === "" }}
      confirmLoading={save.isPending}
    >
      <form
        id={formId}
        className="sk-stack"
        onSubmit={(event) => {
          event.preventDefault();
          save.mutate();
        }}
      >
        <FormField label={t("webhooks.url")} hint={t("webhooks.urlHint")} error={isOfUrl ? save.error?.message : undefined}>
          {(control) => (
            <Input {...control} type="url" placeholder="https://example.org/sskai" value={url} onChange={(event) => setUrl(event.target.value)} />
          )}
        </FormField>
        <FormField label={t("webhooks.types")} hint={t("webhooks.typesHint")}>
          {(control) => (
            <Select {...control} mode="multiple" allowClear value={types} onChange={setTypes} placeholder={t("webhooks.all")} options={EVENT_TYPES.map((type) => ({ value: type, label: type }))} />
          )}
        </FormField>
        {!isOfUrl && <ErrorLine error={save.error} />}
      </form>
    </Modal>
  );
}
