import { useCommonText } from "../app/text";

/** Grey lines where text will be. */
export function Loading({ rows = 4 }: { rows?: number }) {
  const t = useCommonText();
  return (
    <div className="sk-loading" role="status" aria-label={t("loading")}>
      {Array.from({ length: rows }, (_, row) => (
        <span key={row} className="sk-skeleton" data-width={row % 3} />
      ))}
    </div>
  );
}
