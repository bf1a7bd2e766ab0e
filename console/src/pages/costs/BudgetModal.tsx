import { useMutation, useQueryClient } from "@tanstack/react-query";
import { Input, InputNumber, Modal, Segmented, Select } from "antd";
import { useId, useState } from "react";

import { send } from "../../api/client";
import { keys } from "../../api/keys";
import { ErrorLine } from "../../components/ErrorState";
import type { Budget, BudgetForm, Scope } from "./documents";
import { useCostsText } from "./text";

const SCOPES: Scope[] = ["tenant", "project", "endpoint", "job"];
const USUAL_USD = 100;

/** There is one budget for each scope, target and period: of one that is changed these stay. */
export function BudgetModal({ budget, onClose }: { budget: Budget | null; onClose: () => void }) {
  const t = useCostsText();
  const client = useQueryClient();
  const [scope, setScope] = useState<Scope>(budget?.scope ?? "tenant");
  const [target, setTarget] = useState(budget?.target ?? "");
  const [amount, setAmount] = useState<number | null>(budget?.amount_usd ?? USUAL_USD);
  const [chosenPeriod, setPeriod] = useState<"month" | "total">(budget?.period ?? "month");
  const [action, setAction] = useState<"warn" | "stop">(budget?.action ?? "warn");
  const [thresholds, setThresholds] = useState((budget?.thresholds ?? [0.5, 0.8, 1]).map((one) => Math.round(100 * one)).join(", "));
  const ids = { scope: useId(), target: useId(), amount: useId(), thresholds: useId() };
  const isNew = budget === null;
  const period = scope === "job" ? "total" : chosenPeriod;
  const fractions = thresholds.split(/[\s,]+/).filter((one) => one !== "").map((one) => Number(one) / 100);
  const isValid = amount !== null && amount > 0 && (scope === "tenant" || target !== "") && fractions.every((one) => one > 0 && one <= 10);
  const save = useMutation({
    mutationFn: () => {
      const form: BudgetForm = { scope, amount_usd: amount ?? 0, period, thresholds: fractions, action };
      return send("PUT", "/v1/budgets", { body: scope === "tenant" ? form : { ...form, target } });
    },
    onSuccess: async () => {
      await client.invalidateQueries({ queryKey: keys.budgets });
      onClose();
    },
  });
  return (
    <Modal
      open
      title={t("budgets.add")}
      okText={t("budgets.save")}
      cancelText={t("budgets.cancel")}
      okButtonProps={{ disabled: !isValid, loading: save.isPending }}
      onOk={() => save.mutate()}
      onCancel={onClose}
    >
      <div className="sk-form sk-costs-form">
        <label htmlFor={ids.scope}>{t("budgets.scope")}</label>
        <Select id={ids.scope} value={scope} disabled={!isNew} onChange={setScope} options={SCOPES.map((one) => ({ value: one, label: t(`budgets.${one}`) }))} />
        {scope !== "tenant" && (
          <>
            <label htmlFor={ids.target}>{t("budgets.target")}</label>
            <Input id={ids.target} value={target} disabled={!isNew} spellCheck={false} onChange={(event) => setTarget(event.target.value.trim())} />
            <p className="sk-hint">{t("budgets.targetHint")}</p>
          </>
        )}
        <label htmlFor={ids.amount}>{t("budgets.amount")}</label>
        <InputNumber id={ids.amount} value={amount} min={0} step={10} prefix="$" onChange={setAmount} />
        <span className="sk-costs-label">{t("budgets.period")}</span>
        <Segmented
          aria-label={t("budgets.period")}
          value={period}
          disabled={!isNew || scope === "job"}
          options={[
            { value: "month", label: t("budgets.month") },
            { value: "total", label: t("budgets.total") },
          ]}
          onChange={setPeriod}
        />
        <span className="sk-costs-label">{t("budgets.action")}</span>
        <Segmented
          aria-label={t("budgets.action")}
          value={action}
          options={[
            { value: "warn", label: t("budgets.warn") },
            { value: "stop", label: t("budgets.stop") },
          ]}
          onChange={setAction}
        />
        {action === "stop" && <p className="sk-hint">{t("budgets.stopHint")}</p>}
        <label htmlFor={ids.thresholds}>{t("budgets.thresholds")}</label>
        <Input id={ids.thresholds} value={thresholds} onChange={(event) => setThresholds(event.target.value)} />
        <p className="sk-hint">{t("budgets.thresholdsHint")}</p>
        <ErrorLine error={save.error} />
      </div>
    </Modal>
  );
}
