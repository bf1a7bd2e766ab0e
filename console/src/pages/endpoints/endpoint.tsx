import { useParams } from "react-router";

import { Page } from "../../components/Page";
import { useEndpointsText } from "./text";

export default function EndpointPage() {
  const t = useEndpointsText();
  const { endpointId = "" } = useParams();
  return <Page title={endpointId} documentTitle={`${t("one")} ${endpointId}`} breadcrumbs={[{ title: t("title"), to: "/endpoints" }]} />;
}
