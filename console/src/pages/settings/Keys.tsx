import { useMutation, useQueryClient } from "@tanstack/react-query";
import { App, Button, type TableColumnsType } from "antd";
import { useMemo, useState } from "react";

import { send } from "../../api/client";
import { keys } from "../../api/keys";
import { useMay } from "../../api/session";
import { usePages } from "../../api/usePages";
import { DataTable } from "../../components/DataTable";
import { EmptyState } from "../../components/EmptyState";
import { ErrorLine } from "../../components/ErrorState";
import { TimeAgo } from "../../components/Figures";
import { Icon } from "../../components/icons";
import { StateTag } from "../../components/StateTag";
import type { ApiKey } from "./documents";
import { KeyForm } from "./KeyForm";
import { OnceShown, Part } from "./Part";
import { useSettingsText } from "./text";

/** Keys of the project: made, shown once, revoked. */
export default function KeysPart() {
  const t = useSettingsText();
  const { modal, message } = App.useApp();
  const client = useQueryClient();
  const mayAdmin = useMay("admin");
  const [isOpen, setIsOpen] = useState(false);
  const [made, setMade] = useState<ApiKey | null>(null);
  const list = usePages<ApiKey>([...keys.apiKeys, "list"], "/v1/keys");
  const refresh = () => client.invalidateQueries({ queryKey: keys.apiKeys });
  const revoke = useMutation({
    mutationFn: (key: ApiKey) => send("DELETE", `/v1/keys/${key.id}`),
    onSuccess: async (_, key) => {
      void message.success(t("keys.revoked", { name: key.name }));
      await refresh();
    },
  });
  const ask = (key: ApiKey) =>
    modal.confirm({
      title: t("keys.revokeTitle", { name: key.name }),
      content: t("keys.revokeDetail"),
      okText: t("keys.revoke"),
      okButtonProps: { danger: true },
      cancelText: t("cancel"),
      onOk: () => revoke.mutateAsync(key).catch(() => undefined),
    });
  const columns = useColumns(mayAdmin ? ask : null);
  const open = mayAdmin && (
    <Button type="primary" icon={<Icon name="plus" size={16} />} onClick={() => setIsOpen(true)}>
      {t("keys.new")}
    </Button>
  );
  return (
    <Part title={t("part.keys")} lead={t("keys.lead")} actions={open}>
      {made?.key !== undefined && <OnceShown title={t("keys.made", { name: made.name })} detail={t("once")} secret={made.key} label={t("keys.key")} />}
      <ErrorLine error={revoke.error} />
      <DataTable label={t("part.keys")} pages={list} columns={columns} rowKey={(key) => key.id} empty={<EmptyState title={t("keys.none")} action={open} />} />
      {isOpen && (
        <KeyForm
          onClose={() => setIsOpen(false)}
          onMade={(key) => {
            setMade(key);
            setIsOpen(false);
            void refresh();
          }}
        />
      )}
    </Part>
  );
}

function stateOf(key: ApiKey): "active" | "revoked" | "expired" {
  if (key.revoked_at !== null) return "revoked";
  return key.expires_at !== null && new Date(key.expires_at) < new Date() ? "expired" : "active";
}

function useColumns(onRevoke: ((key: ApiKey) => void) | null): TableColumnsType<ApiKey> {
  const t = useSettingsText();
  return useMemo(
    () => [
      {
        title: t("column.name"),
        key: "name",
        render: (_, key) => (
          <span className="sk-settings-name">
            <strong>{key.name}</strong>
            <code>{key.prefix}…</code>
          </span>
        ),
      },
      {
        title: t("column.scopes"),
        key: "scopes",
        render: (_, key) => (
          <span className="sk-settings-tags">
            {key.operator && <span className="sk-settings-scope">{t("scope.operator")}</span>}
            {key.scopes.map((scope) => (
              <span key={scope} className="sk-settings-scope">{t(`scope.${scope}`)}</span>
            ))}
          </span>
        ),
      },
      {
        title: t("column.state"),
        key: "state",
        render: (_, key) => (
          <span className="sk-settings-name">
            <span><StateTag state={stateOf(key)} /></span>
            <small>{key.expires_at === null ? t("keys.stays") : <>{t("column.expires")} <TimeAgo at={key.expires_at} /></>}</small>
          </span>
        ),
      },
      {
        title: t("column.lastUsed"),
        key: "used",
        render: (_, key) => (
          <span className="sk-settings-name">
            {key.last_used_at === null ? <span>{t("never")}</span> : <TimeAgo at={key.last_used_at} />}
            <small>{t("column.created")} <TimeAgo at={key.created_at} /></small>
          </span>
        ),
      },
      {
        title: <span className="sk-hidden">{t("column.actions")}</span>,
        key: "actions",
        align: "right",
        render: (_, key) =>
          onRevoke !== null && key.revoked_at === null ? (
            <Button type="text" danger size="small" aria-label={t("keys.revokeOne", { name: key.name })} onClick={() => onRevoke(key)}>
              {t("keys.revoke")}
            </Button>
          ) : null,
      },
    ],
    [t, onRevoke],
  );
}
