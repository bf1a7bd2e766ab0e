import { EmptyState } from "../../components/EmptyState";
import { Page } from "../../components/Page";
import { useTrainText } from "./text";

export default function TrainPage() {
  const t = useTrainText();
  return (
    <Page title={t("title")} lead={t("lead")}>
      <EmptyState title={t("empty.title")} detail={t("empty.detail")} />
    </Page>
  );
}
