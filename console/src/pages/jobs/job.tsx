import "./style.css";

import { useQuery } from "@tanstack/react-query";
import { useParams, useSearchParams } from "react-router";

import { send } from "../../api/client";
import { keys } from "../../api/keys";
import { useRefreshOn } from "../../api/useEvents";
import { Page } from "../../components/Page";
import { QueryState } from "../../components/QueryState";
import { StateTag } from "../../components/StateTag";
import { Actions } from "./Actions";
import type { Job } from "./documents";
import { JobHead } from "./JobHead";
import { Logs } from "./Logs";
import { Overview } from "./Overview";
import { PlanTab } from "./PlanTab";
import { SpecTab } from "./SpecTab";
import { useJobsText } from "./text";
import { TraceTab } from "./TraceTab";

const TABS = ["overview", "logs", "trace", "plan", "spec"] as const;

/** One job: what it does and waits for, how it learns, where it ran, what it cost. */
export default function JobPage() {
  const t = useJobsText();
  const { jobId = "" } = useParams();
  const [query, setQuery] = useSearchParams();
  const tab = TABS.find((one) => one === query.get("tab")) ?? "overview";
  const job = useQuery({ queryKey: keys.job(jobId), queryFn: ({ signal }) => send<Job>("GET", `/v1/jobs/${jobId}`, { signal }) });
  useRefreshOn({ types: "all", subject: jobId }, keys.job(jobId));
  const data = job.data;
  return (
    <Page
      title={data?.name ?? jobId}
      documentTitle={`${t("one")} ${data?.name ?? jobId}`}
      breadcrumbs={[{ title: t("title"), to: "/jobs" }]}
      badge={data && <StateTag state={data.state} />}
      lead={data && <Lead job={data} />}
      actions={data && <Actions job={data} />}
    >
      <QueryState query={job} rows={8}>
        {(shown) => (
          <>
            <JobHead job={shown} />
            <nav className="sk-jobs-filter" aria-label={t("tabs")}>
              {TABS.map((one) => (
                <button key={one} type="button" aria-pressed={one === tab} onClick={() => setQuery(one === "overview" ? {} : { tab: one })}>
                  {t(`tab.${one}`)}
                </button>
              ))}
            </nav>
            {tab === "overview" && <Overview job={shown} />}
            {tab === "logs" && <Logs key={shown.id} job={shown} />}
            {tab === "trace" && <TraceTab job={shown} />}
            {tab === "plan" && <PlanTab job={shown} />}
            {tab === "spec" && <SpecTab job={shown} />}
          </>
        )}
      </QueryState>
    </Page>
  );
}

function Lead({ job }: { job: Job }) {
  const method = [job.spec.model.method, job.spec.model.dora ? "DoRA" : "", job.spec.model.rslora ? "rsLoRA" : ""].filter(Boolean).join(" + ");
  return (
    <>
      {[job.model, method, job.dataset?.replace("dataset://", "").replace("/", "@")].filter(Boolean).join(" · ")} ·{" "}
      <code className="sk-jobs-id">{job.id}</code>
    </>
  );
}
