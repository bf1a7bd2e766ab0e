import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { App, Button, Select } from "antd";
import { useState } from "react";
import { Link } from "react-router";

import { send } from "../../api/client";
import { useMay } from "../../api/session";
import { ErrorLine } from "../../components/ErrorState";
import { TimeAgo } from "../../components/Figures";
import { FormField } from "../../components/FormField";
import { Section } from "../../components/Page";
import { StateTag, type Tone } from "../../components/StateTag";
import type { Endpoint, PastRollout, Stage } from "./documents";
import { Evidence } from "./Evidence";
import { PromotionRules } from "./PromotionRules";
import { endpointQuery, servableQuery } from "./queries";
import { Split } from "./EndpointState";
import { useEndpointsText } from "./text";

const STAGE_TONES: Record<Stage, Tone> = {
  loading: "busy", suggested: "wait", canary: "busy", approval: "wait", promoted: "good", "rolled-back": "bad",
};

/** Who answers now, what is tried, what was learnt of it, and what somebody may do about it. */
export default function Versions({ endpoint }: { endpoint: Endpoint }) {
  const t = useEndpointsText();
  const mayWrite = useMay("write") && (endpoint.state === "ready" || endpoint.state === "requested");
  const rollout = endpoint.traffic?.rollout ?? null;
  const change = useChange(endpoint);
  const served = endpoint.served_version ?? endpoint.version;
  return (
    <div className="sk-stack">
      <Section title={t("versions.split")} actions={rollout && <StageTag stage={rollout.stage} />}>
        <div className="sk-stack">
          <Split champion={rollout?.from_version ?? served} canary={rollout?.version ?? null} fraction={canaryShare(endpoint)} />
          {rollout === null ? (
            <p className="sk-muted">{t("versions.none")}</p>
          ) : (
            <>
              <Steps steps={rollout.steps} step={rollout.step} stage={rollout.stage} />
              <p className="sk-muted">{t(`stage.${rollout.stage}.detail`, { requests: rollout.minimum_requests, seconds: rollout.minimum_seconds })}</p>
              <Evidence rollout={rollout} />
            </>
          )}
          {mayWrite && <Controls endpoint={endpoint} change={change} />}
          <ErrorLine error={change.error} />
        </div>
      </Section>
      <div className="sk-endpoints-pair" data-loose="true">
        {mayWrite && <TryVersion endpoint={endpoint} served={served} change={change} />}
        <PromotionRules endpoint={endpoint} mayWrite={mayWrite} />
      </div>
      <History past={endpoint.traffic?.history ?? []} />
    </div>
  );
}

function canaryShare(endpoint: Endpoint): number {
  return endpoint.traffic?.split.find((one) => one.role === "canary")?.fraction ?? endpoint.canary_fraction ?? 0;
}

type Change = { canary: string } | { promote: true } | { roll_back: true };

function useChange(endpoint: Endpoint) {
  const t = useEndpointsText();
  const client = useQueryClient();
  const { message } = App.useApp();
  return useMutation({
    mutationFn: (body: Change) => send<Endpoint>("PATCH", `/v1/endpoints/${endpoint.id}`, { body }),
    onSuccess: async () => {
      void message.success(t("versions.asked"));
      await client.invalidateQueries(endpointQuery(endpoint.id));
    },
  });
}

function Controls({ endpoint, change }: { endpoint: Endpoint; change: ReturnType<typeof useChange> }) {
  const t = useEndpointsText();
  const { modal } = App.useApp();
  const rollout = endpoint.traffic?.rollout ?? null;
  const past = endpoint.traffic?.history.find((one) => one.stage === "promoted");
  if (rollout === null && past === undefined) return null;
  const ask = (word: "promote" | "roll_back") => {
    const version = rollout?.version ?? past?.version ?? 0;
    const key = word === "promote" ? "promote" : rollout === null ? "undo" : "rollBack";
    modal.confirm({
      title: t(`${key}.title`, { version }),
      content: t(`${key}.detail`, { version: rollout?.from_version ?? past?.from_version ?? 0 }),
      okText: t(`${key}.open`),
      cancelText: t("cancel"),
      okButtonProps: { danger: word === "roll_back" },
      onOk: () => change.mutateAsync(word === "promote" ? { promote: true } : { roll_back: true }).catch(() => undefined),
    });
  };
  return (
    <div className="sk-row">
      {rollout !== null && (
        <Button type="primary" onClick={() => ask("promote")} disabled={change.isPending || rollout.stage === "loading"}>
          {t("promote.open")}
        </Button>
      )}
      <Button danger onClick={() => ask("roll_back")} disabled={change.isPending}>
        {t(rollout === null ? "undo.open" : "rollBack.open")}
      </Button>
    </div>
  );
}

/** Versions of the served model, and adapters on it where it is a base. */
function TryVersion({ endpoint, served, change }: { endpoint: Endpoint; served: number; change: ReturnType<typeof useChange> }) {
  const t = useEndpointsText();
  const models = useQuery(servableQuery);
  const [canary, setCanary] = useState<string | null>(null);
  const name = endpoint.model.split("@")[0];
  const isOfBase = endpoint.version === 0;
  const options = (models.data ?? [])
    .filter((one) => (isOfBase ? one.parent === endpoint.model_id || one.parent === name : one.name === name && one.version !== served))
    .map((one) => ({ value: one.id, label: one.id }));
  return (
    <Section title={t("try.title")}>
      <div className="sk-stack">
        <p className="sk-muted">{t(options.length > 0 ? "try.lead" : "try.none")}</p>
        {options.length > 0 && (
          <>
            <FormField label={t("try.version")}>
              {(control) => <Select {...control} options={options} value={canary} onChange={setCanary} placeholder={t("try.placeholder")} />}
            </FormField>
            <div>
              <Button
                disabled={canary === null}
                loading={change.isPending}
                onClick={() => canary !== null && change.mutate({ canary }, { onSuccess: () => setCanary(null) })}
              >
                {t("try.submit")}
              </Button>
            </div>
          </>
        )}
        {options.length === 0 && <Link to="/train">{t("try.train")}</Link>}
      </div>
    </Section>
  );
}

function Steps({ steps, step, stage }: { steps: number[]; step: number; stage: Stage }) {
  const t = useEndpointsText();
  return (
    <ol className="sk-endpoints-steps" aria-label={t("versions.steps")}>
      {steps.map((share, index) => {
        const isPassed = stage === "approval" || stage === "promoted" || index < step;
        const isNow = stage === "canary" && index === step;
        return (
          <li key={share} data-passed={isPassed} data-now={isNow} aria-current={isNow ? "step" : undefined}>
            {Math.round(share * 1000) / 10} %
          </li>
        );
      })}
    </ol>
  );
}

export function StageTag({ stage }: { stage: Stage }) {
  const t = useEndpointsText();
  return <StateTag state={stage} tone={STAGE_TONES[stage]} label={t(`stage.${stage}`)} />;
}

function History({ past }: { past: PastRollout[] }) {
  const t = useEndpointsText();
  if (past.length === 0) return null;
  return (
    <Section title={t("history.title")}>
      <ul className="sk-endpoints-history">
        {past.map((one) => (
          <li key={one.id}>
            <StageTag stage={one.stage} />
            <span>
              {t("history.line", { version: one.version, from: one.from_version })}
              {one.reason !== "" && <small>{one.reason}</small>}
            </span>
            <TimeAgo at={one.ended_at ?? one.started_at} />
          </li>
        ))}
      </ul>
    </Section>
  );
}

