import { useQuery } from "@tanstack/react-query";
import { Link } from "react-router";

import { send } from "../../api/client";
import type { Listing } from "../../api/documents";
import { keys } from "../../api/keys";
import { Icon } from "../../components/icons";
import { Section } from "../../components/Page";
import type { Overview } from "./documents";
import { useDashboardText } from "./text";

const STEPS = [
  { name: "data", to: "/data" },
  { name: "train", to: "/train" },
  { name: "deploy", to: "/models" },
  { name: "chat", to: "/endpoints" },
] as const;

/** The way of a new project from its data to a chat; shown until an endpoint was ready. */
export function FirstSteps({ overview }: { overview: Overview }) {
  const t = useDashboardText();
  const datasets = useQuery({
    queryKey: [...keys.datasets, "any"],
    queryFn: ({ signal }) => send<Listing<unknown>>("GET", "/v1/datasets", { query: { limit: 1 }, signal }),
  });
  const done = {
    data: (datasets.data?.data.length ?? 0) > 0,
    train: (overview.job_counts["succeeded"] ?? 0) > 0,
    deploy: (overview.endpoint_counts["ready"] ?? 0) > 0,
    chat: false,
  };
  const next = STEPS.find(({ name }) => !done[name])?.name;
  return (
    <Section title={t("first.title")}>
      <p className="sk-muted">{t("first.lead")}</p>
      <ol className="sk-dashboard-steps">
        {STEPS.map(({ name, to }, index) => (
          <li key={name} data-done={done[name]} data-next={name === next}>
            <span className="sk-dashboard-step-sign" aria-hidden="true">
              {done[name] ? <Icon name="check" size={16} /> : index + 1}
            </span>
            <div>
              <Link to={to}>{t(`first.${name}`)}</Link>
              <span className="sk-hidden">{done[name] ? t("first.done") : name === next ? t("first.next") : ""}</span>
              <p className="sk-dashboard-detail">{t(`first.${name}Detail`)}</p>
            </div>
          </li>
        ))}
      </ol>
    </Section>
  );
}
