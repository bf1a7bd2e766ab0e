import type { TableColumnsType } from "antd";
import { Link } from "react-router";

import { keys } from "../../api/keys";
import { usePages } from "../../api/usePages";
import { usePreferences } from "../../app/preferences";
import { DataTable } from "../../components/DataTable";
import { Duration, Money, TimeAgo } from "../../components/Figures";
import { StateTag } from "../../components/StateTag";
import { percent } from "../../i18n/figures";
import type { Receipt } from "./documents";
import { useNames } from "./queries";
import { useCostsText } from "./text";

export function Receipts() {
  const t = useCostsText();
  const { locale } = usePreferences();
  const nameOf = useNames();
  const receipts = usePages<Receipt>([...keys.receipts, "list"], "/v1/receipts", {}, 20);
  const columns: TableColumnsType<Receipt> = [
    { title: t("receipts.job"), dataIndex: "job_id", render: (id: string) => <Link to={`/costs/receipts/${id}`}>{nameOf(id)}</Link> },
    { title: t("receipts.outcome"), dataIndex: "outcome", render: (outcome: string) => <StateTag state={outcome} /> },
    { title: t("receipts.paid"), dataIndex: "paid_usd", align: "right", render: (usd: number) => <Money usd={usd} /> },
    { title: t("receipts.onDemand"), dataIndex: "on_demand_usd", align: "right", render: (usd: number) => <Money usd={usd} /> },
    { title: t("receipts.saved"), dataIndex: "saving_fraction", align: "right", render: (share: number) => percent(share, locale) },
    { title: t("receipts.elapsed"), dataIndex: "elapsed_seconds", align: "right", render: (seconds: number) => <Duration seconds={seconds} /> },
    { title: t("receipts.interruptions"), dataIndex: "interruptions", align: "right" },
    { title: t("receipts.issued"), dataIndex: "issued_at", render: (at: string) => <TimeAgo at={at} /> },
  ];
  return (
    <section className="sk-costs-part">
      <h2>{t("receipts.title")}</h2>
      <DataTable
        label={t("receipts.title")}
        pages={receipts}
        columns={columns}
        rowKey={(receipt) => receipt.job_id}
        empty={<p className="sk-muted">{t("receipts.none")}</p>}
      />
    </section>
  );
}
