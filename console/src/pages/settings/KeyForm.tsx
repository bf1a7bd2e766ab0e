import { useMutation } from "@tanstack/react-query";
import { Checkbox, Input, Modal, Select } from "antd";
import { useId, useState } from "react";

import { send } from "../../api/client";
import type { Scope } from "../../api/documents";
import { ProblemError } from "../../api/problem";
import { useSession } from "../../api/session";
import { ErrorLine } from "../../components/ErrorState";
import { FormField } from "../../components/FormField";
import type { ApiKey } from "./documents";
import { useSettingsText } from "./text";

const SCOPES: Scope[] = ["read", "infer", "write", "admin"];
const LIFETIMES = ["7d", "30d", "90d", "365d", "never"] as const;

/** A key may do no more than who makes it. */
export function KeyForm({ onClose, onMade }: { onClose: () => void; onMade: (key: ApiKey) => void }) {
  const t = useSettingsText();
  const { scopes: own } = useSession();
  const formId = useId();
  const [name, setName] = useState("");
  const [scopes, setScopes] = useState<Scope[]>(() => SCOPES.filter((scope) => scope !== "admin" && own.includes(scope)));
  const [lifetime, setLifetime] = useState<(typeof LIFETIMES)[number]>("90d");
  const [isSampled, setIsSampled] = useState(true);
  const make = useMutation({
    mutationFn: () =>
      send<ApiKey>("POST", "/v1/keys", {
        body: { name: name.trim(), scopes, sampled: isSampled, ...(lifetime === "never" ? {} : { expires_in: lifetime }) },
      }),
    onSuccess: onMade,
  });
  const field = make.error instanceof ProblemError ? make.error.field : undefined;
  return (
    <Modal
      open
      title={t("keys.new")}
      onCancel={onClose}
      okText={t("keys.create")}
      cancelText={t("cancel")}
      okButtonProps={{ htmlType: "submit", form: formId, disabled: name.trim() === "" || scopes.length === 0 }}
      confirmLoading={make.isPending}
    >
      <form
        id={formId}
        className="sk-stack"
        onSubmit={(event) => {
          event.preventDefault();
          make.mutate();
        }}
      >
        <FormField label={t("column.name")} hint={t("keys.nameHint")} error={field === "name" ? make.error?.message : undefined}>
          {(control) => <Input {...control} maxLength={100} autoComplete="off" value={name} onChange={(event) => setName(event.target.value)} />}
        </FormField>
        <fieldset className="sk-settings-scopes">
          <legend>{t("column.scopes")}</legend>
          {SCOPES.filter((scope) => own.includes(scope)).map((scope) => (
            <Checkbox
              key={scope}
              checked={scopes.includes(scope)}
              onChange={(event) => setScopes(event.target.checked ? [...scopes, scope] : scopes.filter((one) => one !== scope))}
            >
              <strong>{t(`scope.${scope}`)}</strong> <span className="sk-muted">{t(`scope.${scope}.detail`)}</span>
            </Checkbox>
          ))}
        </fieldset>
        <FormField label={t("column.expires")}>
          {(control) => (
            <Select
              {...control}
              value={lifetime}
              onChange={setLifetime}
              options={LIFETIMES.map((one) => ({ value: one, label: one === "never" ? t("never") : t("days", { count: Number.parseInt(one, 10) }) }))}
            />
          )}
        </FormField>
        <Checkbox checked={isSampled} onChange={(event) => setIsSampled(event.target.checked)}>
          {t("keys.sampled")}
        </Checkbox>
        {field !== "name" && <ErrorLine error={make.error} />}
      </form>
    </Modal>
  );
}
