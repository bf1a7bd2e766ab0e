import { Link } from "react-router";

import { usePreferences } from "../../app/preferences";
import { CopyButton } from "../../components/CodeBlock";
import { Section } from "../../components/Page";
import { dateTime } from "../../i18n/figures";
import type { Dataset } from "./documents";
import { useCount } from "./figures";
import { useDataText } from "./text";

const COUNTS = ["corrections", "liked", "inputs", "duplicates", "too_long", "over_limit", "redacted"] as const;

/** Where the rows came from, and by what they are known. */
export function LineageOf({ dataset: { uri, sha256, lineage, created_at: createdAt } }: { dataset: Dataset }) {
  const t = useDataText();
  const { locale } = usePreferences();
  const count = useCount();
  return (
    <Section title={t("lineage.title")}>
      <p className="sk-data-origin">{lineage ? t("lineage.cut", { parent: lineage.parent_version }) : t("lineage.uploaded")}</p>
      <dl className="sk-facts">
        {lineage !== null && (
          <>
            <dt>{t("lineage.endpoint")}</dt>
            <dd>
              <Link to={`/endpoints/${lineage.endpoint_id}`}>{lineage.endpoint_id}</Link>
            </dd>
            {lineage.since !== undefined && <Time label={t("lineage.since")} at={lineage.since} />}
            <Time label={t("lineage.until")} at={lineage.until} />
            {COUNTS.filter((name) => lineage[name]).map((name) => (
              <Fact key={name} label={t(`lineage.${name}`)} value={count(lineage[name] ?? 0)} />
            ))}
          </>
        )}
        <Fact label={t("versions.created")} value={dateTime(new Date(createdAt), locale)} />
        <dt>{t("lineage.reference")}</dt>
        <dd>
          <code>{uri}</code> <CopyButton text={uri} what={t("lineage.reference")} />
        </dd>
        <dt>{t("lineage.fingerprint")}</dt>
        <dd>
          <code title={sha256}>{sha256.slice(0, 16)}…</code> <CopyButton text={sha256} what={t("lineage.fingerprint")} />
        </dd>
      </dl>
    </Section>
  );
}

function Time({ label, at }: { label: string; at: string }) {
  const { locale } = usePreferences();
  return <Fact label={label} value={dateTime(new Date(at), locale)} />;
}

function Fact({ label, value }: { label: string; value: string }) {
  return (
    <>
      <dt>{label}</dt>
      <dd>{value}</dd>
    </>
  );
}
