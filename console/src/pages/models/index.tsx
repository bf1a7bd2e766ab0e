import { EmptyState } from "../../components/EmptyState";
import { Page } from "../../components/Page";
import { useModelsText } from "./text";

export default function ModelsPage() {
  const t = useModelsText();
  return (
    <Page title={t("title")} lead={t("lead")}>
      <EmptyState title={t("empty.title")} detail={t("empty.detail")} />
    </Page>
  );
}
