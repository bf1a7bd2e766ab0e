import { Dropdown, type MenuProps } from "antd";
import type { ReactNode } from "react";

import type { Session } from "../api/documents";
import { useSignOut, useSwitchTenant } from "../api/session";
import { useStreamState } from "../api/useEvents";
import { Icon, type IconName } from "../components/icons";
import { type ThemeChoice, usePreferences } from "./preferences";
import { useCommonText } from "./text";

interface HeaderMenuProps {
  label: string;
  items: NonNullable<MenuProps["items"]>;
  selected?: string;
  className?: string;
  placement?: "bottomLeft" | "bottomRight";
  onChoose: (key: string) => void;
  children: ReactNode;
}

function HeaderMenu({ label, items, selected, className = "sk-icon-button", placement = "bottomRight", onChoose, children }: HeaderMenuProps) {
  const menu: MenuProps = { items, onClick: ({ key }) => onChoose(key), selectable: selected !== undefined };
  if (selected !== undefined) menu.selectedKeys = [selected];
  return (
    // eslint-disable-next-line jsx-a11y/no-autofocus -- a menu that was opened by the keyboard goes on with it
    <Dropdown menu={menu} trigger={["click"]} placement={placement} autoFocus>
      <button type="button" className={className} aria-label={label} title={label} aria-haspopup="menu">
        {children}
      </button>
    </Dropdown>
  );
}

export function LanguageMenu() {
  const t = useCommonText();
  const { locale, setLocale } = usePreferences();
  const items = [
    { key: "en", label: <span lang="en">English</span> },
    { key: "ko", label: <span lang="ko">한국어</span> },
  ];
  return (
    <HeaderMenu label={t("layout.language")} items={items} selected={locale} onChoose={(key) => setLocale(key === "ko" ? "ko" : "en")}>
      <Icon name="globe" />
    </HeaderMenu>
  );
}

const THEME_ICONS: [ThemeChoice, IconName][] = [
  ["light", "sun"],
  ["dark", "moon"],
  ["system", "system"],
];

export function ThemeMenu() {
  const t = useCommonText();
  const { theme, themeChoice, setThemeChoice } = usePreferences();
  const items = THEME_ICONS.map(([key, icon]) => ({ key, label: t(`layout.theme.${key}`), icon: <Icon name={icon} size={16} /> }));
  return (
    <HeaderMenu label={t("layout.theme")} items={items} selected={themeChoice} onChoose={(key) => setThemeChoice(key as ThemeChoice)}>
      <Icon name={theme === "dark" ? "moon" : "sun"} />
    </HeaderMenu>
  );
}

export function ProjectMenu({ session }: { session: Session }) {
  const t = useCommonText();
  const switchTenant = useSwitchTenant();
  const name = session.tenant?.name ?? t("layout.noProject");
  if (session.tenants.length < 2) {
    return (
      <span className="sk-project" title={t("layout.project")}>
        {name}
      </span>
    );
  }
  const items = session.tenants.map((tenant) => ({
    key: tenant.id,
    label: (
      <span className="sk-project-item">
        {tenant.name} <small>{t(`role.${tenant.role}`)}</small>
      </span>
    ),
  }));
  const choose = (id: string) => {
    if (id !== session.tenant?.id) switchTenant.mutate(id);
  };
  return (
    <HeaderMenu
      label={`${t("layout.project")}: ${name}`}
      items={items}
      selected={session.tenant?.id ?? ""}
      className="sk-project sk-project-button"
      placement="bottomLeft"
      onChoose={choose}
    >
      <span>{name}</span>
      <Icon name="chevron" size={16} />
    </HeaderMenu>
  );
}

export function UserMenu({ session }: { session: Session }) {
  const t = useCommonText();
  const signOut = useSignOut();
  const { user, operator, role } = session;
  const who = user?.name || user?.email || t("layout.apiKey");
  const items: MenuProps["items"] = [
    {
      key: "who",
      type: "group",
      label: (
        <span className="sk-who">
          <strong>{who}</strong>
          {user !== null && user.name !== "" && <span>{user.email}</span>}
          <span>{t(operator ? "layout.operator" : `role.${role}`)}</span>
        </span>
      ),
    },
    { type: "divider" },
    { key: "out", label: t("layout.signOut") },
  ];
  return (
    <HeaderMenu label={`${t("layout.account")}: ${who}`} items={items} onChoose={() => signOut.mutate()}>
      <Icon name="user" />
    </HeaderMenu>
  );
}

/** Whether what is shown changes by itself at the moment. */
export function StreamSign() {
  const t = useCommonText();
  const state = useStreamState();
  return (
    <span className="sk-stream" data-state={state} role="status">
      <span className="sk-stream-dot" aria-hidden="true" />
      <span className="sk-stream-word">{t(`stream.${state}`)}</span>
    </span>
  );
}
