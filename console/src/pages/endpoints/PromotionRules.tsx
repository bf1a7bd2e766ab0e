import { useMutation, useQueryClient } from "@tanstack/react-query";
import { App, Button, Input, InputNumber, Select, Switch } from "antd";
import { type FormEvent, useState } from "react";

import { send } from "../../api/client";
import { ErrorLine } from "../../components/ErrorState";
import { FormField } from "../../components/FormField";
import { Section } from "../../components/Page";
import type { Endpoint, Mode } from "./documents";
import { endpointQuery } from "./queries";
import { useEndpointsText } from "./text";

const MODES: Mode[] = ["suggest", "approve", "auto"];

/** "5, 25, 100" in percent; null where it is no such list. */
export function stepsOf(text: string): number[] | null {
  const steps = text.split(",").map((part) => Number(part.trim().replace("%", "")) / 100);
  const isRising = steps.every((step, index) => step > (steps[index - 1] ?? 0) && step <= 1);
  return steps.length > 0 && isRising ? steps : null;
}

/** How new versions are judged. What is left empty keeps its value. */
export function PromotionRules({ endpoint, mayWrite }: { endpoint: Endpoint; mayWrite: boolean }) {
  const t = useEndpointsText();
  const { message } = App.useApp();
  const client = useQueryClient();
  const rollout = endpoint.traffic?.rollout ?? null;
  const now = endpoint.traffic?.promotion ?? null;
  const [mode, setMode] = useState<Mode | null>(null);
  const [steps, setSteps] = useState<string | null>(null);
  const [requests, setRequests] = useState<number | null>(rollout?.minimum_requests ?? null);
  const [seconds, setSeconds] = useState<number | null>(rollout?.minimum_seconds ?? null);
  const [shadow, setShadow] = useState<number | null>(rollout === null ? null : rollout.shadow_fraction * 100);
  const [sticky, setSticky] = useState<boolean | null>(null);
  const parsed = steps === null || steps.trim() === "" ? undefined : stepsOf(steps);

  const promotion = {
    ...(mode === null ? {} : { mode }),
    ...(parsed ? { steps: parsed } : {}),
    ...(requests === null ? {} : { minimum_requests: requests }),
    ...(seconds === null ? {} : { minimum_seconds: seconds }),
    ...(shadow === null ? {} : { shadow_fraction: shadow / 100 }),
    ...(sticky === null ? {} : { sticky_by_key: sticky }),
  };
  const save = useMutation({
    mutationFn: () => send<Endpoint>("PATCH", `/v1/endpoints/${endpoint.id}`, { body: { promotion } }),
    onSuccess: async () => {
      void message.success(t("rules.saved"));
      await client.invalidateQueries(endpointQuery(endpoint.id));
    },
  });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    save.mutate();
  };
  const shownMode = mode ?? now;
  if (!mayWrite) {
    return (
      <Section title={t("rules.title")}>
        <p>{now === null ? t("mode.none.detail") : t(`mode.${now}.detail`)}</p>
      </Section>
    );
  }
  return (
    <Section title={t("rules.title")}>
      <form className="sk-stack" onSubmit={submit} noValidate>
        <FormField label={t("rules.mode")} hint={t(`mode.${shownMode ?? "none"}.detail`)}>
          {(control) => (
            <Select
              {...control}
              value={shownMode}
              placeholder={t("mode.none")}
              options={MODES.map((one) => ({ value: one, label: t(`mode.${one}`) }))}
              onChange={setMode}
            />
          )}
        </FormField>
        <FormField label={t("rules.steps")} hint={t("rules.stepsHint")} error={parsed === null ? t("rules.stepsWrong") : undefined}>
          {(control) => (
            <Input
              {...control}
              value={steps ?? ""}
              placeholder={(rollout?.steps ?? [0.05, 0.25, 1]).map((step) => Math.round(step * 1000) / 10).join(", ")}
              onChange={(event) => setSteps(event.target.value)}
            />
          )}
        </FormField>
        <div className="sk-fields">
          <FormField label={t("rules.requests")}>
            {(control) => <InputNumber {...control} min={1} precision={0} placeholder="50" value={requests} onChange={setRequests} />}
          </FormField>
          <FormField label={t("rules.seconds")}>
            {(control) => <InputNumber {...control} min={0} suffix="s" placeholder="600" value={seconds} onChange={setSeconds} />}
          </FormField>
          <FormField label={t("rules.shadow")}>
            {(control) => <InputNumber {...control} min={0} max={100} suffix="%" placeholder="0" value={shadow} onChange={setShadow} />}
          </FormField>
        </div>
        <span className="sk-endpoints-switch">
          <Switch id="sticky" checked={sticky ?? false} onChange={setSticky} />
          <label htmlFor="sticky">{t("rules.sticky")}</label>
        </span>
        <ErrorLine error={save.error} />
        <div>
          <Button htmlType="submit" loading={save.isPending} disabled={Object.keys(promotion).length === 0 || parsed === null}>
            {t("save")}
          </Button>
        </div>
      </form>
    </Section>
  );
}
