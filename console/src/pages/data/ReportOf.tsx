import { usePreferences } from "../../app/preferences";
import { Bytes } from "../../components/Figures";
import { Section } from "../../components/Page";
import { compact, percent } from "../../i18n/figures";
import type { Dataset } from "./documents";
import { useCount } from "./figures";
import { useDataText } from "./text";

const CLASSES_SHOWN = 12;

/** What was counted when every row was checked. */
export function ReportOf({ dataset: { rows, estimated_tokens: tokens, bytes, report } }: { dataset: Dataset }) {
  const t = useDataText();
  const { locale } = usePreferences();
  const count = useCount();
  const { duplicates, share_learnt: share, characters_per_row: lengths, labels, rows_per_class: classes } = report;
  return (
    <>
      <dl className="sk-figures">
        <div>
          <dt>{t("report.rows")}</dt>
          <dd>{count(rows)}</dd>
          {report.characters !== undefined && <dd>{t("report.characters", { count: report.characters })}</dd>}
        </div>
        <div>
          <dt>{t("report.tokens")}</dt>
          <dd>{compact(tokens, locale)}</dd>
        </div>
        <div>
          <dt>{t("report.size")}</dt>
          <dd>
            <Bytes count={bytes} />
          </dd>
        </div>
        {duplicates !== undefined && (
          <div>
            <dt>{t("report.duplicates")}</dt>
            <dd>{count(duplicates)}</dd>
            <dd>{duplicates === 0 ? t("report.noDuplicates") : percent(duplicates / rows, locale)}</dd>
          </div>
        )}
        {share !== undefined && (
          <div>
            <dt>{t("report.share")}</dt>
            <dd>{percent(share, locale)}</dd>
            <dd>{t("report.shareHint")}</dd>
          </div>
        )}
        {labels !== undefined && (
          <div>
            <dt>{t("report.classes")}</dt>
            <dd>{count(labels.length)}</dd>
          </div>
        )}
      </dl>
      {(lengths ?? classes) !== undefined && (
        <div className="sk-grid">
          {lengths !== undefined && (
            <Section title={t("report.lengths")}>
              <Bars
                bars={[
                  [t("report.min"), lengths.min],
                  [t("report.median"), lengths.median],
                  [t("report.p95"), lengths.p95],
                  [t("report.max"), lengths.max],
                ]}
                told={(value) => count(Math.round(value))}
              />
            </Section>
          )}
          {classes !== undefined && <Classes classes={classes} />}
        </div>
      )}
    </>
  );
}

function Classes({ classes }: { classes: Record<string, number> }) {
  const t = useDataText();
  const count = useCount();
  const sorted = Object.entries(classes).sort(([, a], [, b]) => b - a);
  const more = sorted.length - CLASSES_SHOWN;
  return (
    <Section title={t("report.rowsPerClass")}>
      <Bars bars={sorted.slice(0, CLASSES_SHOWN)} told={count} />
      {more > 0 && <p className="sk-hint">{t("report.moreClasses", { count: more })}</p>}
    </Section>
  );
}

function Bars({ bars, told }: { bars: [string, number][]; told: (value: number) => string }) {
  const most = Math.max(1, ...bars.map(([, value]) => value));
  return (
    <dl className="sk-data-bars">
      {bars.map(([label, value]) => (
        <div key={label}>
          <dt>{label}</dt>
          <dd>
            <span className="sk-bar" aria-hidden="true">
              <span style={{ width: `${(100 * value) / most}%` }} />
            </span>
            <span className="sk-figure">{told(value)}</span>
          </dd>
        </div>
      ))}
    </dl>
  );
}
