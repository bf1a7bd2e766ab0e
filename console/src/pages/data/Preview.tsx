import { useQuery } from "@tanstack/react-query";

import { send } from "../../api/client";
import { keys } from "../../api/keys";
import { Section } from "../../components/Page";
import { QueryState } from "../../components/QueryState";
import en from "../../locales/en/data";
import type { Dataset } from "./documents";
import { useDataText } from "./text";

const ROWS = 5;

interface Message {
  role: string;
  content: string;
}
type Said = string | Message[];
type Row = Record<string, unknown>;

/** The first rows as what they are: chats as bubbles, pairs side by side, labels as tags. */
export function Preview({ dataset }: { dataset: Dataset }) {
  const t = useDataText();
  const hasRows = !dataset.format.includes("image");
  const preview = useQuery({
    queryKey: [...keys.dataset(dataset.id), "preview"],
    staleTime: Infinity,
    enabled: hasRows,
    queryFn: ({ signal }) => send<{ rows: Row[] }>("GET", `/v1/datasets/${dataset.id}/preview`, { query: { rows: ROWS }, signal }),
  });
  return (
    <Section title={t("preview.title")}>
      {hasRows ? (
        <QueryState query={preview} rows={6}>
          {({ rows }) => (
            <ol className="sk-data-rows">
              {rows.map((row, index) => (
                <li key={index} aria-label={t("preview.row", { row: index + 1 })}>
                  <RowOf row={row} format={dataset.format} />
                </li>
              ))}
            </ol>
          )}
        </QueryState>
      ) : (
        <p className="sk-muted">{t("preview.images")}</p>
      )}
    </Section>
  );
}

function RowOf({ row, format }: { row: Row; format: string }) {
  const t = useDataText();
  if (format === "messages") return <Chat messages={row["messages"] as Message[]} />;
  if (format === "prompt-completion") {
    return (
      <div className="sk-data-chat">
        <Bubble side="user" label={t("preview.prompt")} text={String(row["prompt"])} />
        <Bubble side="assistant" label={t("preview.completion")} text={String(row["completion"])} />
      </div>
    );
  }
  if (format === "preference") {
    return (
      <>
        {row["prompt"] !== undefined && <Labelled label={t("preview.prompt")} said={row["prompt"] as Said} />}
        <div className="sk-grid sk-data-pair">
          <Labelled label={t("preview.chosen")} said={row["chosen"] as Said} tone="good" />
          <Labelled label={t("preview.rejected")} said={row["rejected"] as Said} tone="bad" />
        </div>
      </>
    );
  }
  if (format === "classification") {
    return (
      <div className="sk-data-labelled">
        <p className="sk-data-text">{String(row["text"])}</p>
        <span className="sk-tag" data-tone="busy">
          {String(row["label"])}
        </span>
      </div>
    );
  }
  return <p className="sk-data-text">{typeof row["text"] === "string" ? row["text"] : JSON.stringify(row)}</p>;
}

function Labelled({ label, said, tone = "off" }: { label: string; said: Said; tone?: string }) {
  return (
    <div className="sk-data-side" data-tone={tone}>
      <span className="sk-tag" data-tone={tone}>
        {label}
      </span>
      {typeof said === "string" ? <p className="sk-data-text">{said}</p> : <Chat messages={said} />}
    </div>
  );
}

function Chat({ messages }: { messages: Message[] }) {
  const t = useDataText();
  return (
    <div className="sk-data-chat">
      {messages.map(({ role, content }, index) => {
        const key = `role.${role}`;
        return <Bubble key={index} side={role} label={key in en ? t(key as keyof typeof en) : role} text={content} />;
      })}
    </div>
  );
}

function Bubble({ side, label, text }: { side: string; label: string; text: string }) {
  return (
    <div className="sk-data-bubble" data-side={side}>
      <span className="sk-data-speaker">{label}</span>
      <p className="sk-data-text">{text}</p>
    </div>
  );
}
