import { EmptyState } from "../../components/EmptyState";
import { Page } from "../../components/Page";
import { useEndpointsText } from "./text";

export default function EndpointsPage() {
  const t = useEndpointsText();
  return (
    <Page title={t("title")} lead={t("lead")}>
      <EmptyState title={t("empty.title")} detail={t("empty.detail")} />
    </Page>
  );
}
