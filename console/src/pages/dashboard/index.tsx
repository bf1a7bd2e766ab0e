import { EmptyState } from "../../components/EmptyState";
import { Page } from "../../components/Page";
import { useDashboardText } from "./text";

export default function DashboardPage() {
  const t = useDashboardText();
  return (
    <Page title={t("title")} lead={t("lead")}>
      <EmptyState title={t("empty.title")} detail={t("empty.detail")} />
    </Page>
  );
}
