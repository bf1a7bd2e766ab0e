import { useEffect } from "react";
import { useSearchParams } from "react-router";

import { send } from "../../api/client";
import type { Dataset, Model } from "./documents";
import { type Draft, type Step, withDataset, withModel } from "./draft";
import { again, type JobSpec } from "./fromSpec";
import { originOf, trainableOf, useModels } from "./ModelStep";

type Change = (draft: Draft) => Draft;

/** `?dataset=`, `?model=` and `?from=job_...` fill the draft once and leave the address. */
export function usePreselected(replace: (next: Change) => void): void {
  const [query, setQuery] = useSearchParams();
  const models = useModels();
  const [dataset, model, from] = [query.get("dataset"), query.get("model"), query.get("from")];
  const all = models.data?.data;
  useEffect(() => {
    if (dataset === null && model === null && from === null) return undefined;
    if (all === undefined) return undefined;
    let isWanted = true;
    const found = from === null ? chosen(dataset, model, all) : ofJob(from, all);
    void found
      // What is not there cannot be chosen: the wizard begins as it was.
      .catch((): [Change, Step] => [(draft) => draft, "data"])
      .then(([change, step]) => {
        if (!isWanted) return;
        replace(change);
        setQuery({ step }, { replace: true });
      });
    return () => {
      isWanted = false;
    };
  }, [dataset, model, from, all, replace, setQuery]);
}

async function chosen(dataset: string | null, model: string | null, all: Model[]): Promise<[Change, Step]> {
  const data = dataset === null ? null : await send<Dataset>("GET", `/v1/datasets/${dataset.replace("dataset://", "").replace("/", "@")}`);
  const base = model === null ? undefined : trainableOf(model, all);
  const change: Change = (draft) => {
    const filled = data === null ? draft : withDataset(draft, data);
    return base === undefined ? filled : withModel(filled, base.id, originOf(base, all));
  };
  return [change, "model"];
}

async function ofJob(id: string, all: Model[]): Promise<[Change, Step]> {
  const { spec, submitted_at } = await send<{ spec: JobSpec; submitted_at: string }>("GET", `/v1/jobs/${id}`);
  const known = all.find((one) => one.model_id === spec.model.model_id);
  return [() => again(spec, submitted_at, known?.id), "goal"];
}
