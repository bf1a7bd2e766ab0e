import { Link } from "react-router";

import { usePreferences } from "../../app/preferences";
import { Duration, Money, useDuration } from "../../components/Figures";
import { percent } from "../../i18n/figures";
import { Shares } from "../train/PlanView";
import type { Receipt } from "./documents";
import { useJobsText } from "./text";

const NANO = 1e9;

/** What was paid, what it would have cost, and what the machines' time went into. */
export function ReceiptView({ receipt }: { receipt: Receipt }) {
  const t = useJobsText();
  const { locale } = usePreferences();
  const duration = useDuration();
  const [paid, onDemand, lost] = [receipt.paid_nano_usd / NANO, receipt.on_demand_nano_usd / NANO, receipt.lost_nano_usd / NANO];
  return (
    <div className="sk-jobs-receipt">
      <dl>
        <div>
          <dt>{t("receipt.onDemand")}</dt>
          <dd>
            <Money usd={onDemand} />
          </dd>
        </div>
        {receipt.naive_nano_usd !== null && (
          <div>
            <dt>{t("receipt.naive", { machine: receipt.naive_instance_type })}</dt>
            <dd>
              <Money usd={receipt.naive_nano_usd / NANO} />
            </dd>
          </div>
        )}
        <div>
          <dt>{t("receipt.saved")}</dt>
          <dd>
            <Money usd={onDemand - paid} /> {receipt.saving_fraction !== null && `(${percent(receipt.saving_fraction, locale)})`}
          </dd>
        </div>
        {lost > 0 && (
          <div>
            <dt>{t("receipt.lost")}</dt>
            <dd>
              <Money usd={lost} />
            </dd>
          </div>
        )}
        <div>
          <dt>{t("receipt.elapsed")}</dt>
          <dd>
            <Duration seconds={receipt.elapsed_seconds} />
          </dd>
        </div>
        <div className="sk-jobs-paid">
          <dt>{t("receipt.paid")}</dt>
          <dd>
            <Money usd={paid} />
          </dd>
        </div>
      </dl>
      <div>
        <Shares
          title={t("receipt.time")}
          told={duration}
          parts={[
            [t("time.useful"), receipt.useful_seconds],
            [t("time.overhead"), receipt.overhead_seconds],
            [t("time.restart"), receipt.restart_seconds],
            [t("time.lost"), receipt.lost_seconds],
            [t("time.waiting"), receipt.waiting_seconds],
          ]}
        />
        <p className="sk-hint sk-jobs-after">
          {t("receipt.honest")} <Link to="/costs">{t("receipt.costs")}</Link>
        </p>
      </div>
    </div>
  );
}
