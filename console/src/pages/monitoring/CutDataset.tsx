import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { Button, InputNumber, Select } from "antd";
import { useState } from "react";
import { Link } from "react-router";

import { send } from "../../api/client";
import type { Listing } from "../../api/documents";
import { keys } from "../../api/keys";
import { CodeBlock } from "../../components/CodeBlock";
import { ErrorLine } from "../../components/ErrorState";
import { Facts } from "../../components/Facts";
import { FormField } from "../../components/FormField";
import type { CutPreview } from "./documents";
import { useMonitoringText } from "./text";

interface Dataset {
  id: string;
  name: string;
  version: number;
}

/** The next version of a dataset, of what was asked and corrected: looked at first, then made. */
export function CutDataset({ endpointId }: { endpointId: string }) {
  const t = useMonitoringText();
  const client = useQueryClient();
  const [name, setName] = useState<string | null>(null);
  const [minimum, setMinimum] = useState<number | null>(null);
  const datasets = useQuery({
    queryKey: [...keys.datasets, "names"],
    queryFn: ({ signal }) => send<Listing<Dataset>>("GET", "/v1/datasets", { query: { limit: 100 }, signal }),
  });
  const names = [...new Set(datasets.data?.data.map((one) => one.name))];
  const path = `/v1/datasets/${name}/cut`;
  const body = { endpoint: endpointId, ...(minimum === null ? {} : { minimum_rows: minimum }) };
  const look = useMutation({ mutationFn: () => send<CutPreview>("POST", path, { query: { dry_run: true }, body }) });
  const cut = useMutation({
    mutationFn: () => send<Dataset>("POST", path, { body }),
    onSuccess: () => client.invalidateQueries({ queryKey: keys.datasets }),
  });
  const again = () => [look, cut].forEach((one) => one.reset());
  const preview = look.data;
  return (
    <div className="sk-stack">
      <p className="sk-muted">{t("cut.lead")}</p>
      <div className="sk-fields">
        <FormField label={t("cut.dataset")}>
          {(control) => (
            <Select
              {...control}
              value={name}
              placeholder={t("cut.choose")}
              loading={datasets.isPending}
              options={names.map((one) => ({ value: one, label: one }))}
              onChange={(value) => {
                again();
                setName(value);
              }}
            />
          )}
        </FormField>
        <FormField label={t("cut.minimum")} hint={t("cut.minimumHint")}>
          {(control) => (
            <InputNumber
              {...control}
              min={1}
              precision={0}
              value={minimum}
              onChange={(value) => {
                again();
                setMinimum(value);
              }}
            />
          )}
        </FormField>
      </div>
      <div className="sk-row">
        <Button disabled={name === null} loading={look.isPending} onClick={() => look.mutate()}>
          {t("cut.look")}
        </Button>
        {preview !== undefined && preview.refusal === null && (
          <Button type="primary" loading={cut.isPending} disabled={cut.isSuccess} onClick={() => cut.mutate()}>
            {t("cut.make")}
          </Button>
        )}
      </div>
      {preview !== undefined && <Preview preview={preview} />}
      {cut.data !== undefined && (
        <p className="sk-notice" role="status">
          <Link to="/data">{t("cut.made", { name: cut.data.name, version: cut.data.version })}</Link>
        </p>
      )}
      <ErrorLine error={look.error ?? cut.error} />
    </div>
  );
}

function Preview({ preview }: { preview: CutPreview }) {
  const t = useMonitoringText();
  const { lineage } = preview;
  return (
    <div className="sk-stack" role="status">
      {preview.refusal !== null && <p className="sk-notice">{t("cut.refused", { reason: preview.refusal })}</p>}
      <Facts
        facts={[
          { label: t("cut.corrections"), value: lineage.corrections ?? 0 },
          { label: t("cut.liked"), value: lineage.liked ?? 0 },
          { label: t("cut.duplicates"), value: lineage.duplicates ?? 0 },
          { label: t("cut.tooLong"), value: lineage.too_long ?? 0 },
          { label: t("cut.after"), value: preview.rows_after, detail: preview.dataset },
        ]}
      />
      {preview.rows.length > 0 && <CodeBlock code={preview.rows.map((row) => JSON.stringify(row)).join("\n")} label={t("cut.rows")} />}
    </div>
  );
}
