import { useQueryClient } from "@tanstack/react-query";
import { Button } from "antd";
import { useEffect, useId, useRef, useState } from "react";

import { csrfHeaders } from "../../api/client";
import { keys } from "../../api/keys";
import { ProblemError, problemOfText } from "../../api/problem";
import { ErrorLine } from "../../components/ErrorState";
import { Bytes } from "../../components/Figures";
import { Icon } from "../../components/icons";
import type { Dataset } from "./documents";
import { useTrainText } from "./text";

const TYPES: Record<string, string> = {
  jsonl: "application/jsonl",
  ndjson: "application/jsonl",
  csv: "text/csv",
  parquet: "application/vnd.apache.parquet",
  zip: "application/zip",
};

/** Sends a file, which the gateway checks row by row; the first wrong one is named. */
export function DatasetUpload({ onUploaded }: { onUploaded: (dataset: Dataset) => void }) {
  const t = useTrainText();
  const client = useQueryClient();
  const [file, setFile] = useState<File | null>(null);
  const [name, setName] = useState("");
  const [share, setShare] = useState<number | null>(null);
  const [error, setError] = useState<unknown>(null);
  const running = useRef<XMLHttpRequest | null>(null);
  const id = useId();
  useEffect(() => () => running.current?.abort(), []);

  const take = (chosen: File | undefined) => {
    if (chosen === undefined) return;
    setFile(chosen);
    setError(null);
    if (name === "") setName(nameOf(chosen.name));
  };
  const start = (chosen: File) => {
    setError(null);
    setShare(0);
    const asked = new XMLHttpRequest();
    running.current = asked;
    asked.upload.onprogress = (event) => setShare(event.lengthComputable ? event.loaded / event.total : 0);
    asked.onload = () => {
      setShare(null);
      if (asked.status < 200 || asked.status > 299) return setError(problemOfText(asked.status, asked.statusText, asked.responseText));
      void client.invalidateQueries({ queryKey: keys.datasets });
      return onUploaded(JSON.parse(asked.responseText) as Dataset);
    };
    asked.onerror = () => {
      setShare(null);
      setError(new Error(t("upload.broke")));
    };
    asked.open("POST", `/v1/datasets?name=${encodeURIComponent(name)}`);
    asked.setRequestHeader("Content-Type", TYPES[extension(chosen.name)] ?? "application/octet-stream");
    for (const [header, value] of Object.entries(csrfHeaders())) asked.setRequestHeader(header, value);
    asked.send(chosen);
  };

  return (
    <form
      className="sk-train-upload"
      onSubmit={(event) => {
        event.preventDefault();
        if (file !== null) start(file);
      }}
    >
      {/* Dropping is beside choosing, which the keyboard reaches. */}
      {/* eslint-disable-next-line jsx-a11y/no-noninteractive-element-interactions */}
      <label
        className="sk-train-drop"
        onDragOver={(event) => event.preventDefault()}
        onDrop={(event) => {
          event.preventDefault();
          take(event.dataTransfer.files[0]);
        }}
      >
        <input className="sk-hidden" type="file" accept=".jsonl,.ndjson,.csv,.parquet,.zip" onChange={(event) => take(event.target.files?.[0])} />
        <Icon name="upload" size={22} />
        {file === null ? (
          <span>{t("upload.drop")}</span>
        ) : (
          <span>
            <strong>{file.name}</strong> · <Bytes count={file.size} />
          </span>
        )}
        <span className="sk-hint">{t("upload.formats")}</span>
      </label>
      <div className="sk-train-upload-foot">
        <div className="sk-train-field">
          <label htmlFor={id}>{t("upload.name")}</label>
          <input id={id} className="sk-input" value={name} autoComplete="off" spellCheck={false} onChange={(event) => setName(event.target.value)} />
        </div>
        <Button type="primary" htmlType="submit" disabled={file === null || name === ""} loading={share !== null}>
          {t("upload.start")}
        </Button>
      </div>
      {share !== null && (
        <div className="sk-train-bar" role="progressbar" aria-label={t("upload.progress")} aria-valuenow={Math.round(share * 100)} aria-valuemin={0} aria-valuemax={100}>
          <span style={{ width: `${share * 100}%` }} />
        </div>
      )}
      {share === 1 && <p className="sk-hint">{t("upload.checking")}</p>}
      <Refusal error={error} />
    </form>
  );
}

/** A wrong row is told with its place. */
function Refusal({ error }: { error: unknown }) {
  const t = useTrainText();
  if (!(error instanceof ProblemError) || typeof error.document["row"] !== "number") return <ErrorLine error={error} />;
  const { row, column, reason } = error.document;
  return (
    <p className="sk-error-line" role="alert">
      {t("upload.row", { row: Number(row), column: String(column ?? ""), reason: String(reason ?? error.detail) })}
    </p>
  );
}

const extension = (file: string) => file.split(".").at(-1)?.toLowerCase() ?? "";

function nameOf(file: string): string {
  const plain = file.replace(/\.[^.]+$/, "").toLowerCase();
  return plain.replaceAll(/[^a-z0-9._-]+/g, "-").replaceAll(/^[^a-z0-9]+|[^a-z0-9]+$/g, "").slice(0, 63);
}
