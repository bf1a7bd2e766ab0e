import { Button, Input } from "antd";
import { type DragEvent, useId, useRef, useState } from "react";

import { usePreferences } from "../../app/preferences";
import { Icon } from "../../components/icons";
import { Section } from "../../components/Page";
import { bytes } from "../../i18n/figures";
import { NAME_PATTERN, nameOf } from "./offendingRow";
import { useDataText } from "./text";
import { forgetUnfinished, unfinishedUploads } from "./transfer";
import { startUpload, useSendings } from "./uploads";
import { UploadItem } from "./UploadItem";

const ACCEPTED = ".jsonl,.ndjson,.json,.csv,.parquet,.zip";

/** A file by drag and drop or choice, its name, and what became of the uploads so far. `name`: of a version of it. */
export function UploadPanel({ title, name }: { title: string; name?: string }) {
  const t = useDataText();
  const { locale } = usePreferences();
  const [file, setFile] = useState<File | null>(null);
  const [isOver, setIsOver] = useState(false);
  const chooser = useRef<HTMLInputElement>(null);
  const sendings = useSendings().filter((one) => name === undefined || one.name === name);
  const [left, setLeft] = useState(unfinishedUploads);
  const waiting = left.filter((one) => sendings.every((sending) => sending.name !== one.name || sending.file.name !== one.filename));

  const take = (chosen: File | undefined) => {
    if (chosen === undefined) return;
    if (name === undefined) setFile(chosen);
    else startUpload(chosen, name);
  };
  const drop = (event: DragEvent) => {
    event.preventDefault();
    setIsOver(false);
    take(event.dataTransfer.files[0]);
  };
  return (
    <Section title={title}>
      {/* Who cannot drag has the button inside. */}
      {/* eslint-disable-next-line jsx-a11y/no-noninteractive-element-interactions */}
      <div
        className="sk-data-drop"
        data-over={isOver}
        role="group"
        aria-label={title}
        onDragOver={(event) => {
          event.preventDefault();
          setIsOver(true);
        }}
        onDragLeave={() => setIsOver(false)}
        onDrop={drop}
      >
        {file === null ? (
          <>
            <Icon name="upload" size={22} />
            <p>
              {t("upload.drop")}{" "}
              <Button type="link" className="sk-data-choose" onClick={() => chooser.current?.click()}>
                {t("upload.choose")}
              </Button>
            </p>
            <p className="sk-hint">{t("upload.kinds")}</p>
          </>
        ) : (
          <NameForm
            file={file}
            onStart={(chosen) => {
              startUpload(file, chosen);
              setFile(null);
            }}
            onOther={() => setFile(null)}
          />
        )}
        <input
          ref={chooser}
          type="file"
          accept={ACCEPTED}
          hidden
          onChange={(event) => {
            take(event.target.files?.[0]);
            event.target.value = "";
          }}
        />
      </div>
      {waiting.map((one) => (
        <p key={one.key} className="sk-notice sk-data-unfinished">
          {t("upload.unfinished", { filename: one.filename, size: bytes(one.bytes, locale) })}
          <Button size="small" onClick={() => void forgetUnfinished(one).then(() => setLeft(unfinishedUploads()))}>
            {t("upload.forget")}
          </Button>
        </p>
      ))}
      {sendings.length > 0 && (
        <ul className="sk-data-uploads" role="list" aria-label={t("upload.list")}>
          {sendings.map((sending) => (
            <UploadItem key={sending.id} sending={sending} />
          ))}
        </ul>
      )}
    </Section>
  );
}

function NameForm({ file, onStart, onOther }: { file: File; onStart: (name: string) => void; onOther: () => void }) {
  const t = useDataText();
  const { locale } = usePreferences();
  const [name, setName] = useState(nameOf(file.name));
  const [id, hintId] = [useId(), useId()];
  const isValid = NAME_PATTERN.test(name);
  return (
    <form
      className="sk-data-form"
      onSubmit={(event) => {
        event.preventDefault();
        if (isValid) onStart(name);
      }}
    >
      <p>
        <Icon name="file" /> <strong className="sk-data-name">{file.name}</strong> <span className="sk-muted">{bytes(file.size, locale)}</span>
      </p>
      <label htmlFor={id}>{t("upload.name")}</label>
      <div className="sk-row">
        <Input
          id={id}
          className="sk-data-input"
          value={name}
          status={isValid ? "" : "error"}
          aria-invalid={!isValid}
          aria-describedby={hintId}
          spellCheck={false}
          onChange={(event) => setName(event.target.value)}
        />
        <Button type="primary" htmlType="submit" disabled={!isValid}>
          {t("upload.start")}
        </Button>
        <Button onClick={onOther}>{t("upload.other")}</Button>
      </div>
      <p id={hintId} className={isValid ? "sk-hint" : "sk-error-line"}>
        {t(isValid ? "upload.nameHint" : "upload.nameWrong")}
      </p>
    </form>
  );
}
