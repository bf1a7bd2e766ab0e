import { useMutation, useQueryClient } from "@tanstack/react-query";
import { App, Button } from "antd";
import { Link } from "react-router";

import { send } from "../../api/client";
import { keys } from "../../api/keys";
import { useMay } from "../../api/session";
import { ErrorLine } from "../../components/ErrorState";
import { TimeAgo } from "../../components/Figures";
import { Section } from "../../components/Page";
import type { Decision } from "./documents";
import { useDashboardText } from "./text";

export function Decisions({ decisions }: { decisions: Decision[] }) {
  const t = useDashboardText();
  return (
    <Section title={t("decisions.title")}>
      {decisions.length === 0 ? (
        <p className="sk-muted">{t("decisions.none")}</p>
      ) : (
        <ul className="sk-dashboard-decisions" role="list">
          {decisions.map((one) => (
            <Item key={`${one.kind} ${one.id}`} decision={one} />
          ))}
        </ul>
      )}
    </Section>
  );
}

function Item({ decision }: { decision: Decision }) {
  const t = useDashboardText();
  const may = useMay("write");
  const { kind, title, detail, since, link } = decision;
  return (
    <li data-tone={kind === "failed-endpoint" ? "bad" : "wait"}>
      <div className="sk-dashboard-decision-head">
        <Link to={link}>{t(`decisions.${kind}`, { name: title })}</Link>
        {since !== null && <TimeAgo at={since} />}
      </div>
      <p className="sk-dashboard-detail">{kind === "webhook" ? t("decisions.webhookDetail", { name: title }) : detail}</p>
      {kind === "retrain" && may && <Retrain decision={decision} />}
    </li>
  );
}

/** Decided at once, without going to the page where more of it stands. */
function Retrain({ decision: { id, title, link } }: { decision: Decision }) {
  const t = useDashboardText();
  const client = useQueryClient();
  const { message } = App.useApp();
  const endpointId = link.slice(link.lastIndexOf("/") + 1);
  const decide = useMutation({
    mutationFn: (verdict: "approve" | "decline") =>
      send("POST", `/v1/endpoints/${encodeURIComponent(endpointId)}/retraining/${encodeURIComponent(id)}/${verdict}`),
    onSuccess: (_answer, verdict) => {
      void message.success(t(verdict === "approve" ? "decisions.approved" : "decisions.declined", { name: title }));
      return client.invalidateQueries({ queryKey: keys.overview });
    },
  });
  const running = decide.isPending ? decide.variables : null;
  return (
    <div className="sk-row">
      <Button
        type="primary"
        size="small"
        aria-label={t("decisions.approveWhat", { name: title })}
        loading={running === "approve"}
        disabled={running !== null}
        onClick={() => decide.mutate("approve")}
      >
        {t("decisions.approve")}
      </Button>
      <Button
        size="small"
        aria-label={t("decisions.declineWhat", { name: title })}
        loading={running === "decline"}
        disabled={running !== null}
        onClick={() => decide.mutate("decline")}
      >
        {t("decisions.decline")}
      </Button>
      <ErrorLine error={decide.error} />
    </div>
  );
}
