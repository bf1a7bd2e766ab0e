import { Button } from "antd";
import { useEffect, useState } from "react";

import { useCommonText } from "../app/text";
import { Icon } from "./icons";

const SHOWN_MS = 2_000;

/** Puts `text` on the clipboard and says so; `what` names it for screen readers. */
export function CopyButton({ text, what }: { text: string; what?: string }) {
  const t = useCommonText();
  const [copied, setCopied] = useState(false);
  useEffect(() => {
    if (!copied) return undefined;
    const timer = setTimeout(() => setCopied(false), SHOWN_MS);
    return () => clearTimeout(timer);
  }, [copied]);
  const label = copied ? t("copied") : what === undefined ? t("copy") : t("copy.what", { what });
  return (
    <>
      <Button
        type="text"
        size="small"
        aria-label={label}
        title={label}
        icon={<Icon name={copied ? "check" : "copy"} size={16} />}
        onClick={() => void copy(text).then(setCopied)}
      />
      <span role="status" className="sk-hidden">
        {copied ? t("copied") : ""}
      </span>
    </>
  );
}

/** The clipboard's interface is there on https and localhost only: elsewhere by a selected field. */
async function copy(text: string): Promise<boolean> {
  if (window.isSecureContext) {
    await navigator.clipboard.writeText(text);
    return true;
  }
  const field = document.createElement("textarea");
  field.value = text;
  document.body.append(field);
  field.select();
  const done = document.execCommand("copy");
  field.remove();
  return done;
}

/** Lines to copy: a command, a snippet, a key. */
export function CodeBlock({ code, label }: { code: string; label: string }) {
  return (
    <div className="sk-code">
      {/* A region that scrolls is reached by the keyboard. */}
      {/* eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex */}
      <pre tabIndex={0} role="group" aria-label={label}>
        <code>{code}</code>
      </pre>
      <CopyButton text={code} what={label} />
    </div>
  );
}
