import "./style.css";

import { type ReactNode, useState } from "react";

import { usePreferences } from "../../app/preferences";
import { useDuration } from "../../components/Figures";
import { bytes, dateTime, money, number, percent } from "../../i18n/figures";
import type { Candidate, Plan } from "./documents";
import { ParetoChart } from "./ParetoChart";
import { hourlyOf, machinesOf, placeOf, rejectedBy, savingOf } from "./planned";
import { PlanTable } from "./PlanTable";
import { useTrainText } from "./text";

const FEW = 0.01;
const HOURS_GO = ["startup", "training", "checkpoint_stall", "interruptions", "finish", "waiting"] as const;
const DOLLARS_GO = ["compute", "on_demand_fallback", "storage", "egress"] as const;

/** A proposed plan: its choice, the chart, the table, where hours and dollars go, and who is out and why. */
export function PlanView({ plan }: { plan: Plan }) {
  const t = useTrainText();
  const [active, setActive] = useState(0);
  const best = plan.candidates?.[0];
  const rejected = rejectedBy(plan.rejections ?? []);
  if (best === undefined) return <p className="sk-hint">{t("plan.none")}</p>;
  return (
    <div className="sk-train-plan">
      <Chosen plan={plan} best={best} />
      <ParetoChart plan={plan} active={active} onActive={setActive} />
      <div>
        <h3>{t("plan.candidates")}</h3>
        <PlanTable plan={plan} active={active} onActive={setActive} />
      </div>
      <details className="sk-train-folded">
        <summary>{t("plan.why")}</summary>
        <Why plan={plan} best={best} />
      </details>
      {rejected.length > 0 && (
        <details className="sk-train-folded">
          <summary>{t("plan.rejected", { count: plan.rejections?.length ?? 0 })}</summary>
          <ul className="sk-train-rejected">
            {rejected.map(({ reason, count, first }) => (
              <li key={reason}>
                <strong>{t("plan.rejectedBy", { reason: t(`reject.${reason}` as "reject.memory"), count })}</strong>
                <span>
                  {t("plan.suchAs", { machine: `${first.placement.instance_type} ${t(`capacity.${first.placement.capacity_type}` as "capacity.spot")}, ${placeOf(first.placement)}` })}{" "}
                  {first.detail}
                </span>
              </li>
            ))}
          </ul>
        </details>
      )}
    </div>
  );
}

function Chosen({ plan, best }: { plan: Plan; best: Candidate }) {
  const t = useTrainText();
  const { locale } = usePreferences();
  const duration = useDuration();
  const saving = savingOf(best);
  const usd = (amount: number | null | undefined) => (amount === null || amount === undefined ? "–" : money(amount, locale));
  const time = (hours: number | null | undefined) => (hours === null || hours === undefined ? "–" : duration(hours * 3600));
  const steps = best.checkpoint_interval_steps;
  const count = machinesOf(best);
  const figures: [string, string, string][] = [
    [t("plan.total"), usd(best.total_usd?.expected), t("plan.certain", { most: usd(best.total_usd?.high) })],
    [t("plan.time"), time(best.hours?.expected), t("plan.between", { low: time(best.hours?.low), high: time(best.hours?.high) })],
    [t("plan.hourly"), usd(hourlyOf(best)), t(`capacity.${best.placement.capacity_type}` as "capacity.spot")],
    saving
      ? [t("plan.saves"), percent(saving.fraction, locale), t("plan.savesOf", { usd: usd(saving.usd), onDemand: usd(saving.onDemandUsd) })]
      : [t("plan.saves"), "–", t("plan.savesNothing")],
  ];
  const said = [
    steps ? t("plan.checkpoint", { steps }) : t("plan.noCheckpoint"),
    best.placement.capacity_type === "spot" && best.expected_interruptions !== null
      ? best.expected_interruptions < FEW
        ? t("plan.fewInterruptions")
        : t("plan.interruptions", { count: number(best.expected_interruptions, locale, 2) })
      : "",
    plan.point_of_no_return ? t("plan.pointOfNoReturn", { at: dateTime(new Date(plan.point_of_no_return), locale) }) : "",
  ];
  return (
    <div className="sk-train-chosen">
      <p>
        <strong>
          {count > 1 && `${count} × `}
          {best.placement.instance_type}
        </strong>{" "}
        {t("plan.in", { capacity: t(`capacity.${best.placement.capacity_type}` as "capacity.spot"), place: placeOf(best.placement) })}
      </p>
      <dl className="sk-train-figures">
        {figures.map(([name, value, detail]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
            <dd className="sk-hint">{detail}</dd>
          </div>
        ))}
      </dl>
      <p className="sk-hint">{said.filter(Boolean).join(" ")}</p>
    </div>
  );
}

function Why({ plan, best }: { plan: Plan; best: Candidate }) {
  const t = useTrainText();
  const { locale } = usePreferences();
  const duration = useDuration();
  const limit = ["compute", "memory-bandwidth", "interconnect"].includes(best.bound_by) ? t(`bound.${best.bound_by}` as "bound.compute") : null;
  return (
    <div className="sk-train-why">
      {plan.explanation && <p>{plan.explanation}</p>}
      <div className="sk-grid">
        {best.seconds && <Shares title={t("plan.hoursGo")} parts={HOURS_GO.map((name) => [t(`hours.${name}`), best.seconds?.[name] ?? 0])} told={duration} />}
        {best.usd && <Shares title={t("plan.dollarsGo")} parts={DOLLARS_GO.map((name) => [t(`dollars.${name}`), best.usd?.[name] ?? 0])} told={(usd) => money(usd, locale)} />}
      </div>
      <p className="sk-hint">
        {best.step_seconds?.expected ? `${t("plan.step", { seconds: number(best.step_seconds.expected, locale, 3) })} ` : ""}
        {limit ? `${limit} ` : ""}
        {best.peak_bytes && best.usable_bytes ? `${t("plan.memoryOf", { peak: bytes(best.peak_bytes, locale), usable: bytes(best.usable_bytes, locale) })} ` : ""}
        {plan.prices_as_of ? t("plan.pricesAsOf", { at: dateTime(new Date(plan.prices_as_of), locale) }) : ""}
      </p>
      <p className="sk-hint">
        {t("plan.replay")} <code className="sk-code-inline">sskai plan replay {plan.id}</code>
      </p>
    </div>
  );
}

/** What a sum is made of, as bars with their words. */
export function Shares({ title, parts, told }: { title: string; parts: [string, number][]; told: (value: number) => string }): ReactNode {
  const { locale } = usePreferences();
  const total = parts.reduce((sum, [, value]) => sum + value, 0);
  return (
    <div className="sk-train-shares">
      <h4>{title}</h4>
      <ul>
        {parts
          .filter(([, value]) => value > 0 && value / total >= 0.0005)
          .map(([name, value]) => (
            <li key={name}>
              <span>{name}</span>
              <span className="sk-figure">
                {told(value)} · {percent(value / total, locale)}
              </span>
              <span className="sk-train-share" style={{ width: `${(100 * value) / total}%` }} aria-hidden="true" />
            </li>
          ))}
      </ul>
    </div>
  );
}
