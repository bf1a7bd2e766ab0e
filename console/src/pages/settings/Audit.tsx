import { useMutation } from "@tanstack/react-query";
import { Button, Input, type TableColumnsType } from "antd";
import { type FormEvent, useMemo, useState } from "react";

import { send } from "../../api/client";
import { keys } from "../../api/keys";
import { usePages } from "../../api/usePages";
import { usePreferences } from "../../app/preferences";
import { DataTable } from "../../components/DataTable";
import { EmptyState } from "../../components/EmptyState";
import { ErrorLine } from "../../components/ErrorState";
import { FormField } from "../../components/FormField";
import { dateTime } from "../../i18n/figures";
import type { AuditEntry } from "./documents";
import { Part } from "./Part";
import { useSettingsText } from "./text";

const FIELDS = ["actor", "action", "target"] as const;
type Filter = Partial<Record<(typeof FIELDS)[number], string>>;

interface Verdict {
  valid: boolean;
  entries: number;
  broken_at: number | null;
}

/** Who changed what, and whether the log is what was written. */
export default function AuditPart() {
  const t = useSettingsText();
  return (
    <Part title={t("part.audit")} lead={t("audit.lead")} needs="admin">
      <Log />
    </Part>
  );
}

function Log() {
  const t = useSettingsText();
  const [draft, setDraft] = useState<Filter>({});
  const [filter, setFilter] = useState<Filter>({});
  const list = usePages<AuditEntry>([...keys.audit, "list", filter], "/v1/audit", filter);
  const columns = useColumns();
  const submit = (event: FormEvent) => {
    event.preventDefault();
    setFilter(draft);
  };
  return (
    <>
      <Verify />
      <form className="sk-settings-filter" onSubmit={submit} role="search">
        {FIELDS.map((field) => (
          <FormField key={field} label={t(`audit.${field}`)}>
            {(control) => (
              <Input
                {...control}
                allowClear
                placeholder={t(`audit.${field}Example`)}
                value={draft[field] ?? ""}
                onChange={(event) => setDraft({ ...draft, [field]: event.target.value.trim() })}
              />
            )}
          </FormField>
        ))}
        <Button htmlType="submit">{t("audit.filter")}</Button>
      </form>
      <DataTable label={t("part.audit")} pages={list} columns={columns} rowKey={(entry) => entry.id} empty={<EmptyState title={t("audit.none")} detail={t("audit.noneDetail")} />} />
    </>
  );
}

function Verify() {
  const t = useSettingsText();
  const verify = useMutation({ mutationFn: () => send<Verdict>("GET", "/v1/audit/verify") });
  const { data } = verify;
  return (
    <div className="sk-row">
      <Button onClick={() => verify.mutate()} loading={verify.isPending}>
        {t("audit.verify")}
      </Button>
      <span role="status" className="sk-settings-verdict" data-valid={data?.valid}>
        {data && (data.valid ? t("audit.valid", { count: data.entries }) : t("audit.broken", { seq: data.broken_at ?? 0 }))}
      </span>
      <ErrorLine error={verify.error} />
    </div>
  );
}

function useColumns(): TableColumnsType<AuditEntry> {
  const t = useSettingsText();
  const { locale } = usePreferences();
  return useMemo(
    () => [
      { title: "#", key: "seq", render: (_, entry) => entry.seq },
      { title: t("audit.at"), key: "at", render: (_, entry) => <time dateTime={entry.at}>{dateTime(new Date(entry.at), locale)}</time> },
      {
        title: t("audit.actor"),
        key: "actor",
        render: (_, { actor }) => (
          <span className="sk-settings-name">
            <strong>{actor.name || actor.id}</strong>
            <small>{t(`audit.kind.${actor.kind}`)}</small>
          </span>
        ),
      },
      { title: t("audit.action"), key: "action", render: (_, entry) => <code>{entry.action}</code> },
      { title: t("audit.target"), key: "target", render: (_, entry) => <code>{entry.target}</code> },
      {
        title: t("audit.status"),
        key: "status",
        render: (_, entry) => <span className={entry.status >= 400 ? "sk-settings-refused" : ""}>{entry.status}</span>,
      },
      { title: "SHA-256", key: "sha", render: (_, entry) => <code title={entry.sha256}>{entry.sha256.slice(0, 12)}</code> },
    ],
    [t, locale],
  );
}
