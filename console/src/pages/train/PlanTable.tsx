import { useState } from "react";
import { Button } from "antd";

import { usePreferences } from "../../app/preferences";
import { useDuration } from "../../components/Figures";
import { money } from "../../i18n/figures";
import type { Plan } from "./documents";
import { acceleratorsOf, hourlyOf, machinesOf } from "./planned";
import { useTrainText } from "./text";

const SHOWN = 8;

interface PlanTableProps {
  plan: Plan;
  active: number;
  onActive: (index: number) => void;
}

/** The candidates, best first: the first is the chosen one, the others are tried in their order. */
export function PlanTable({ plan, active, onActive }: PlanTableProps) {
  const t = useTrainText();
  const { locale } = usePreferences();
  const duration = useDuration();
  const [all, setAll] = useState(false);
  const candidates = plan.candidates ?? [];
  const time = (hours: number | null | undefined) => (hours === null || hours === undefined ? "–" : duration(hours * 3600));
  const usd = (amount: number | null | undefined) => (amount === null || amount === undefined ? "–" : money(amount, locale));
  return (
    <>
      {/* A region that scrolls is reached by the keyboard. */}
      {/* eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex */}
      <div className="sk-train-table" role="group" aria-label={t("plan.candidates")} tabIndex={0}>
        <table>
          <thead>
            <tr>
              <th scope="col">{t("plan.instance")}</th>
              <th scope="col" className="sk-train-right">{t("plan.total")}</th>
              <th scope="col" className="sk-train-right">{t("plan.time")}</th>
              <th scope="col" className="sk-train-right">{t("plan.hourly")}</th>
              <th scope="col">{t("plan.capacity")}</th>
              <th scope="col" className="sk-train-right">{t("plan.vcpus")}</th>
              <th scope="col" className="sk-train-right">{t("plan.memory")}</th>
              <th scope="col">{t("plan.gpus")}</th>
            </tr>
          </thead>
          <tbody>
            {candidates.slice(0, all ? undefined : SHOWN).map((candidate, index) => {
              const { placement, hours, total_usd } = candidate;
              const count = machinesOf(candidate);
              return (
                <tr key={index} data-chosen={index === 0} data-active={index === active} onMouseEnter={() => onActive(index)}>
                  <th scope="row">
                    {count > 1 && `${count} × `}
                    {placement.instance_type}
                    {index === 0 && <span className="sk-train-badge">{t("plan.chosen")}</span>}
                    {candidate.on_pareto_front && (
                      <span className="sk-train-badge" data-kind="front" title={t("pareto.onFrontWhy")}>
                        {t("pareto.onFrontShort")}
                      </span>
                    )}
                    <small>{[placement.cloud, placement.region, placement.zone === "*" ? "" : placement.zone].filter(Boolean).join(" / ")}</small>
                  </th>
                  <td className="sk-train-right">
                    <strong>{usd(total_usd?.expected)}</strong>
                    <small>{t("plan.upTo", { most: usd(total_usd?.high) })}</small>
                  </td>
                  <td className="sk-train-right">
                    {time(hours?.expected)}
                    <small>{t("plan.upTo", { most: time(hours?.high) })}</small>
                  </td>
                  <td className="sk-train-right">
                    {usd(hourlyOf(candidate))}
                    {candidate.price_stale && <abbr title={t("plan.stale")}>*</abbr>}
                  </td>
                  <td>
                    <span className="sk-train-capacity" data-kind={placement.capacity_type}>
                      {t(`capacity.${placement.capacity_type}` as "capacity.spot")}
                    </span>
                  </td>
                  <td className="sk-train-right">{placement.vcpus}</td>
                  <td className="sk-train-right">{t("plan.gib", { count: placement.memory_gib })}</td>
                  <td>{acceleratorsOf(placement) || "–"}</td>
                </tr>
              );
            })}
          </tbody>
        </table>
      </div>
      <p className="sk-hint sk-train-after">
        {t("plan.ranges")}
        {candidates.some((candidate) => candidate.price_stale) && ` * ${t("plan.stale")}.`}
        {(plan.fitting ?? 0) > candidates.length && ` ${t("plan.more", { count: (plan.fitting ?? 0) - candidates.length })}`}
      </p>
      {!all && candidates.length > SHOWN && (
        <Button type="link" onClick={() => setAll(true)}>
          {t("showAll", { count: candidates.length })}
        </Button>
      )}
    </>
  );
}
