import { useQuery } from "@tanstack/react-query";
import { Button } from "antd";
import { useState } from "react";
import { Link } from "react-router";

import { send } from "../../api/client";
import type { Listing } from "../../api/documents";
import { keys } from "../../api/keys";
import { useRefreshOn } from "../../api/useEvents";
import { EmptyState } from "../../components/EmptyState";
import { TimeAgo } from "../../components/Figures";
import { Icon } from "../../components/icons";
import { Section } from "../../components/Page";
import { QueryState } from "../../components/QueryState";
import { useWizard } from "./context";
import { DatasetReportView } from "./DatasetReportView";
import { DatasetUpload } from "./DatasetUpload";
import type { Dataset } from "./documents";
import { withDataset } from "./draft";
import { Card } from "./fields";
import { useTrainText } from "./text";

const SHOWN = 8;

/** Which rows the model learns from. */
export function DataStep() {
  const t = useTrainText();
  const { draft, replace, mayWrite, problems } = useWizard();
  const [uploads, setUploads] = useState(false);
  const list = useQuery({
    queryKey: [...keys.datasets, "train"],
    queryFn: ({ signal }) => send<Listing<Dataset>>("GET", "/v1/datasets", { query: { limit: 100 }, signal }),
  });
  useRefreshOn({ types: ["DatasetValidated"] }, keys.datasets);
  const choose = (dataset: Dataset) => {
    replace((old) => withDataset({ ...old, ...(old.origin === "code" ? { origin: "builtin", model: null } : {}) }, dataset));
    setUploads(false);
  };
  const upload = mayWrite && (
    <Button icon={<Icon name="upload" size={16} />} onClick={() => setUploads(!uploads)} aria-expanded={uploads}>
      {t("data.upload")}
    </Button>
  );
  return (
    <>
      <Section title={t("step.data")} actions={upload}>
        <p className="sk-train-lead">{t("data.lead")}</p>
        {problems["dataset.uri"] !== undefined && <p className="sk-error-line">{problems["dataset.uri"]}</p>}
        {uploads && <DatasetUpload onUploaded={choose} />}
        <QueryState query={list} rows={5}>
          {({ data }) =>
            data.length === 0 ? (
              <EmptyState title={t("empty.title")} detail={t("empty.detail")} />
            ) : (
              <DatasetList datasets={data} onChoose={choose} />
            )
          }
        </QueryState>
        <p className="sk-hint sk-train-after">
          {t("data.code")} <Link to="?step=model&kind=code">{t("data.codeLink")}</Link>
        </p>
      </Section>
      {draft.dataset !== null && <DatasetReportView reference={draft.dataset} />}
    </>
  );
}

function DatasetList({ datasets, onChoose }: { datasets: Dataset[]; onChoose: (dataset: Dataset) => void }) {
  const t = useTrainText();
  const { draft } = useWizard();
  const [filter, setFilter] = useState("");
  const [all, setAll] = useState(false);
  const byName = new Map<string, Dataset[]>();
  for (const dataset of datasets) byName.set(dataset.name, [...(byName.get(dataset.name) ?? []), dataset]);
  const chosenName = draft.dataset?.split("@", 1)[0];
  const names = [...byName.keys()].filter((name) => name.includes(filter.trim().toLowerCase()));
  const shown = all ? names : names.filter((name, index) => index < SHOWN || name === chosenName);
  return (
    <>
      {byName.size > SHOWN && (
        <input className="sk-input sk-train-filter" type="search" aria-label={t("data.filter")} placeholder={t("data.filter")} value={filter} onChange={(event) => setFilter(event.target.value)} />
      )}
      <div role="radiogroup" aria-label={t("step.data")} className="sk-train-cards">
        {shown.map((name) => {
          const versions = byName.get(name) ?? [];
          const chosen = versions.find((one) => `${one.name}@${one.version}` === draft.dataset) ?? versions[0];
          if (chosen === undefined) return null;
          return (
            <div key={name} className="sk-train-pick">
              <Card
                name="dataset"
                checked={name === chosenName}
                onChoose={() => onChoose(chosen)}
                title={name}
                detail={
                  <>
                    {t(`format.${chosen.format}` as "format.text")} · {t("data.rows", { count: chosen.rows })} ·{" "}
                    {t("data.tokens", { count: chosen.estimated_tokens })} · <TimeAgo at={chosen.created_at} />
                  </>
                }
                {...(versions.length === 1 ? { aside: `v${chosen.version}` } : {})}
              />
              {versions.length > 1 && (
                <select
                  className="sk-input sk-train-version"
                  aria-label={t("data.version", { name })}
                  value={chosen.version}
                  onChange={(event) => {
                    const wanted = versions.find((one) => one.version === Number(event.target.value));
                    if (wanted) onChoose(wanted);
                  }}
                >
                  {versions.map((one) => (
                    <option key={one.id} value={one.version}>{`v${one.version}`}</option>
                  ))}
                </select>
              )}
            </div>
          );
        })}
      </div>
      {names.length === 0 && <p className="sk-hint">{t("data.noMatch", { filter })}</p>}
      {shown.length < names.length && (
        <Button type="link" onClick={() => setAll(true)}>
          {t("showAll", { count: names.length })}
        </Button>
      )}
    </>
  );
}
