import "./style.css";

import { useQuery } from "@tanstack/react-query";
import { Link, useParams } from "react-router";

import { send } from "../../api/client";
import { keys } from "../../api/keys";
import { ProblemError } from "../../api/problem";
import { useRefreshOn } from "../../api/useEvents";
import { usePreferences } from "../../app/preferences";
import { EmptyState } from "../../components/EmptyState";
import { useDuration } from "../../components/Figures";
import { Page, Section } from "../../components/Page";
import { QueryState } from "../../components/QueryState";
import { StateTag } from "../../components/StateTag";
import { dateTime, money, percent } from "../../i18n/figures";
import type { Receipt } from "./documents";
import { useNames } from "./queries";
import { useCostsText } from "./text";

/** One receipt in full, each figure with the sentence that says what it is. */
export default function ReceiptPage() {
  const t = useCostsText();
  const { locale } = usePreferences();
  const { jobId = "" } = useParams();
  const name = useNames()(jobId);
  const queryKey = [...keys.receipts, jobId];
  const receipt = useQuery({ queryKey, queryFn: ({ signal }) => send<Receipt>("GET", `/v1/receipts/${jobId}`, { signal }) });
  useRefreshOn({ types: ["ReceiptIssued"], subject: jobId }, queryKey);
  const isMissing = receipt.error instanceof ProblemError && receipt.error.status === 404;
  return (
    <Page
      title={t("receipt.of", { name })}
      breadcrumbs={[{ title: t("title"), to: "/costs" }]}
      badge={receipt.data && <StateTag state={receipt.data.outcome} />}
      lead={receipt.data && dateTime(new Date(receipt.data.issued_at), locale)}
      actions={
        <Link className="sk-button" to={`/jobs/${jobId}`}>
          {t("receipt.toJob")}
        </Link>
      }
    >
      {isMissing ? (
        <EmptyState title={t("receipt.missing")} detail={t("receipt.missingDetail")} />
      ) : (
        <QueryState query={receipt} rows={8}>
          {(data) => (
            <div className="sk-costs-receipt">
              <MoneyOf receipt={data} />
              <TimeOf receipt={data} />
            </div>
          )}
        </QueryState>
      )}
    </Page>
  );
}

function MoneyOf({ receipt }: { receipt: Receipt }) {
  const t = useCostsText();
  const { locale } = usePreferences();
  const duration = useDuration();
  const usd = (value: number) => money(value, locale);
  const { paid_usd: paid, on_demand_usd: onDemand, naive_usd: naive, naive_saving_fraction: naiveSaved, intervals, attempts, interruptions } = receipt;
  return (
    <Section title={t("receipt.money")}>
      <dl className="sk-costs-lines">
        <Line label={t("receipt.paid")} value={usd(paid)} hint={t("receipt.paidHint", { intervals, attempts })} strong />
        <Line label={t("receipt.onDemand")} value={usd(onDemand)} hint={t("receipt.onDemandHint")} />
        <Line
          label={t("receipt.saved")}
          value={`${usd(onDemand - paid)} (${percent(receipt.saving_fraction, locale)})`}
          hint={t("receipt.savedHint")}
          strong
        />
        {naive === null ? (
          <Line label={t("receipt.naive")} value="–" hint={t("receipt.naiveNone")} />
        ) : (
          <Line label={t("receipt.naive")} value={usd(naive)} hint={t("receipt.naiveHint", { machine: receipt.naive_instance_type })} />
        )}
        {naiveSaved !== null && <Line label={t("receipt.naiveSaved")} value={percent(naiveSaved, locale)} hint={t("receipt.naiveSavedHint")} />}
        <Line label={t("receipt.lost")} value={usd(receipt.lost_usd)} hint={t("receipt.lostHint", { interruptions, time: duration(receipt.lost_seconds) })} />
      </dl>
    </Section>
  );
}

function TimeOf({ receipt }: { receipt: Receipt }) {
  const t = useCostsText();
  const duration = useDuration();
  const saved = receipt.time_saved_seconds;
  return (
    <Section title={t("receipt.timeTitle")}>
      <dl className="sk-costs-lines">
        <Line label={t("receipt.elapsed")} value={duration(receipt.elapsed_seconds)} hint={t("receipt.elapsedHint")} strong />
        <Line label={t("receipt.waiting")} value={duration(receipt.waiting_seconds)} hint={t("receipt.waitingHint")} />
        <Line label={t("receipt.machine")} value={duration(receipt.machine_seconds)} hint={t("receipt.machineHint")} />
        <Line label={t("receipt.useful")} value={duration(receipt.useful_seconds)} hint={t("receipt.usefulHint")} />
        <Line
          label={t("receipt.overhead")}
          value={duration(receipt.overhead_seconds)}
          hint={t("receipt.overheadHint", { restart: duration(receipt.restart_seconds) })}
        />
        {saved !== null && (
          <Line
            label={t(saved < 0 ? "receipt.timeLost" : "receipt.timeSaved")}
            value={duration(Math.abs(saved))}
            hint={t("receipt.timeSavedHint")}
            strong
          />
        )}
      </dl>
    </Section>
  );
}

function Line({ label, value, hint, strong = false }: { label: string; value: string; hint: string; strong?: boolean }) {
  return (
    <div data-strong={strong}>
      <dt>{label}</dt>
      <dd className="sk-figure">{value}</dd>
      <dd className="sk-hint">{hint}</dd>
    </div>
  );
}
