import "./style.css";

import { useMutation, useQueryClient } from "@tanstack/react-query";
import { App, Button } from "antd";
import { Link, useNavigate, useParams, useSearchParams } from "react-router";

import { send } from "../../api/client";
import { keys } from "../../api/keys";
import { useMay } from "../../api/session";
import { useRefreshOn } from "../../api/useEvents";
import { usePages } from "../../api/usePages";
import { EmptyState } from "../../components/EmptyState";
import { ErrorState } from "../../components/ErrorState";
import { Icon } from "../../components/icons";
import { Loading } from "../../components/Loading";
import { Page } from "../../components/Page";
import type { Dataset } from "./documents";
import { useFormatName } from "./figures";
import { LineageOf } from "./LineageOf";
import { Preview } from "./Preview";
import { ReportOf } from "./ReportOf";
import { useDataText } from "./text";
import { UploadPanel } from "./UploadPanel";
import { Usage } from "./Usage";
import { Versions } from "./Versions";

/** One dataset: `?version=` or its newest one, and all versions beside it. */
export default function DatasetPage() {
  const t = useDataText();
  const { name = "" } = useParams();
  const [search] = useSearchParams();
  const formatName = useFormatName();
  const mayWrite = useMay("write");
  const versions = usePages<Dataset>([...keys.datasets, "versions", name], "/v1/datasets", { name }, 100);
  useRefreshOn({ types: ["DatasetValidated", "DatasetDeleted"] }, [...keys.datasets, "versions", name]);
  const { rows } = versions;
  const wanted = Number(search.get("version"));
  const shown = rows?.find((one) => one.version === wanted) ?? rows?.[0];
  return (
    <Page
      title={name}
      breadcrumbs={[{ title: t("title"), to: "/data" }]}
      badge={shown && <span className="sk-tag" data-tone="busy">{t("one.version", { version: shown.version })}</span>}
      lead={shown && formatName(shown.format)}
      actions={shown && mayWrite && <Actions dataset={shown} isLast={rows?.length === 1} />}
    >
      {rows === undefined && (versions.error ? <ErrorState error={versions.error} onRetry={versions.retry} /> : <Loading rows={8} />)}
      {rows?.length === 0 && <EmptyState title={t("one.missing", { name })} detail={t("one.missingDetail")} action={<Link to="/data">{t("title")}</Link>} />}
      {shown && (
        <>
          <ReportOf dataset={shown} />
          <div className="sk-data-columns">
            <Preview dataset={shown} />
            <div>
              <LineageOf dataset={shown} />
              <Usage dataset={shown} />
            </div>
          </div>
          <Versions pages={versions} shown={shown} />
        </>
      )}
      {mayWrite && rows !== undefined && rows.length > 0 && <UploadPanel title={t("upload.version")} name={name} />}
    </Page>
  );
}

function Actions({ dataset: { name, version }, isLast }: { dataset: Dataset; isLast: boolean }) {
  const t = useDataText();
  const { message, modal } = App.useApp();
  const client = useQueryClient();
  const navigate = useNavigate();
  const remove = useMutation({
    mutationFn: () => send("DELETE", `/v1/datasets/${name}@${version}`),
    onSuccess: async () => {
      void message.success(t("one.deleted", { name, version }));
      await navigate(isLast ? "/data" : `/data/${name}`);
      await client.invalidateQueries({ queryKey: keys.datasets });
    },
    onError: (error) => void message.error(error.message),
  });
  const ask = () =>
    modal.confirm({
      title: t("one.deleteTitle", { name, version }),
      content: t("one.deleteDetail"),
      okText: t("one.deleteYes"),
      cancelText: t("one.cancel"),
      okButtonProps: { danger: true },
      onOk: () => remove.mutateAsync().catch(() => undefined),
    });
  return (
    <>
      <Button icon={<Icon name="trash" size={16} />} aria-label={t("one.delete", { version })} title={t("one.delete", { version })} onClick={ask} />
      <Link to={`/train?dataset=${name}@${version}`} className="sk-button">
        {t("one.train")}
      </Link>
    </>
  );
}
