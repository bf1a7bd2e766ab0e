import { useMemo } from "react";
import { Link } from "react-router";

import { usePreferences } from "../../app/preferences";
import { TimeAgo, useDuration } from "../../components/Figures";
import { Section } from "../../components/Page";
import { money, number, percent } from "../../i18n/figures";
import { type Detail, type Sentence, sentenceOf, type Written } from "./activity";
import type { ActivityItem } from "./documents";
import { useDashboardText } from "./text";

const WHO = "\u0001";

export function Activity({ items }: { items: ActivityItem[] }) {
  const t = useDashboardText();
  const { locale } = usePreferences();
  const duration = useDuration();
  const written = useMemo<Written>(
    () => ({
      money: (usd) => money(usd, locale),
      percent: (fraction) => percent(fraction, locale),
      number: (value) => number(value, locale),
      duration,
    }),
    [locale, duration],
  );
  return (
    <Section title={t("activity.title")}>
      {items.length === 0 ? (
        <p className="sk-muted">{t("activity.none")}</p>
      ) : (
        <ol className="sk-dashboard-activity" aria-label={t("activity.newestFirst")}>
          {items.map((item) => {
            const sentence = sentenceOf(item, written);
            return sentence && <Line key={item.id} at={item.at} type={item.type} sentence={sentence} />;
          })}
        </ol>
      )}
    </Section>
  );
}

function Line({ at, type, sentence }: { at: string; type: string; sentence: Sentence }) {
  const t = useDashboardText();
  const { key, values, link, detail } = sentence;
  const who = sentence.who ?? t("activity.thing");
  const [before = "", after = ""] = t(key, { ...values, who: WHO }).split(WHO);
  const told = detail.map((one: Detail) => (typeof one === "string" ? one : t(one.key, one.values)));
  return (
    <li data-tone={toneOf(type)}>
      <div>
        {before}
        {link === null ? <strong>{who}</strong> : <Link to={link}>{who}</Link>}
        {after}
      </div>
      <TimeAgo at={at} />
      {told.length > 0 && (
        <p className="sk-dashboard-detail" title={told.join(" · ")}>
          {told.join(" · ")}
        </p>
      )}
    </li>
  );
}

/** Of the mark before a line. */
function toneOf(type: string): string {
  if (/Failed|Rejected|Refused|Breached|RolledBack/.test(type)) return "bad";
  if (/Lost|Drained|Requeued|Held|Drift|Budget|Suggested/.test(type)) return "wait";
  return /Succeeded|Ready|Validated|Promoted|Recovered|Resumed/.test(type) ? "good" : "off";
}
