import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { Button, InputNumber } from "antd";
import { useState } from "react";

import { send } from "../../api/client";
import { keys } from "../../api/keys";
import { useRefreshOn } from "../../api/useEvents";
import { usePreferences } from "../../app/preferences";
import { ErrorLine } from "../../components/ErrorState";
import { Duration, Money } from "../../components/Figures";
import { FormField } from "../../components/FormField";
import { number } from "../../i18n/figures";
import type { Draft } from "./CreateEndpoint";
import type { EndpointPlan, PlanOption } from "./documents";
import { useEndpointsText } from "./text";

const USUAL = { requests_per_day: 2_000, input_tokens_per_request: 300, output_tokens_per_request: 150 };

/** `bot@3` is trained and goes as an artifact, a name of the catalogue as a base. */
function modelOf(reference: string): Record<string, string> {
  const [name, version] = reference.split("@");
  return version === undefined ? { base: reference } : { artifact: `model://${name}/${version}` };
}

/** What the ways to serve it would cost at a traffic that somebody expects. Nothing is made by it. */
export function PlanEndpoint({ draft }: { draft: Draft }) {
  const t = useEndpointsText();
  const client = useQueryClient();
  const [traffic, setTraffic] = useState(USUAL);
  const [planId, setPlanId] = useState<string | null>(null);
  const ask = useMutation({
    mutationFn: () => {
      const body = { kind: "endpoint", name: draft.name.trim() || "endpoint", model: modelOf(draft.model), traffic };
      return send<EndpointPlan>("POST", "/v1/plans", { body });
    },
    onSuccess: (plan) => {
      client.setQueryData(keys.plan(plan.id), plan);
      setPlanId(plan.id);
    },
  });
  const plan = useQuery({
    queryKey: keys.plan(planId ?? ""),
    enabled: planId !== null,
    queryFn: ({ signal }) => send<EndpointPlan>("GET", `/v1/plans/${planId}`, { signal }),
  });
  useRefreshOn({ types: ["EndpointPlanProposed", "PlanRefused"], subject: planId ?? "" }, keys.plan(planId ?? ""));
  const isPending = ask.isPending || (planId !== null && plan.data?.status === "pending");

  return (
    <details className="sk-endpoints-plan">
      <summary>{t("plan.title")}</summary>
      <div className="sk-stack">
        <p className="sk-hint">{t("plan.lead")}</p>
        <div className="sk-fields">
          {(["requests_per_day", "input_tokens_per_request", "output_tokens_per_request"] as const).map((name) => (
            <FormField key={name} label={t(`plan.${name}`)}>
              {(control) => (
                <InputNumber {...control} min={1} value={traffic[name]} onChange={(value) => setTraffic({ ...traffic, [name]: value ?? 1 })} />
              )}
            </FormField>
          ))}
        </div>
        <div>
          <Button onClick={() => ask.mutate()} loading={isPending} disabled={draft.model === ""}>
            {t("plan.ask")}
          </Button>
        </div>
        <ErrorLine error={ask.error ?? plan.error} />
        {plan.data?.status === "proposed" && <Options plan={plan.data} />}
      </div>
    </details>
  );
}

function Options({ plan }: { plan: EndpointPlan }) {
  const t = useEndpointsText();
  const { locale } = usePreferences();
  return (
    <>
      <p>{plan.explanation}</p>
      {/* eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex */}
      <div className="sk-endpoints-scroll" tabIndex={0} role="region" aria-label={t("plan.options")}>
        <table className="sk-endpoints-table">
          <thead>
            <tr>
              <th scope="col">{t("plan.way")}</th>
              <th scope="col">{t("plan.month")}</th>
              <th scope="col">{t("plan.million")}</th>
              <th scope="col">{t("plan.p95")}</th>
              <th scope="col">{t("plan.speed")}</th>
              <th scope="col">{t("plan.coldStart")}</th>
            </tr>
          </thead>
          <tbody>
            {plan.options.map((option, index) => (
              <tr key={`${option.kind}-${index}`} data-chosen={index === 0}>
                <th scope="row">
                  {index === 0 && <span className="sk-endpoints-best">{t("plan.best")}</span>}
                  {option.kind in KIND_WORDS ? t(KIND_WORDS[option.kind as keyof typeof KIND_WORDS]) : option.kind}
                  <small>{machineOf(option)}</small>
                </th>
                <td><Money usd={option.usd_per_month} /></td>
                <td><Money usd={option.usd_per_million_tokens} /></td>
                <td><Duration seconds={option.p95_latency_seconds} /></td>
                <td>{t("plan.perSecond", { count: number(option.tokens_per_second, locale, 3) })}</td>
                <td>{option.cold_start_seconds > 0 ? <Duration seconds={option.cold_start_seconds} /> : t("plan.warm")}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </>
  );
}

const KIND_WORDS = { adapter: "kind.adapter", serverless: "kind.serverless", spot: "kind.spot", "on-demand": "kind.onDemand" } as const;

function machineOf({ placement, replicas }: PlanOption): string {
  return [placement?.instance_type && `${replicas} × ${placement.instance_type}`, placement?.region].filter(Boolean).join(", ");
}
