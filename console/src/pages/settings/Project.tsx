import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { App, Button, Input } from "antd";
import { type FormEvent, useState } from "react";

import { send } from "../../api/client";
import { keys } from "../../api/keys";
import { authQuery, useMay, useSession, useSwitchTenant } from "../../api/session";
import { CopyButton } from "../../components/CodeBlock";
import { ErrorLine } from "../../components/ErrorState";
import { Facts } from "../../components/Facts";
import { FormField } from "../../components/FormField";
import { Section } from "../../components/Page";
import type { Tenant } from "./documents";
import { Part } from "./Part";
import { useSettingsText } from "./text";

/** The project that is open, and another one. */
export default function ProjectPart() {
  const t = useSettingsText();
  const { tenant, role, operator, user } = useSession();
  const auth = useQuery(authQuery);
  const mayMake = operator || (user !== null && auth.data?.sign_up === "open");
  if (tenant === null) return <Part title={t("part.project")}>{mayMake && <NewProject />}</Part>;
  return (
    <Part title={t("part.project")} lead={t("project.lead")}>
      <Section title={tenant.name}>
        <Facts
          facts={[
            { label: t("project.id"), value: <span className="sk-settings-id"><code>{tenant.id}</code><CopyButton text={tenant.id} what={t("project.id")} /></span> },
            { label: t("project.role"), value: role ? t(`role.${role}`) : "–" },
          ]}
        />
        <Rename key={tenant.name} tenant={tenant} />
      </Section>
      {mayMake && <NewProject />}
    </Part>
  );
}

function Rename({ tenant }: { tenant: { id: string; name: string } }) {
  const t = useSettingsText();
  const { message } = App.useApp();
  const client = useQueryClient();
  const mayChange = useMay("admin");
  const [name, setName] = useState(tenant.name);
  const rename = useMutation({
    mutationFn: () => send<Tenant>("PATCH", `/v1/tenants/${tenant.id}`, { body: { name: name.trim() } }),
    onSuccess: async () => {
      void message.success(t("project.renamed"));
      await client.invalidateQueries({ queryKey: keys.session });
    },
  });
  if (!mayChange) return null;
  const submit = (event: FormEvent) => {
    event.preventDefault();
    rename.mutate();
  };
  return (
    <form className="sk-settings-line" onSubmit={submit}>
      <FormField label={t("project.name")}>
        {(control) => <Input {...control} maxLength={100} value={name} onChange={(event) => setName(event.target.value)} />}
      </FormField>
      <Button htmlType="submit" loading={rename.isPending} disabled={name.trim() === "" || name.trim() === tenant.name}>
        {t("save")}
      </Button>
      <ErrorLine error={rename.error} />
    </form>
  );
}

function NewProject() {
  const t = useSettingsText();
  const open = useSwitchTenant();
  const [name, setName] = useState("");
  const make = useMutation({
    mutationFn: () => send<Tenant>("POST", "/v1/tenants", { body: { name: name.trim() } }),
    onSuccess: (tenant) => open.mutate(tenant.id),
  });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    make.mutate();
  };
  return (
    <Section title={t("project.new")}>
      <p className="sk-muted">{t("project.newDetail")}</p>
      <form className="sk-settings-line" onSubmit={submit}>
        <FormField label={t("project.name")}>
          {(control) => <Input {...control} maxLength={100} value={name} onChange={(event) => setName(event.target.value)} />}
        </FormField>
        <Button htmlType="submit" loading={make.isPending || open.isPending} disabled={name.trim() === ""}>
          {t("project.create")}
        </Button>
        <ErrorLine error={make.error ?? open.error} />
      </form>
    </Section>
  );
}
