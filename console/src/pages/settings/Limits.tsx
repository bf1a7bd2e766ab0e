import { useQuery } from "@tanstack/react-query";

import { send } from "../../api/client";
import { keys } from "../../api/keys";
import { usePreferences } from "../../app/preferences";
import { QueryState } from "../../components/QueryState";
import { bytes, money, number } from "../../i18n/figures";
import type { Locale } from "../../i18n/text";
import type { Limit } from "./documents";
import { Part } from "./Part";
import { useSettingsText } from "./text";

const NEARLY = 0.8;

/** What bounds the project, and how much of it is used. */
export default function LimitsPart() {
  const t = useSettingsText();
  const limits = useQuery({ queryKey: keys.limits, queryFn: ({ signal }) => send<{ data: Limit[] }>("GET", "/v1/limits", { signal }), staleTime: 0 });
  return (
    <Part title={t("part.limits")} lead={t("limits.lead")}>
      <QueryState query={limits} rows={8}>
        {({ data }) => (
          <ul className="sk-settings-limits sk-section">
            {data.map((one) => (
              <One key={one.name} limit={one} />
            ))}
          </ul>
        )}
      </QueryState>
    </Part>
  );
}

function One({ limit: { name, limit, used, unit } }: { limit: Limit }) {
  const t = useSettingsText();
  const { locale } = usePreferences();
  const share = limit !== null && used !== null && limit > 0 ? used / limit : null;
  const known = `limit.${name}` as Parameters<typeof t>[0];
  const words = name.startsWith("budget.") ? t("limit.budget", { name: name.slice("budget.".length) }) : t(known) === known ? name : t(known);
  const told = (value: number) => inUnit(value, unit, locale);
  return (
    <li>
      <span>{words}</span>
      <span className="sk-settings-meter" aria-hidden="true">
        {share !== null && <span data-high={share >= NEARLY} style={{ width: `${100 * Math.min(1, share)}%` }} />}
      </span>
      <span className="sk-figure">
        {[used, limit].filter((value) => value !== null).map(told).join(" / ")}
        {unit === "USD" || unit === "bytes" ? "" : ` ${unitOf(unit, t)}`}
        {limit === null && `, ${t("limits.unbounded")}`}
      </span>
    </li>
  );
}

function unitOf(unit: string, t: ReturnType<typeof useSettingsText>): string {
  const key = `unit.${unit}` as Parameters<typeof t>[0];
  return t(key) === key ? unit : t(key);
}

function inUnit(value: number, unit: string, locale: Locale): string {
  if (unit === "bytes") return bytes(value, locale);
  return unit === "USD" ? money(value, locale) : number(value, locale, 6);
}
