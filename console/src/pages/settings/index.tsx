import { EmptyState } from "../../components/EmptyState";
import { Page } from "../../components/Page";
import { useSettingsText } from "./text";

export default function SettingsPage() {
  const t = useSettingsText();
  return (
    <Page title={t("title")} lead={t("lead")}>
      <EmptyState title={t("empty.title")} detail={t("empty.detail")} />
    </Page>
  );
}
