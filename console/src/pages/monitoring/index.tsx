import { EmptyState } from "../../components/EmptyState";
import { Page } from "../../components/Page";
import { useMonitoringText } from "./text";

export default function MonitoringPage() {
  const t = useMonitoringText();
  return (
    <Page title={t("title")} lead={t("lead")}>
      <EmptyState title={t("empty.title")} detail={t("empty.detail")} />
    </Page>
  );
}
