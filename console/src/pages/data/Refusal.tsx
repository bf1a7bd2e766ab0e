import { useEffect, useState } from "react";

import type { ProblemError } from "../../api/problem";
import { Icon } from "../../components/icons";
import { characterIn, type FoundRow, rowsAround, valueAt } from "./offendingRow";
import { useDataText } from "./text";

const FORMATS = [
  '{"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}',
  '{"prompt": "…", "completion": "…"}',
  '{"prompt": "…", "chosen": "…", "rejected": "…"}',
  '{"text": "…", "label": "…"}',
  '{"text": "…"}',
];

/** Which row was wrong, where and why; the row itself as it stands in the local file; and what to do. */
export function Refusal({ file, problem }: { file: File; problem: ProblemError }) {
  const t = useDataText();
  const row = Number(problem.document["row"] ?? 0);
  const column = String(problem.document["column"] ?? "");
  const reason = String(problem.document["reason"] ?? problem.detail);
  const rows = useRows(file, row);
  const wrong = rows.find((one) => one.row === row);
  const value = wrong && column !== "" ? valueAt(wrong.text, column) : undefined;
  return (
    <div className="sk-data-refusal" role="alert">
      <p className="sk-data-refusal-title">
        <Icon name="warning" /> {t("refused.title", { file: file.name })}
      </p>
      <dl className="sk-facts">
        <dt>{t("refused.row")}</dt>
        <dd>{row > 0 ? row : t("refused.file")}</dd>
        {column !== "" && <dt>{t("refused.column")}</dt>}
        {column !== "" && (
          <dd>
            <code>{column}</code>
          </dd>
        )}
        <dt>{t("refused.reason")}</dt>
        <dd>{reason}</dd>
        {value !== undefined && <dt>{t("refused.value")}</dt>}
        {value !== undefined && (
          <dd>
            <code>{JSON.stringify(value)}</code>
          </dd>
        )}
      </dl>
      {rows.length > 0 && (
        <ol className="sk-data-lines" aria-label={t("refused.lines", { file: file.name })}>
          {rows.map((one) => (
            <li key={one.row} data-wrong={one.row === row}>
              <span className="sk-data-line-number">{one.row}</span>
              <code>
                <Text row={one} at={one.row === row ? characterIn(reason) : null} />
                {one.isCut && <em> {t("refused.cut")}</em>}
              </code>
            </li>
          ))}
        </ol>
      )}
      <p>{row > 0 ? t("refused.todo", { row, file: file.name }) : t("refused.todoFile", { file: file.name })}</p>
      <details>
        <summary>{t("refused.formats")}</summary>
        <ul className="sk-data-formats">
          {FORMATS.map((format) => (
            <li key={format}>
              <code>{format}</code>
            </li>
          ))}
        </ul>
      </details>
    </div>
  );
}

/** The text, with the character marked that a reason names. */
function Text({ row: { text }, at }: { row: FoundRow; at: number | null }) {
  if (at === null || at > text.length) return <>{text}</>;
  return (
    <>
      {text.slice(0, at)}
      <mark>{text[at] ?? "⏎"}</mark>
      {text.slice(at + 1)}
    </>
  );
}

function useRows(file: File, row: number): FoundRow[] {
  const [rows, setRows] = useState<FoundRow[]>([]);
  useEffect(() => {
    let isShown = true;
    // A file that was changed or moved meanwhile cannot be read: then there is nothing to show.
    rowsAround(file, file.name, row).then(
      (found) => isShown && setRows(found),
      () => isShown && setRows([]),
    );
    return () => {
      isShown = false;
    };
  }, [file, row]);
  return rows;
}
