import { Link, useLocation } from "react-router";

import { EmptyState } from "../../components/EmptyState";
import { Page } from "../../components/Page";
import { textOf } from "../../i18n/useText";
import en from "../../locales/en/notfound";
import ko from "../../locales/ko/notfound";

const useText = textOf(en, ko);

export default function NotFoundPage() {
  const t = useText();
  const { pathname } = useLocation();
  return (
    <Page title={t("title")}>
      <EmptyState title={t("detail", { path: pathname })} action={<Link to="/">{t("home")}</Link>} />
    </Page>
  );
}
