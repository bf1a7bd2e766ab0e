import { useQueryClient } from "@tanstack/react-query";
import { Button } from "antd";
import { useEffect } from "react";
import { Link } from "react-router";

import { keys } from "../../api/keys";
import { usePreferences } from "../../app/preferences";
import { useCommonText } from "../../app/text";
import { Icon } from "../../components/icons";
import { bytes, percent } from "../../i18n/figures";
import { Refusal } from "./Refusal";
import { useDataText } from "./text";
import { dismissUpload, retryUpload, type Sending } from "./uploads";

/** One upload: how far it is, or what became of it. */
export function UploadItem({ sending }: { sending: Sending }) {
  const t = useDataText();
  const common = useCommonText();
  const { locale } = usePreferences();
  const { id, name, file, state, sentBytes, dataset, problem } = sending;
  const client = useQueryClient();
  useEffect(() => {
    if (state === "kept") void client.invalidateQueries({ queryKey: keys.datasets });
  }, [state, client]);
  const isUnderWay = state === "sending" || state === "checking";
  const share = file.size === 0 ? 1 : sentBytes / file.size;
  return (
    <li data-state={state}>
      <div className="sk-row">
        <strong className="sk-data-name">{file.name}</strong>
        <span className="sk-muted">→ {name}</span>
        <span className="sk-data-upload-end" role="status">
          {state === "sending" && `${t("upload.sent", { sent: bytes(sentBytes, locale), total: bytes(file.size, locale) })} (${percent(share, locale)})`}
          {state === "checking" && t("upload.checking")}
          {state === "kept" && dataset && t("upload.kept", { version: dataset.version, rows: dataset.rows })}
        </span>
        {state === "kept" && dataset && (
          <Link to={`/data/${name}?version=${dataset.version}`} className="sk-button">
            {t("upload.open")}
          </Link>
        )}
        {state === "failed" && <Button onClick={() => retryUpload(sending)}>{common("retry")}</Button>}
        <Button
          type="text"
          icon={<Icon name="close" size={16} />}
          aria-label={isUnderWay ? t("upload.cancelWhat", { name: file.name }) : t("upload.dismiss")}
          onClick={() => dismissUpload(id)}
        />
      </div>
      {isUnderWay && (
        <div
          className="sk-bar"
          role="progressbar"
          aria-label={t("upload.sending", { name: file.name })}
          aria-valuemin={0}
          aria-valuemax={100}
          aria-valuenow={Math.round(100 * share)}
        >
          <span style={{ width: `${100 * share}%` }} />
        </div>
      )}
      {state === "failed" && (
        <p className="sk-error-line" role="alert">
          {t("upload.failed", { reason: problem?.detail || problem?.title || "" })}
        </p>
      )}
      {state === "refused" && problem && <Refusal file={file} problem={problem} />}
    </li>
  );
}
