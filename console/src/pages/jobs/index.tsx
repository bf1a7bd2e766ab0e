import "./style.css";

import { Button, type TableColumnsType } from "antd";
import { Link, useSearchParams } from "react-router";

import { keys } from "../../api/keys";
import { useMay } from "../../api/session";
import { useRefreshOn } from "../../api/useEvents";
import { usePages } from "../../api/usePages";
import { useCommonText } from "../../app/text";
import { DataTable } from "../../components/DataTable";
import { EmptyState } from "../../components/EmptyState";
import { Money, TimeAgo } from "../../components/Figures";
import { Icon } from "../../components/icons";
import { Page } from "../../components/Page";
import { StateTag } from "../../components/StateTag";
import { type JobSummary, STATES } from "./documents";
import { ProgressBar } from "./ProgressBar";
import { useJobsText } from "./text";
import { useRule } from "./waiting";

const CHANGES = [
  "JobSubmitted", "JobAdmitted", "JobHeld", "JobRequeued", "JobSucceeded", "JobFailed", "JobCancelled", "JobCancelRequested",
  "PlanProposed", "AttemptStarted", "AttemptProgressed", "AttemptLost", "AttemptDrained", "AttemptFinished", "SpendRecorded",
] as const;
const SHOWN_FIRST = ["running", "held", "queued", "succeeded", "failed", "cancelled"] as const;

/** The project's jobs, newest first, as they go. */
export default function JobsPage() {
  const t = useJobsText();
  const common = useCommonText();
  const rule = useRule();
  const mayWrite = useMay("write");
  const [query, setQuery] = useSearchParams();
  const state = STATES.find((one) => one === query.get("state")) ?? null;
  const jobs = usePages<JobSummary>([...keys.jobs, "list", state], "/v1/jobs", { state });
  useRefreshOn({ types: CHANGES }, [...keys.jobs, "list"]);

  const columns: TableColumnsType<JobSummary> = [
    {
      title: t("column.job"),
      key: "name",
      render: (_, job) => (
        <div className="sk-jobs-name">
          <Link to={`/jobs/${job.id}`}>{job.name}</Link>
          <span title={job.id}>{job.model}</span>
        </div>
      ),
    },
    {
      title: t("column.state"),
      key: "state",
      render: (_, job) => (
        <div className="sk-jobs-state">
          <StateTag state={job.state} />
          {job.waiting !== null && <span title={job.waiting.detail}>{rule(job.waiting.rule)}</span>}
        </div>
      ),
    },
    { title: t("column.progress"), key: "progress", render: (_, job) => <ProgressBar job={job} /> },
    {
      title: t("column.dataset"),
      key: "dataset",
      responsive: ["lg"],
      render: (_, job) => job.dataset?.replace("dataset://", "").replace("/", "@") ?? t("dataset.code"),
    },
    {
      title: t("column.spent"),
      key: "spent",
      align: "right",
      render: (_, job) => (
        <div className="sk-jobs-spent">
          <Money usd={job.spent_usd} />
          {job.budget_usd !== null && (
            <span>
              {t("ofBudget")} <Money usd={job.budget_usd} />
            </span>
          )}
        </div>
      ),
    },
    { title: t("column.attempts"), dataIndex: "attempt", align: "right", responsive: ["xl"] },
    { title: t("column.submitted"), key: "submitted", render: (_, job) => <TimeAgo at={job.submitted_at} /> },
  ];
  const start = mayWrite && (
    <Link to="/train">
      <Button type="primary" icon={<Icon name="plus" size={16} />} tabIndex={-1}>
        {t("new")}
      </Button>
    </Link>
  );
  return (
    <Page title={t("title")} lead={t("lead")} actions={start}>
      <nav className="sk-jobs-filter" aria-label={t("filter")}>
        {[null, ...SHOWN_FIRST].map((one) => (
          <button key={one ?? "all"} type="button" aria-pressed={one === state} onClick={() => setQuery(one === null ? {} : { state: one })}>
            {one === null ? t("all") : common(`state.${one}`)}
          </button>
        ))}
      </nav>
      <DataTable
        label={t("title")}
        pages={jobs}
        columns={columns}
        rowKey={(job) => job.id}
        empty={
          state === null ? (
            <EmptyState title={t("empty.title")} detail={t("empty.detail")} action={start} />
          ) : (
            <EmptyState title={t("none.title")} detail={t("none.detail")} action={<Button onClick={() => setQuery({})}>{t("none.all")}</Button>} />
          )
        }
      />
    </Page>
  );
}
