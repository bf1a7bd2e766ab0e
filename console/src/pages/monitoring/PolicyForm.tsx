import { useMutation, useQueryClient } from "@tanstack/react-query";
import { App, Button, Checkbox, Input, InputNumber, Segmented } from "antd";
import { type FormEvent, useState } from "react";

import { send } from "../../api/client";
import { keys } from "../../api/keys";
import { ProblemError } from "../../api/problem";
import { ErrorLine } from "../../components/ErrorState";
import { type Fact, Facts } from "../../components/Facts";
import { Money, TimeAgo, useDuration } from "../../components/Figures";
import { FormField } from "../../components/FormField";
import type { Policy, Retraining } from "./documents";
import { useMonitoringText } from "./text";

const HEARD_AFTER_MS = 1_500;

/** When its model is trained again, on what, for how much, and who says yes. */
export function PolicyForm({ endpointId, retraining, mayChange }: { endpointId: string; retraining: Retraining; mayChange: boolean }) {
  const t = useMonitoringText();
  const client = useQueryClient();
  const { message } = App.useApp();
  const told = useDuration();
  const [draft, setDraft] = useState<Policy>(() => withReadableCooldown(retraining.policy));
  const change = (changes: Partial<Policy>) => setDraft({ ...draft, ...changes });
  // The monitor hears of a policy by an event: its answer follows within a second or so.
  const read = () => client.invalidateQueries({ queryKey: keys.retraining(endpointId) });
  const after = (words: string) => {
    void message.success(words);
    setTimeout(() => void read(), HEARD_AFTER_MS);
  };
  const save = useMutation({
    mutationFn: () => send("PUT", `/v1/endpoints/${endpointId}/retraining`, { body: bodyOf(draft) }),
    onSuccess: () => after(t("policy.saved")),
  });
  const remove = useMutation({
    mutationFn: () => send("DELETE", `/v1/endpoints/${endpointId}/retraining`),
    onSuccess: () => after(t("policy.removed")),
  });
  const wrong = save.error instanceof ProblemError ? save.error : null;
  const errorOf = (...fields: string[]) => wrong?.errors.find((one) => fields.includes(one.field))?.message ?? (fields.includes(wrong?.field ?? "") ? wrong?.detail : undefined);

  const facts: Fact[] = [
    { label: t("policy.by"), value: t(`policy.by.${retraining.set_by}`) },
    { label: t("policy.spent"), value: <Money usd={retraining.spent_usd} /> },
    ...(retraining.next_at === null ? [] : [{ label: t("policy.next"), value: <TimeAgo at={retraining.next_at} /> }]),
    ...(mayChange || retraining.policy.cooldown === null ? [] : [{ label: t("policy.cooldown"), value: told(secondsOf(retraining.policy.cooldown)) }]),
  ];
  const submit = (event: FormEvent) => {
    event.preventDefault();
    save.mutate();
  };
  return (
    <div className="sk-stack">
      <Facts facts={facts} />
      {retraining.refused_now !== null && retraining.pending.length === 0 && (
        <p className="sk-notice">
          {t("policy.refused")} {retraining.refused_now.detail || retraining.refused_now.rule}
        </p>
      )}
      {!mayChange && <p>{t(`policy.${retraining.policy.mode}.detail`)}</p>}
      {mayChange && (
        <form className="sk-stack" onSubmit={submit} noValidate>
          <div className="sk-field">
            <span id="policy-mode">{t("policy.mode")}</span>
            <Segmented<Policy["mode"]>
              aria-labelledby="policy-mode"
              value={draft.mode}
              onChange={(mode) => change({ mode })}
              options={(["suggest", "approve", "auto"] as const).map((mode) => ({ value: mode, label: t(`policy.${mode}`) }))}
            />
            <p className="sk-hint">{t(`policy.${draft.mode}.detail`)}</p>
          </div>
          <fieldset className="sk-monitoring-wish">
            <legend>{t("policy.on")}</legend>
            <Checkbox checked={draft.on.drift} onChange={(event) => change({ on: { ...draft.on, drift: event.target.checked } })}>
              {t("policy.onDrift")}
            </Checkbox>
            <Checkbox checked={draft.on.new_dataset} onChange={(event) => change({ on: { ...draft.on, new_dataset: event.target.checked } })}>
              {t("policy.onData")}
            </Checkbox>
          </fieldset>
          <FormField label={t("policy.schedule")} hint={t("policy.scheduleHint")} error={errorOf("on.schedule", "schedule")}>
            {(control) => (
              <Input
                {...control}
                value={draft.on.schedule ?? ""}
                placeholder="0 3 * * mon"
                onChange={(event) => change({ on: { ...draft.on, schedule: event.target.value === "" ? null : event.target.value } })}
              />
            )}
          </FormField>
          <div className="sk-field">
            <span id="policy-data">{t("policy.data")}</span>
            <Segmented<Policy["data"]>
              aria-labelledby="policy-data"
              value={draft.data}
              onChange={(data) => change({ data })}
              options={(["dataset", "traffic"] as const).map((data) => ({ value: data, label: t(`policy.data.${data}`) }))}
            />
          </div>
          <div className="sk-fields">
            <Usd label={t("policy.perMonth")} value={draft.budget_usd_per_month} onChange={(usd) => change({ budget_usd_per_month: usd })} />
            <Usd label={t("policy.perJob")} value={draft.max_job_budget_usd} onChange={(usd) => change({ max_job_budget_usd: usd })} />
            <FormField label={t("policy.cooldown")} hint="6h, 1d" error={errorOf("cooldown")}>
              {(control) => (
                <Input {...control} value={draft.cooldown ?? ""} onChange={(event) => change({ cooldown: event.target.value === "" ? null : event.target.value })} />
              )}
            </FormField>
            <FormField label={t("policy.alarms")} hint={t("policy.alarmsHint")}>
              {(control) => (
                <InputNumber {...control} min={1} max={20} precision={0} value={draft.confirmations.alarms} onChange={(alarms) => change({ confirmations: { ...draft.confirmations, alarms: alarms ?? 1 } })} />
              )}
            </FormField>
            <FormField label={t("policy.samples")} hint={t("policy.samplesHint")}>
              {(control) => (
                <InputNumber {...control} min={0} max={1_000_000} precision={0} value={draft.confirmations.samples} onChange={(samples) => change({ confirmations: { ...draft.confirmations, samples: samples ?? 0 } })} />
              )}
            </FormField>
          </div>
          <ErrorLine error={save.error ?? remove.error} />
          <div className="sk-row">
            <Button type="primary" htmlType="submit" loading={save.isPending}>
              {t("policy.save")}
            </Button>
            {retraining.set_by === "owner" && (
              <Button type="text" onClick={() => remove.mutate()} loading={remove.isPending}>
                {t("policy.remove")}
              </Button>
            )}
          </div>
        </form>
      )}
    </div>
  );
}

function Usd({ label, value, onChange }: { label: string; value: number | null; onChange: (usd: number | null) => void }) {
  const t = useMonitoringText();
  return (
    <FormField label={label} hint={t("policy.unbounded")}>
      {(control) => <InputNumber {...control} min={0} prefix="$" value={value} onChange={onChange} />}
    </FormField>
  );
}

function bodyOf({ cooldown, budget_usd_per_month: month, max_job_budget_usd: job, ...rest }: Policy): Record<string, unknown> {
  return {
    ...rest,
    ...(cooldown === null ? {} : { cooldown }),
    ...(month === null ? {} : { budget_usd_per_month: month }),
    ...(job === null ? {} : { max_job_budget_usd: job }),
  };
}

const UNITS = { s: 1, m: 60, h: 3_600, d: 86_400 } as const;

function secondsOf(duration: string): number {
  const unit = duration.at(-1) as keyof typeof UNITS;
  return Number.parseFloat(duration) * (UNITS[unit] ?? 1);
}

/** The gateway tells seconds; people write hours. */
function withReadableCooldown(policy: Policy): Policy {
  if (policy.cooldown === null) return policy;
  const seconds = secondsOf(policy.cooldown);
  const unit = (["d", "h", "m"] as const).find((one) => seconds >= UNITS[one] && seconds % UNITS[one] === 0);
  return unit === undefined ? policy : { ...policy, cooldown: `${seconds / UNITS[unit]}${unit}` };
}
