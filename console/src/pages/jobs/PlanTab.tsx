import { useQuery } from "@tanstack/react-query";

import { send } from "../../api/client";
import { keys } from "../../api/keys";
import { EmptyState } from "../../components/EmptyState";
import { Section } from "../../components/Page";
import { QueryState } from "../../components/QueryState";
import type { Plan } from "../train/documents";
import { PlanView } from "../train/PlanView";
import type { Job } from "./documents";
import { useJobsText } from "./text";

/** The newest plan of the job: what it could have run on, and why it runs where it does. */
export function PlanTab({ job }: { job: Job }) {
  const t = useJobsText();
  const id = job.plan_id;
  const plan = useQuery({
    queryKey: keys.plan(id ?? ""),
    queryFn: ({ signal }) => send<Plan>("GET", `/v1/plans/${id}`, { signal }),
    enabled: id !== null,
  });
  if (id === null) return <EmptyState title={t("plan.none")} detail={t("plan.noneDetail")} />;
  return (
    <Section title={t("tab.plan")}>
      <QueryState query={plan}>{(data) => <PlanView key={data.id} plan={data} />}</QueryState>
    </Section>
  );
}
