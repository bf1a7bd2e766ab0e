import { useMutation, useQueryClient } from "@tanstack/react-query";
import { App, Button, Input, Select, type TableColumnsType } from "antd";
import { type FormEvent, useMemo, useState } from "react";

import { send } from "../../api/client";
import type { Role } from "../../api/documents";
import { keys } from "../../api/keys";
import { useMay, useSession } from "../../api/session";
import { usePages } from "../../api/usePages";
import { DataTable } from "../../components/DataTable";
import { EmptyState } from "../../components/EmptyState";
import { ErrorLine } from "../../components/ErrorState";
import { TimeAgo } from "../../components/Figures";
import { FormField } from "../../components/FormField";
import { StateTag } from "../../components/StateTag";
import type { Member } from "./documents";
import { Part } from "./Part";
import { useSettingsText } from "./text";

const ROLES: Role[] = ["viewer", "developer", "admin"];

/** The people of the project. */
export default function MembersPart() {
  const t = useSettingsText();
  const { modal } = App.useApp();
  const client = useQueryClient();
  const mayAdmin = useMay("admin");
  const { user } = useSession();
  const list = usePages<Member>([...keys.members, "list"], "/v1/members");
  const refresh = () => client.invalidateQueries({ queryKey: keys.members });
  const change = useMutation({
    mutationFn: ({ id, role }: { id: string; role: Role }) => send<Member>("PATCH", `/v1/members/${id}`, { body: { role } }),
    onSettled: refresh,
  });
  const remove = useMutation({ mutationFn: (member: Member) => send("DELETE", `/v1/members/${member.id}`), onSettled: refresh });
  const ask = (member: Member) =>
    modal.confirm({
      title: t("members.removeTitle", { who: member.name || member.email }),
      content: t("members.removeDetail"),
      okText: t("members.remove"),
      okButtonProps: { danger: true },
      cancelText: t("cancel"),
      onOk: () => remove.mutateAsync(member).catch(() => undefined),
    });
  const columns = useColumns(mayAdmin, user?.email ?? null, (id, role) => change.mutate({ id, role }), ask);
  return (
    <Part title={t("part.members")} lead={t("members.lead")}>
      {mayAdmin && <Invite onInvited={refresh} />}
      <ErrorLine error={change.error ?? remove.error} />
      <DataTable
        label={t("part.members")}
        pages={list}
        columns={columns}
        rowKey={(member) => member.id}
        empty={<EmptyState title={t("members.none")} detail={t("members.noneDetail")} />}
      />
    </Part>
  );
}

function Invite({ onInvited }: { onInvited: () => Promise<void> }) {
  const t = useSettingsText();
  const [email, setEmail] = useState("");
  const [role, setRole] = useState<Role>("developer");
  const invite = useMutation({
    mutationFn: () => send<Member>("POST", "/v1/members", { body: { email: email.trim(), role } }),
    onSuccess: async () => {
      setEmail("");
      await onInvited();
    },
  });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    invite.mutate();
  };
  return (
    <form className="sk-settings-invite sk-section" onSubmit={submit}>
      <FormField label={t("members.email")} error={invite.error?.message}>
        {(control) => (
          <Input {...control} type="email" autoComplete="off" placeholder="ann@example.org" value={email} onChange={(event) => setEmail(event.target.value)} />
        )}
      </FormField>
      <FormField label={t("project.role")} hint={t(`role.${role}.detail`)}>
        {(control) => <Select {...control} value={role} onChange={setRole} options={ROLES.map((one) => ({ value: one, label: t(`role.${one}`) }))} />}
      </FormField>
      <Button type="primary" htmlType="submit" loading={invite.isPending} disabled={!email.includes("@")}>
        {t("members.invite")}
      </Button>
    </form>
  );
}

function useColumns(
  mayAdmin: boolean,
  ownEmail: string | null,
  onRole: (id: string, role: Role) => void,
  onRemove: (member: Member) => void,
): TableColumnsType<Member> {
  const t = useSettingsText();
  return useMemo(
    () => [
      {
        title: t("members.who"),
        key: "who",
        render: (_, member) => (
          <span className="sk-settings-name">
            <strong>{member.name || member.email}</strong>
            <small>
              {member.name === "" ? "" : member.email} {member.email === ownEmail && t("members.you")}
            </small>
          </span>
        ),
      },
      {
        title: t("project.role"),
        key: "role",
        render: (_, member) =>
          mayAdmin ? (
            <Select<Role>
              aria-label={t("members.roleOf", { who: member.email })}
              className="sk-settings-role"
              value={member.role}
              onChange={(role) => onRole(member.id, role)}
              options={ROLES.map((one) => ({ value: one, label: t(`role.${one}`) }))}
            />
          ) : (
            t(`role.${member.role}`)
          ),
      },
      { title: t("column.state"), key: "state", render: (_, member) => <StateTag state={member.state} /> },
      { title: t("column.created"), key: "created", render: (_, member) => <TimeAgo at={member.created_at} /> },
      {
        title: <span className="sk-hidden">{t("column.actions")}</span>,
        key: "actions",
        align: "right",
        render: (_, member) =>
          mayAdmin ? (
            <Button type="text" danger size="small" aria-label={t("members.removeOne", { who: member.email })} onClick={() => onRemove(member)}>
              {t("members.remove")}
            </Button>
          ) : null,
      },
    ],
    [t, mayAdmin, ownEmail, onRole, onRemove],
  );
}
