import { useMutation, useQueryClient } from "@tanstack/react-query";
import { Button, Checkbox, InputNumber } from "antd";
import { type FormEvent, useState } from "react";

import { send } from "../../api/client";
import { keys } from "../../api/keys";
import { ErrorLine } from "../../components/ErrorState";
import { FormField } from "../../components/FormField";
import type { Objective, ObjectiveName } from "./documents";
import { useMonitoringText } from "./text";

interface Wish {
  isOn: boolean;
  percent: number;
  seconds: number;
}

const USUAL: Record<ObjectiveName, Wish> = {
  availability: { isOn: true, percent: 99, seconds: 0 },
  "time-to-first-token": { isOn: false, percent: 95, seconds: 1 },
  latency: { isOn: false, percent: 95, seconds: 10 },
};
const NAMES = Object.keys(USUAL) as ObjectiveName[];

export function ObjectivesForm({ endpointId, objectives, onDone }: { endpointId: string; objectives: Objective[]; onDone: () => void }) {
  const t = useMonitoringText();
  const client = useQueryClient();
  const [wishes, setWishes] = useState(() => {
    const begun = { ...USUAL };
    if (objectives.length > 0) begun.availability = { ...USUAL.availability, isOn: false };
    for (const one of objectives) {
      begun[one.name] = { isOn: true, percent: Math.round(one.target * 1e5) / 1e3, seconds: one.at_most_seconds ?? USUAL[one.name].seconds };
    }
    return begun;
  });
  const change = (name: ObjectiveName, changes: Partial<Wish>) => setWishes({ ...wishes, [name]: { ...wishes[name], ...changes } });
  const asked = NAMES.filter((name) => wishes[name].isOn).map((name) => ({
    name,
    target: wishes[name].percent / 100,
    ...(name === "availability" ? {} : { at_most_seconds: wishes[name].seconds }),
  }));
  const save = useMutation({
    mutationFn: () => send("PUT", `/v1/endpoints/${endpointId}/objectives`, { body: { objectives: asked } }),
    onSuccess: async () => {
      await client.invalidateQueries({ queryKey: keys.objectives(endpointId) });
      onDone();
    },
  });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    save.mutate();
  };
  return (
    <form className="sk-stack" onSubmit={submit}>
      {NAMES.map((name) => (
        <fieldset key={name} className="sk-monitoring-wish">
          <legend className="sk-hidden">{t(`objective.${name}`)}</legend>
          <Checkbox checked={wishes[name].isOn} onChange={(event) => change(name, { isOn: event.target.checked })}>
            {t(`objective.${name}`)}
          </Checkbox>
          {wishes[name].isOn && (
            <div className="sk-fields">
              <FormField label={t("objectives.target")}>
                {(control) => (
                  <InputNumber {...control} min={50} max={99.999} suffix="%" value={wishes[name].percent} onChange={(percent) => change(name, { percent: percent ?? 50 })} />
                )}
              </FormField>
              {name !== "availability" && (
                <FormField label={t("objectives.atMost")}>
                  {(control) => (
                    <InputNumber {...control} min={0.01} max={3600} suffix="s" value={wishes[name].seconds} onChange={(seconds) => change(name, { seconds: seconds ?? 1 })} />
                  )}
                </FormField>
              )}
            </div>
          )}
        </fieldset>
      ))}
      <ErrorLine error={save.error} />
      <div className="sk-row">
        <Button type="primary" htmlType="submit" loading={save.isPending} disabled={asked.length === 0}>
          {t("save")}
        </Button>
        <Button onClick={onDone}>{t("cancel")}</Button>
      </div>
    </form>
  );
}
