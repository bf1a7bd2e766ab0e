import { EmptyState } from "../../components/EmptyState";
import { Page } from "../../components/Page";
import { useCostsText } from "./text";

export default function CostsPage() {
  const t = useCostsText();
  return (
    <Page title={t("title")} lead={t("lead")}>
      <EmptyState title={t("empty.title")} detail={t("empty.detail")} />
    </Page>
  );
}
