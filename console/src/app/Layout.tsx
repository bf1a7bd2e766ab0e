import { Drawer } from "antd";
import { useEffect, useRef, useState } from "react";
import { Link, Outlet, useLocation, useNavigation } from "react-router";

import type { Session } from "../api/documents";
import { Icon } from "../components/icons";
import { Mark } from "../components/Mark";
import { LanguageMenu, ProjectMenu, StreamSign, ThemeMenu, UserMenu } from "./HeaderMenus";
import { Navigation } from "./Navigation";
import { useCommonText } from "./text";

/** Side navigation, header, and the page; on narrow screens the navigation is a drawer. */
export function Layout({ session }: { session: Session }) {
  const t = useCommonText();
  const [drawerIsOpen, setDrawerIsOpen] = useState(false);
  const main = useFocusOnNewPage();
  const isLoading = useNavigation().state === "loading";

  return (
    <div className="sk-layout">
      <a className="sk-skip" href="#main">
        {t("layout.skip")}
      </a>
      <aside className="sk-side">
        <Brand />
        <Navigation />
        <p className="sk-side-foot">
          <a href="/docs" target="_blank" rel="noreferrer">
            {t("layout.docs")} <Icon name="external" size={14} />
          </a>
        </p>
      </aside>
      <header className="sk-header">
        <button type="button" className="sk-icon-button sk-menu-button" aria-label={t("layout.openNav")} onClick={() => setDrawerIsOpen(true)}>
          <Icon name="menu" size={20} />
        </button>
        <ProjectMenu session={session} />
        <div className="sk-header-end">
          <StreamSign />
          <LanguageMenu />
          <ThemeMenu />
          <UserMenu session={session} />
        </div>
      </header>
      {isLoading && <div className="sk-progress" aria-hidden="true" />}
      <main id="main" ref={main} className="sk-main" tabIndex={-1}>
        <Outlet />
      </main>
      <Drawer
        open={drawerIsOpen}
        onClose={() => setDrawerIsOpen(false)}
        placement="left"
        size={264}
        title={<Brand />}
        closable={{ "aria-label": t("layout.closeNav") }}
        rootClassName="sk-drawer"
        aria-label={t("nav.label")}
      >
        <Navigation onGo={() => setDrawerIsOpen(false)} />
      </Drawer>
    </div>
  );
}

function Brand() {
  const t = useCommonText();
  return (
    <Link to="/" className="sk-brand" aria-label={t("layout.home")}>
      <Mark />
      <span>SSKAI</span>
    </Link>
  );
}

/** After a change of page the keyboard goes on at its beginning, and screen readers read its heading. */
function useFocusOnNewPage() {
  const main = useRef<HTMLElement>(null);
  const { pathname } = useLocation();
  const shown = useRef(pathname);
  useEffect(() => {
    if (shown.current === pathname) return;
    shown.current = pathname;
    main.current?.focus({ preventScroll: true });
    window.scrollTo(0, 0);
  }, [pathname]);
  return main;
}
