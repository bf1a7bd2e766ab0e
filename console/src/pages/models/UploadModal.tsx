import { useQueryClient } from "@tanstack/react-query";
import { App, Button, Input, Modal } from "antd";
import { useEffect, useId, useRef, useState } from "react";
import { useNavigate } from "react-router";

import { keys } from "../../api/keys";
import { postForm } from "../../api/postForm";
import { ProblemError } from "../../api/problem";
import { ErrorLine } from "../../components/ErrorState";
import { Icon } from "../../components/icons";
import type { Model } from "./documents";
import { useModelsText } from "./text";
import { useWords } from "./words";

interface Chosen {
  /** As it is sent: without the folder that was chosen. */
  path: string;
  file: File;
}

// Not among React's types of attributes.
const WHOLE_FOLDER = { webkitdirectory: "" };
const NAME_PATTERN = "[a-z0-9]([a-z0-9._\\-]{0,61}[a-z0-9])?";

/** A folder of weights, or a zip of code, sent in one form. */
export function UploadModal({ onClose }: { onClose: () => void }) {
  const t = useModelsText();
  const { bytes, percent } = useWords();
  const { message } = App.useApp();
  const client = useQueryClient();
  const navigate = useNavigate();
  const nameId = useId();
  const [name, setName] = useState("");
  const [files, setFiles] = useState<Chosen[]>([]);
  const [sent, setSent] = useState<number | null>(null);
  const [error, setError] = useState<unknown>(null);
  const stop = useRef<AbortController | null>(null);
  const [folder, zip] = [useRef<HTMLInputElement>(null), useRef<HTMLInputElement>(null)];
  useEffect(() => () => stop.current?.abort(), []);

  const take = (chosen: FileList | null) => {
    const list = [...(chosen ?? [])].map((file) => ({ path: file.webkitRelativePath.split("/").slice(1).join("/") || file.name, file }));
    setFiles(list.filter(({ path }) => !path.split("/").some((part) => part.startsWith("."))));
    setError(null);
    const first = chosen?.[0];
    if (name === "" && first) setName(suggested(first.webkitRelativePath.split("/")[0] || first.name.replace(/\.zip$/, "")));
  };
  const total = files.reduce((sum, { file }) => sum + file.size, 0);
  const start = async () => {
    const form = new FormData();
    form.set("name", name);
    const isCode = files.length === 1 && files[0]?.path.toLowerCase().endsWith(".zip");
    for (const { path, file } of files) form.append(isCode ? "code" : "files", file, path);
    stop.current = new AbortController();
    setError(null);
    setSent(0);
    try {
      const model = await postForm<Model>("/v1/models", form, setSent, stop.current.signal);
      void message.success(t("upload.done", { name: model.id }));
      await client.invalidateQueries({ queryKey: keys.models });
      await navigate(`/models/${model.name}?version=${model.version}`);
    } catch (problem) {
      if (!stop.current.signal.aborted) setError(problem);
    } finally {
      setSent(null);
    }
  };
  const refused = error instanceof ProblemError ? error.document["file"] : undefined;
  return (
    <Modal
      open
      title={t("upload.title")}
      onCancel={onClose}
      okText={t("upload.start")}
      cancelText={t("cancel")}
      okButtonProps={{ disabled: files.length === 0 || name === "" || sent !== null, loading: sent !== null }}
      onOk={() => void start()}
    >
      <div className="sk-form">
        <p className="sk-hint">{t("upload.lead")}</p>
        <div className="sk-row">
          <Button icon={<Icon name="upload" size={16} />} onClick={() => folder.current?.click()}>
            {t("upload.folder")}
          </Button>
          <Button icon={<Icon name="file" size={16} />} onClick={() => zip.current?.click()}>
            {t("upload.zip")}
          </Button>
        </div>
        <input ref={folder} type="file" multiple hidden {...WHOLE_FOLDER} onChange={(event) => take(event.target.files)} />
        <input ref={zip} type="file" accept=".zip" hidden onChange={(event) => take(event.target.files)} />
        {files.length > 0 && (
          <>
            <ul className="sk-models-files" aria-label={t("upload.files")}>
              {files.map(({ path, file }) => (
                <li key={path} data-refused={path === refused}>
                  <span>{path}</span>
                  <span className="sk-muted sk-figure">{bytes(file.size)}</span>
                  <Button
                    type="text"
                    size="small"
                    icon={<Icon name="close" size={14} />}
                    aria-label={t("upload.remove", { name: path })}
                    disabled={sent !== null}
                    onClick={() => setFiles(files.filter((one) => one.path !== path))}
                  />
                </li>
              ))}
            </ul>
            <p className="sk-hint">{t("upload.total", { count: files.length, size: bytes(total) })}</p>
          </>
        )}
        <label htmlFor={nameId}>{t("upload.name")}</label>
        <Input id={nameId} value={name} pattern={NAME_PATTERN} spellCheck={false} onChange={(event) => setName(event.target.value)} />
        {sent !== null && (
          <>
            <div className="sk-bar" aria-hidden="true">
              <span style={{ width: `${Math.min(100, (100 * sent) / Math.max(1, total))}%` }} />
            </div>
            <p className="sk-hint" role="status">
              {sent >= total ? t("upload.checking") : t("upload.sending", { percent: percent(sent / total) })}
            </p>
          </>
        )}
        {refused === undefined ? (
          <ErrorLine error={error} />
        ) : (
          <div role="alert">
            <p className="sk-error-line">
              {t("upload.refused", { file: String(refused), reason: String((error as ProblemError).document["reason"] ?? "") })}
            </p>
            <p className="sk-hint">{t("upload.nothing")}</p>
          </div>
        )}
      </div>
    </Modal>
  );
}

/** A folder's name as a model's. */
function suggested(folder: string): string {
  return folder.toLowerCase().replace(/[^a-z0-9._-]+/g, "-").slice(0, 63).replace(/^[._-]+|[._-]+$/g, "");
}
