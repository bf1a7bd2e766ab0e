import "./style.css";

import { NavLink, Outlet, useLocation } from "react-router";

import { Page } from "../../components/Page";
import { useSettingsText } from "./text";

const PARTS = ["project", "keys", "members", "webhooks", "limits", "audit", "about"] as const;

/** The parts of the settings beside each other, and the one that is gone to. */
export default function SettingsPage() {
  const t = useSettingsText();
  const { pathname } = useLocation();
  const shown = PARTS.find((part) => pathname.startsWith(`/settings/${part}`));
  return (
    <Page title={t("title")} {...(shown === undefined ? {} : { documentTitle: `${t(`part.${shown}`)} · ${t("title")}` })} lead={t("lead")}>
      <div className="sk-settings">
        <nav className="sk-settings-nav" aria-label={t("title")}>
          <ul>
            {PARTS.map((part) => (
              <li key={part}>
                <NavLink to={part === "project" ? "/settings" : `/settings/${part}`} end={part === "project"}>
                  {t(`part.${part}`)}
                </NavLink>
              </li>
            ))}
          </ul>
        </nav>
        <div className="sk-settings-part">
          <Outlet />
        </div>
      </div>
    </Page>
  );
}
