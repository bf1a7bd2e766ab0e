import { useQuery } from "@tanstack/react-query";
import { Link } from "react-router";

import { send } from "../../api/client";
import type { Listing } from "../../api/documents";
import { keys } from "../../api/keys";
import { useRefreshOn } from "../../api/useEvents";
import { TimeAgo } from "../../components/Figures";
import { Section } from "../../components/Page";
import { QueryState } from "../../components/QueryState";
import { StateTag } from "../../components/StateTag";
import type { Dataset, Job, Model } from "./documents";
import { useDataText } from "./text";

const JOBS = 20;

/** The newest jobs that learnt from this version, and the models that came of them. */
export function Usage({ dataset: { name, version } }: { dataset: Dataset }) {
  const t = useDataText();
  const reference = `${name}@${version}`;
  const queryKey = [...keys.jobs, "of-dataset", reference];
  const jobs = useQuery({
    queryKey,
    queryFn: ({ signal }) => send<Listing<Job>>("GET", "/v1/jobs", { query: { dataset: reference, limit: JOBS }, signal }),
  });
  const models = useQuery({
    queryKey: [...keys.models, "list"],
    queryFn: ({ signal }) => send<Listing<Model>>("GET", "/v1/models", { query: { limit: 1000 }, signal }),
  });
  useRefreshOn({ types: ["JobSubmitted", "JobSucceeded", "JobFailed", "JobCancelled"] }, queryKey);
  useRefreshOn({ types: ["ModelVersionReady"] }, keys.models);
  const made = new Map(models.data?.data.map((model) => [model.job_id, model]));
  return (
    <Section title={t("usage.title")}>
      <QueryState query={jobs}>
        {({ data }) =>
          data.length === 0 ? (
            <p className="sk-muted">{t("usage.none")}</p>
          ) : (
            <ul className="sk-data-usage" role="list">
              {data.map((job) => {
                const model = made.get(job.id);
                return (
                  <li key={job.id}>
                    <div className="sk-row">
                      <Link to={`/jobs/${job.id}`}>{job.name}</Link>
                      <StateTag state={job.state} />
                      <span className="sk-data-upload-end">
                        <TimeAgo at={job.submitted_at} />
                      </span>
                    </div>
                    <p className="sk-hint">
                      {t("usage.base")}: {job.model}
                      {model && (
                        <>
                          {" · "}
                          {t("usage.model")}: <Link to={`/models/${model.name}?version=${model.version}`}>{model.id}</Link>
                        </>
                      )}
                    </p>
                  </li>
                );
              })}
            </ul>
          )
        }
      </QueryState>
    </Section>
  );
}
