import { Segmented } from "antd";
import { useState } from "react";
import { Link } from "react-router";

import { usePreferences } from "../../app/preferences";
import { Section } from "../../components/Page";
import { QueryState } from "../../components/QueryState";
import { money, percent } from "../../i18n/figures";
import en from "../../locales/en/costs";
import type { Group, GroupBy } from "./documents";
import { useCosts, useNames, useStored } from "./queries";
import type { Span } from "./spans";
import { useCostsText } from "./text";

const BY: GroupBy[] = ["job", "endpoint", "project", "kind"];

/** What the money went to, the dearest first. */
export function Groups({ span }: { span: Span }) {
  const t = useCostsText();
  const [by, setBy] = useState<GroupBy>("job");
  const costs = useCosts(span, by);
  const choice = (
    <Segmented<GroupBy>
      size="small"
      aria-label={t("groups.by")}
      value={by}
      options={BY.map((one) => ({ value: one, label: t(`groups.${one}`) }))}
      onChange={setBy}
    />
  );
  return (
    <Section title={t("groups.title")} actions={choice}>
      <QueryState query={costs}>
        {({ groups, total }) => <List groups={groups.filter((group) => group[by] !== undefined)} by={by} totalUsd={total.spent_usd} />}
      </QueryState>
    </Section>
  );
}

function List({ groups, by, totalUsd }: { groups: Group[]; by: GroupBy; totalUsd: number }) {
  const { locale } = usePreferences();
  const t = useCostsText();
  const sorted = [...groups].sort((a, b) => b.spent_usd - a.spent_usd);
  return (
    // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex
    <div className="sk-chart-table sk-costs-groups" tabIndex={0} role="group" aria-label={t("groups.title")}>
      <table>
        <thead>
          <tr>
            <th scope="col">{t(`groups.${by}`)}</th>
            <th scope="col">{t("figures.paid")}</th>
            <th scope="col">{t("figures.saved")}</th>
            <th scope="col">{t("groups.share")}</th>
          </tr>
        </thead>
        <tbody>
          {sorted.map((group) => {
            const share = totalUsd > 0 ? group.spent_usd / totalUsd : 0;
            return (
              <tr key={group[by]}>
                <th scope="row">
                  <Name by={by} value={group[by] ?? ""} />
                </th>
                <td>{money(group.spent_usd, locale)}</td>
                <td>{group.saving_fraction === null ? "–" : percent(group.saving_fraction, locale)}</td>
                <td>
                  <span className="sk-costs-share">
                    <span className="sk-bar" aria-hidden="true">
                      <span style={{ width: `${100 * share}%` }} />
                    </span>
                    {percent(share, locale)}
                  </span>
                </td>
              </tr>
            );
          })}
        </tbody>
      </table>
    </div>
  );
}

function Name({ by, value }: { by: GroupBy; value: string }) {
  const t = useCostsText();
  const nameOf = useNames();
  const storedOf = useStored();
  if (value === "") return <span className="sk-muted">{t("groups.none")}</span>;
  if (by === "job" && /^(dataset|model)_/.test(value)) {
    const stored = storedOf(value);
    const label = t("groups.stored", { name: stored?.label ?? value });
    return stored === undefined ? label : <Link to={stored.link}>{label}</Link>;
  }
  if (by === "job") return <Link to={`/jobs/${value}`}>{nameOf(value)}</Link>;
  if (by === "endpoint") return <Link to={`/endpoints/${value}`}>{nameOf(value)}</Link>;
  const key = `kind.${value}`;
  return <>{by === "kind" && key in en ? t(key as keyof typeof en) : value}</>;
}
