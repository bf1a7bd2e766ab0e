import { useMutation, useQueryClient } from "@tanstack/react-query";
import { App, Button } from "antd";
import { useState } from "react";

import { send } from "../../api/client";
import { keys } from "../../api/keys";
import { useMay } from "../../api/session";
import { usePreferences } from "../../app/preferences";
import { Icon } from "../../components/icons";
import { Section } from "../../components/Page";
import { QueryState } from "../../components/QueryState";
import { money, percent } from "../../i18n/figures";
import { BudgetModal } from "./BudgetModal";
import type { Budget } from "./documents";
import { useBudgets, useNames } from "./queries";
import { useCostsText } from "./text";

/** Every budget with what is spent, reserved and left; set and changed by admins. */
export function Budgets() {
  const t = useCostsText();
  const maySet = useMay("admin");
  const budgets = useBudgets();
  const [changed, setChanged] = useState<Budget | "new" | null>(null);
  const add = (
    <Button icon={<Icon name="plus" size={16} />} onClick={() => setChanged("new")}>
      {t("budgets.add")}
    </Button>
  );
  return (
    <div id="budgets">
      <Section title={t("budgets.title")} actions={maySet && add}>
        <QueryState query={budgets}>
          {({ data }) =>
            data.length === 0 ? (
              <p className="sk-muted">{t("budgets.none")}</p>
            ) : (
              <ul className="sk-costs-budgets" role="list">
                {data.map((budget) => (
                  <Item key={budget.id} budget={budget} onChange={maySet ? () => setChanged(budget) : undefined} />
                ))}
              </ul>
            )
          }
        </QueryState>
        {changed !== null && <BudgetModal budget={changed === "new" ? null : changed} onClose={() => setChanged(null)} />}
      </Section>
    </div>
  );
}

function Item({ budget, onChange }: { budget: Budget; onChange: (() => void) | undefined }) {
  const t = useCostsText();
  const { locale } = usePreferences();
  const nameOf = useNames();
  const { scope, target, amount_usd: amount, spent_usd: spent, reserved_usd: reserved, left_usd: left } = budget;
  const name = scope === "tenant" ? t("budgets.tenant") : nameOf(target);
  const used = ((spent ?? 0) + (reserved ?? 0)) / amount;
  const usd = (value: number) => money(value, locale);
  return (
    <li>
      <div className="sk-row">
        <strong>{name}</strong>
        {scope !== "tenant" && <span className="sk-muted">{t(`budgets.${scope}`)}</span>}
        <span className="sk-tag" data-tone="off">
          {t(`budgets.${budget.period}`)}
        </span>
        <span className="sk-tag" data-tone={budget.action === "stop" ? "wait" : "off"}>
          {t(`budgets.${budget.action}`)}
        </span>
        {onChange && (
          <span className="sk-costs-buttons">
            <Button size="small" aria-label={t("budgets.change", { name })} onClick={onChange}>
              {t("budgets.edit")}
            </Button>
            <Delete budget={budget} name={name} />
          </span>
        )}
      </div>
      {spent === null || reserved === null || left === null ? (
        <p className="sk-hint">{t("budgets.away")}</p>
      ) : (
        <>
          <div
            className="sk-bar"
            role="img"
            aria-label={t("budgets.bar", { percent: percent(used, locale) })}
            data-tone={used >= 1 ? "bad" : used >= 0.8 ? "wait" : undefined}
          >
            <span style={{ width: `${Math.min(100, (100 * spent) / amount)}%` }} />
            <span style={{ width: `${Math.min(100, (100 * reserved) / amount)}%` }} />
          </div>
          <p className="sk-costs-account">
            <span>
              {t("budgets.spent", { spent: usd(spent) })} · {t("budgets.reserved", { reserved: usd(reserved) })}
            </span>
            <span>{t("budgets.left", { left: usd(left), amount: usd(amount) })}</span>
          </p>
        </>
      )}
    </li>
  );
}

function Delete({ budget: { id }, name }: { budget: Budget; name: string }) {
  const t = useCostsText();
  const { message, modal } = App.useApp();
  const client = useQueryClient();
  const remove = useMutation({
    mutationFn: () => send("DELETE", `/v1/budgets/${id}`),
    onSuccess: () => client.invalidateQueries({ queryKey: keys.budgets }),
    onError: (error) => void message.error(error.message),
  });
  return (
    <Button
      size="small"
      type="text"
      icon={<Icon name="trash" size={16} />}
      aria-label={t("budgets.delete", { name })}
      onClick={() =>
        modal.confirm({
          title: t("budgets.deleteTitle", { name }),
          content: t("budgets.deleteDetail"),
          okText: t("budgets.deleteYes"),
          cancelText: t("budgets.cancel"),
          okButtonProps: { danger: true },
          onOk: () => remove.mutateAsync().catch(() => undefined),
        })
      }
    />
  );
}
