import { EmptyState } from "../../components/EmptyState";
import { Page } from "../../components/Page";
import { useDataText } from "./text";

export default function DataPage() {
  const t = useDataText();
  return (
    <Page title={t("title")} lead={t("lead")}>
      <EmptyState title={t("empty.title")} detail={t("empty.detail")} />
    </Page>
  );
}
