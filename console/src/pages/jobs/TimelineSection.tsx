import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Button } from "antd";
import { useRef, useState } from "react";

import { send } from "../../api/client";
import { EVENT_TYPES } from "../../api/event-types";
import { useEvents, useRefreshOn } from "../../api/useEvents";
import { useCommonText } from "../../app/text";
import { Section } from "../../components/Page";
import { QueryState } from "../../components/QueryState";
import type { Job, Timeline } from "./documents";
import { useJobsText } from "./text";
import { TimelineChart } from "./TimelineChart";
import { TimelineTable } from "./TimelineTable";

/** Progress moves only the newest bar: often enough. */
const MOVES_EVERY_MS = 5_000;
const TELLING = EVENT_TYPES.filter((type) => type !== "AttemptProgressed" && type !== "SpendRecorded");

/** The attempts in time, with what the market asked for. */
export function TimelineSection({ job }: { job: Job }) {
  const t = useJobsText();
  const common = useCommonText();
  const client = useQueryClient();
  const [asTable, setAsTable] = useState(false);
  const moved = useRef(0);
  const key = ["timelines", job.id];
  const timeline = useQuery({ queryKey: key, queryFn: ({ signal }) => send<Timeline>("GET", `/v1/jobs/${job.id}/timeline`, { signal }) });
  useRefreshOn({ types: TELLING, subject: job.id }, key);
  useEvents({ types: ["AttemptProgressed"], subject: job.id }, () => {
    if (Date.now() - moved.current < MOVES_EVERY_MS) return;
    moved.current = Date.now();
    void client.invalidateQueries({ queryKey: key });
  });
  return (
    <Section
      title={t("timeline.title")}
      actions={
        <Button type="link" size="small" onClick={() => setAsTable(!asTable)}>
          {common(asTable ? "chart.showChart" : "chart.showTable")}
        </Button>
      }
    >
      <QueryState query={timeline} rows={3}>
        {(data) => (asTable ? <TimelineTable timeline={data} /> : <TimelineChart timeline={data} />)}
      </QueryState>
    </Section>
  );
}
