import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { Button, Drawer, Input, InputNumber, Select } from "antd";
import { type FormEvent, useState } from "react";
import { useNavigate } from "react-router";

import { send } from "../../api/client";
import { keys } from "../../api/keys";
import { ProblemError } from "../../api/problem";
import { ErrorLine } from "../../components/ErrorState";
import { FormField } from "../../components/FormField";
import type { Endpoint, Mode } from "./documents";
import { PlanEndpoint } from "./PlanEndpoint";
import { servableQuery } from "./queries";
import { useEndpointsText } from "./text";

export interface Draft {
  name: string;
  model: string;
  kind: Endpoint["kind"];
  minimum: number;
  maximum: number | null;
  onDemand: number;
  sampleRate: number;
  promotion: Mode | "none";
  project: string;
}

const KINDS = ["adapter", "serverless", "spot"] as const;
const MODES = ["none", "suggest", "approve", "auto"] as const;

export function bodyOf(draft: Draft): Record<string, unknown> {
  const { kind, minimum, maximum, onDemand } = draft;
  return {
    name: draft.name.trim(),
    model: draft.model,
    kind,
    sample_rate: draft.sampleRate / 100,
    ...(draft.promotion === "none" ? {} : { promotion: { mode: draft.promotion } }),
    ...(draft.project.trim() === "" ? {} : { project: draft.project.trim() }),
    ...(kind === "spot" ? { replicas: { minimum, on_demand: onDemand, ...(maximum === null ? {} : { maximum }) } } : {}),
  };
}

/** From `bot@3` comes the name `bot`, until somebody writes another. */
function nameOf(model: string): string {
  return model.replace(/^model:\/\//, "").replace(/[@/].*$/, "").toLowerCase().replace(/[^a-z0-9-]+/g, "-");
}

export function CreateEndpoint({ model, onClose }: { model: string | null; onClose: () => void }) {
  const t = useEndpointsText();
  const navigate = useNavigate();
  const client = useQueryClient();
  const models = useQuery(servableQuery);
  const [draft, setDraft] = useState<Draft>({
    name: nameOf(model ?? ""), model: model ?? "", kind: "adapter",
    minimum: 1, maximum: null, onDemand: 0, sampleRate: 100, promotion: "approve", project: "",
  });
  const change = (changes: Partial<Draft>) => setDraft((before) => ({ ...before, ...changes }));

  const create = useMutation({
    mutationFn: () => send<Endpoint>("POST", "/v1/endpoints", { body: bodyOf(draft) }),
    onSuccess: async (endpoint) => {
      await client.invalidateQueries({ queryKey: keys.endpoints });
      await navigate(`/endpoints/${endpoint.id}`);
    },
  });
  const wrong = create.error instanceof ProblemError ? create.error.field : undefined;
  const errorOf = (field: string) => (wrong === field ? create.error?.message : undefined);
  const submit = (event: FormEvent) => {
    event.preventDefault();
    create.mutate();
  };
  const options = (models.data ?? []).map((one) => ({ value: one.id, label: one.id }));
  if (model !== null && !options.some((one) => one.value === model)) options.unshift({ value: model, label: model });

  return (
    <Drawer open size={560} onClose={onClose} title={t("create.title")} closable={{ "aria-label": t("close") }} className="sk-endpoints-drawer">
      <form className="sk-stack" onSubmit={submit} noValidate>
        <FormField label={t("create.model")} hint={t("create.modelHint")} error={errorOf("model")}>
          {(control) => (
            <Select
              {...control}
              showSearch
              loading={models.isPending}
              options={options}
              {...(draft.model === "" ? {} : { value: draft.model })}
              placeholder={t("create.modelPlaceholder")}
              onChange={(value: string) => change({ model: value, ...(draft.name === nameOf(draft.model) ? { name: nameOf(value) } : {}) })}
            />
          )}
        </FormField>
        <FormField label={t("create.name")} hint={t("create.nameHint")} error={errorOf("name")}>
          {(control) => (
            <Input {...control} value={draft.name} spellCheck={false} autoComplete="off" onChange={(event) => change({ name: event.target.value })} />
          )}
        </FormField>
        <fieldset className="sk-endpoints-kinds">
          <legend>{t("create.kind")}</legend>
          {KINDS.map((kind) => (
            <label key={kind} data-checked={draft.kind === kind}>
              <input type="radio" name="kind" value={kind} checked={draft.kind === kind} onChange={() => change({ kind })} />
              <strong>{t(`kind.${kind}`)}</strong>
              <span>{t(`kind.${kind}.detail`)}</span>
            </label>
          ))}
        </fieldset>
        {draft.kind === "spot" && (
          <div className="sk-fields">
            <Count label={t("create.minimum")} hint={t("create.minimumHint")} value={draft.minimum} onChange={(minimum) => change({ minimum: minimum ?? 0 })} />
            <Count label={t("create.maximum")} hint={t("create.maximumHint")} value={draft.maximum} onChange={(maximum) => change({ maximum })} />
            <Count label={t("create.onDemand")} hint={t("create.onDemandHint")} value={draft.onDemand} onChange={(count) => change({ onDemand: count ?? 0 })} />
          </div>
        )}
        <FormField label={t("create.promotion")} hint={t(`mode.${draft.promotion}.detail`)}>
          {(control) => (
            <Select
              {...control}
              value={draft.promotion}
              options={MODES.map((mode) => ({ value: mode, label: t(`mode.${mode}`) }))}
              onChange={(promotion: Draft["promotion"]) => change({ promotion })}
            />
          )}
        </FormField>
        <div className="sk-fields">
          <FormField label={t("create.sampleRate")} hint={t("create.sampleRateHint")} error={errorOf("sample_rate")}>
            {(control) => (
              <InputNumber {...control} min={0} max={100} suffix="%" value={draft.sampleRate} onChange={(rate) => change({ sampleRate: rate ?? 0 })} />
            )}
          </FormField>
          <FormField label={t("create.project")} hint={t("create.projectHint")} error={errorOf("project")}>
            {(control) => <Input {...control} value={draft.project} onChange={(event) => change({ project: event.target.value })} />}
          </FormField>
        </div>
        <PlanEndpoint draft={draft} />
        {(wrong === undefined || !["name", "model", "sample_rate", "project"].includes(wrong)) && <ErrorLine error={create.error} />}
        <div className="sk-row">
          <Button type="primary" htmlType="submit" loading={create.isPending} disabled={draft.model === "" || draft.name.trim() === ""}>
            {t("create.submit")}
          </Button>
          <Button onClick={onClose}>{t("cancel")}</Button>
        </div>
      </form>
    </Drawer>
  );
}

interface CountProps {
  label: string;
  hint: string;
  value: number | null;
  onChange: (value: number | null) => void;
}

function Count({ label, hint, value, onChange }: CountProps) {
  return (
    <FormField label={label} hint={hint}>
      {(control) => <InputNumber {...control} min={0} max={100} precision={0} value={value} onChange={onChange} />}
    </FormField>
  );
}
