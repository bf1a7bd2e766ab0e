import { EmptyState } from "../../components/EmptyState";
import { Page } from "../../components/Page";
import { useJobsText } from "./text";

export default function JobsPage() {
  const t = useJobsText();
  return (
    <Page title={t("title")} lead={t("lead")}>
      <EmptyState title={t("empty.title")} detail={t("empty.detail")} />
    </Page>
  );
}
