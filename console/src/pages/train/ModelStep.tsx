import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { Link, useSearchParams } from "react-router";

import { send } from "../../api/client";
import type { Listing } from "../../api/documents";
import { keys } from "../../api/keys";
import { useRefreshOn } from "../../api/useEvents";
import { usePreferences } from "../../app/preferences";
import { TimeAgo } from "../../components/Figures";
import { Section } from "../../components/Page";
import { QueryState } from "../../components/QueryState";
import { StateTag } from "../../components/StateTag";
import { useWizard } from "./context";
import type { Model } from "./documents";
import { type Draft, withModel } from "./draft";
import { Card, Field } from "./fields";
import { useTrainText } from "./text";

export const modelsQueryKey = [...keys.models, "train"];

const KINDS = ["base", "own", "code"] as const;
type Kind = (typeof KINDS)[number];

export function useModels() {
  useRefreshOn({ types: ["ModelVersionReady"] }, keys.models);
  return useQuery({
    queryKey: modelsQueryKey,
    queryFn: ({ signal }) => send<Listing<Model>>("GET", "/v1/models", { query: { limit: 200 }, signal }),
  });
}

/** Which model learns, and what the result is called. */
export function ModelStep() {
  const t = useTrainText();
  const { draft, change, problems } = useWizard();
  const [query, setQuery] = useSearchParams();
  const models = useModels();
  const asked = KINDS.find((kind) => kind === query.get("kind"));
  const kind: Kind = asked ?? (draft.origin === "code" ? "code" : draft.origin === "own" ? "own" : "base");
  const problem = problems["model.base"] ?? problems["model.artifact"] ?? problems["model"] ?? problems["kind"];
  return (
    <>
      <Section title={t("step.model")}>
        <nav className="sk-train-tabs" aria-label={t("model.kinds")}>
          {KINDS.map((one) => (
            <button
              key={one}
              type="button"
              aria-pressed={one === kind}
              onClick={() => {
                query.set("kind", one);
                setQuery(query, { replace: true });
              }}
            >
              {t(`model.kind.${one}`)}
            </button>
          ))}
        </nav>
        <p className="sk-train-lead">{t(`model.lead.${kind}`)}</p>
        {problem !== undefined && (
          <p className="sk-error-line" role="alert">
            {problem}
          </p>
        )}
        <QueryState query={models} rows={6}>
          {({ data }) => <ModelList models={data} kind={kind} />}
        </QueryState>
      </Section>
      <Section title={t("model.result")}>
        <div className="sk-train-fields">
          <Field label={t("field.name")} hint={t("hint.name", { name: draft.name || "NAME" })} field="name">
            {(props) => (
              <input
                {...props}
                className="sk-input"
                autoComplete="off"
                spellCheck={false}
                value={draft.name}
                onChange={(event) => change({ name: event.target.value, isNamed: event.target.value !== "" })}
              />
            )}
          </Field>
        </div>
      </Section>
    </>
  );
}

function ModelList({ models, kind }: { models: Model[]; kind: Kind }) {
  const t = useTrainText();
  const { draft, replace } = useWizard();
  const [filter, setFilter] = useState("");
  const shown = models.filter((model) => kindOf(model, models) === kind && model.id.includes(filter.trim().toLowerCase()));
  if (kind === "base") shown.sort((a, b) => Number(b.available) - Number(a.available) || (a.parameters ?? 0) - (b.parameters ?? 0));
  return (
    <>
      {models.length > 8 && (
        <input className="sk-input sk-train-filter" type="search" aria-label={t("model.filter")} placeholder={t("model.filter")} value={filter} onChange={(event) => setFilter(event.target.value)} />
      )}
      <div role="radiogroup" aria-label={t(`model.kind.${kind}`)} className="sk-train-cards sk-train-cards-two">
        {shown.map((model) => (
          <Card
            key={model.id}
            name="model"
            checked={draft.model === model.id}
            onChoose={() => replace((old) => withModel(old, model.id, originOf(model, models)))}
            title={model.id}
            detail={<Facts model={model} />}
            {...(model.origin === "builtin"
              ? {
                  aside: model.available ? (
                    <StateTag state="ready" label={t("model.here")} />
                  ) : (
                    <StateTag state="off" label={t("model.planOnly")} />
                  ),
                }
              : {})}
          />
        ))}
      </div>
      {shown.length === 0 && (
        <p className="sk-hint">
          {t(filter ? "data.noMatch" : `model.none.${kind}`, { filter })} {kind !== "base" && <Link to="/models">{t("model.toModels")}</Link>}
        </p>
      )}
    </>
  );
}

function Facts({ model }: { model: Model }) {
  const t = useTrainText();
  const { locale } = usePreferences();
  const size = model.parameters
    ? t("model.parameters", { count: new Intl.NumberFormat(locale, { notation: "compact", maximumSignificantDigits: 3 }).format(model.parameters) })
    : null;
  const task = model.task && model.task !== "text-generation" ? t(`task.${model.task}` as "task.text-generation") : null;
  const facts = [size, task, model.licence, model.parent ? t("model.of", { parent: model.parent }) : null].filter(Boolean).join(" · ");
  return (
    <>
      {facts}
      {model.origin !== "builtin" && (
        <>
          {facts && " · "}
          <TimeAgo at={model.created_at} />
        </>
      )}
    </>
  );
}

/** Where a model is offered. An adapter is not: it is trained again from its base. */
function kindOf(model: Model, all: Model[]): Kind | null {
  if (model.origin === "builtin") return "base";
  if (model.origin === "code" || isTrainedCode(model, all)) return "code";
  return model.origin === "uploaded" ? "own" : null;
}

export function originOf(model: Model, all: Model[]): Draft["origin"] {
  const kind = kindOf(model, all);
  return kind === "code" ? "code" : kind === "base" ? "builtin" : "own";
}

function isTrainedCode(model: Model, all: Model[]): boolean {
  const parent = all.find((other) => other.id === model.parent || other.name === model.parent);
  return model.origin === "trained" && parent?.origin === "code";
}

/** What `?model=` means: itself, or the base of an adapter. */
export function trainableOf(reference: string, all: Model[]): Model | undefined {
  const model = all.find((one) => one.id === reference || one.name === reference);
  if (model === undefined || kindOf(model, all) !== null) return model;
  return all.find((one) => one.id === model.parent);
}
