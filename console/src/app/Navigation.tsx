import { NavLink } from "react-router";

import { Icon } from "../components/icons";
import { useCommonText } from "./text";

const GROUPS = [
  [{ name: "dashboard", to: "/" }],
  [
    { name: "data", to: "/data" },
    { name: "models", to: "/models" },
    { name: "train", to: "/train" },
    { name: "jobs", to: "/jobs" },
  ],
  [
    { name: "endpoints", to: "/endpoints" },
    { name: "monitoring", to: "/monitoring" },
  ],
  [
    { name: "costs", to: "/costs" },
    { name: "settings", to: "/settings" },
  ],
] as const;

export function Navigation({ onGo }: { onGo?: () => void }) {
  const t = useCommonText();
  return (
    <nav className="sk-nav" aria-label={t("nav.label")}>
      {GROUPS.map((group) => (
        <ul key={group[0].name} role="list">
          {group.map(({ name, to }) => (
            <li key={name}>
              <NavLink to={to} end={to === "/"} {...(onGo && { onClick: onGo })}>
                <Icon name={name} />
                {t(`nav.${name}`)}
              </NavLink>
            </li>
          ))}
        </ul>
      ))}
    </nav>
  );
}
