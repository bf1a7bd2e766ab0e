import { useParams } from "react-router";

import { Page } from "../../components/Page";
import { useJobsText } from "./text";

export default function JobPage() {
  const t = useJobsText();
  const { jobId = "" } = useParams();
  return <Page title={jobId} documentTitle={`${t("one")} ${jobId}`} breadcrumbs={[{ title: t("title"), to: "/jobs" }]} />;
}
