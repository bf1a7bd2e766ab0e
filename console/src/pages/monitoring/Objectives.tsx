import { useMutation, useQueryClient } from "@tanstack/react-query";
import { App, Button } from "antd";
import { useState } from "react";

import { send } from "../../api/client";
import { keys } from "../../api/keys";
import { usePreferences } from "../../app/preferences";
import { ErrorLine } from "../../components/ErrorState";
import { TimeAgo, useDuration } from "../../components/Figures";
import { StateTag } from "../../components/StateTag";
import { number, percent } from "../../i18n/figures";
import type { Objective } from "./documents";
import { ObjectivesForm } from "./ObjectivesForm";
import { useMonitoringText } from "./text";

interface ObjectivesProps {
  endpointId: string;
  objectives: Objective[];
  mayChange: boolean;
}

/** What it promises, whether it keeps it, and how fast it spends its budgets of errors. */
export function Objectives({ endpointId, objectives, mayChange }: ObjectivesProps) {
  const t = useMonitoringText();
  const { modal } = App.useApp();
  const client = useQueryClient();
  const [isEditing, setIsEditing] = useState(false);
  const withdraw = useMutation({
    mutationFn: () => send("DELETE", `/v1/endpoints/${endpointId}/objectives`),
    onSuccess: () => client.setQueryData(keys.objectives(endpointId), { object: "list", data: [] }),
  });
  if (isEditing) return <ObjectivesForm endpointId={endpointId} objectives={objectives} onDone={() => setIsEditing(false)} />;
  const ask = () =>
    modal.confirm({
      title: t("objectives.withdrawTitle"),
      content: t("objectives.withdrawDetail"),
      okText: t("objectives.withdraw"),
      okButtonProps: { danger: true },
      cancelText: t("cancel"),
      onOk: () => withdraw.mutateAsync().catch(() => undefined),
    });
  return (
    <div className="sk-stack">
      {objectives.length === 0 && <p className="sk-muted">{t("objectives.none")}</p>}
      <div className="sk-monitoring-objectives">
        {objectives.map((one) => (
          <One key={one.name} objective={one} />
        ))}
      </div>
      {mayChange && (
        <div className="sk-row">
          <Button onClick={() => setIsEditing(true)}>{t(objectives.length === 0 ? "objectives.set" : "objectives.edit")}</Button>
          {objectives.length > 0 && (
            <Button type="text" danger onClick={ask} loading={withdraw.isPending}>
              {t("objectives.withdraw")}
            </Button>
          )}
        </div>
      )}
      <ErrorLine error={withdraw.error} />
    </div>
  );
}

function One({ objective }: { objective: Objective }) {
  const t = useMonitoringText();
  const { locale } = usePreferences();
  const told = useDuration();
  const left = objective.budget_left_fraction;
  const windows = Object.entries(objective.burn_rates).map(([window, rate]) => ({ seconds: Number.parseInt(window, 10), rate }));
  return (
    <article className="sk-monitoring-objective">
      <header>
        <h3>{t(`objective.${objective.name}`)}</h3>
        <StateTag
          state={objective.severity === null ? "met" : "broken"}
          label={t(objective.severity === null ? "objectives.kept" : `severity.${objective.severity}`)}
        />
      </header>
      <p className="sk-muted">
        {objective.at_most_seconds === null
          ? t("objective.share", { percent: percent(objective.target, locale) })
          : t("objective.within", { percent: percent(objective.target, locale), seconds: number(objective.at_most_seconds, locale) })}
        {objective.breached_since !== null && (
          <>
            {" · "}
            {t("objectives.since")} <TimeAgo at={objective.breached_since} />
          </>
        )}
      </p>
      <div className="sk-monitoring-budget" role="img" aria-label={t("objectives.left", { percent: percent(left, locale) })} data-low={left < 0.25}>
        <span style={{ width: `${100 * Math.min(1, Math.max(0, left))}%` }} />
      </div>
      <p>{left >= 0 ? t("objectives.left", { percent: percent(left, locale) }) : t("objectives.overspent", { percent: percent(-left, locale) })}</p>
      <table className="sk-monitoring-burn">
        <caption>{t("objectives.burn")}</caption>
        <tbody>
          <tr>
            {windows.map(({ seconds }) => (
              <th key={seconds} scope="col">{told(seconds)}</th>
            ))}
          </tr>
          <tr>
            {windows.map(({ seconds, rate }) => (
              <td key={seconds} data-fast={rate > 1}>{number(rate, locale, 2)}×</td>
            ))}
          </tr>
        </tbody>
      </table>
    </article>
  );
}
