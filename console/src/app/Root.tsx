import { App, ConfigProvider } from "antd";
import enUS from "antd/locale/en_US";
import koKR from "antd/locale/ko_KR";
import { useMemo } from "react";
import { Outlet } from "react-router";

import { usePreferences } from "./preferences";
import { antdTheme } from "./theme";

/** antd in our colours and the user's language. */
export function Root() {
  const { locale, theme, motion } = usePreferences();
  const config = useMemo(() => antdTheme(theme, motion), [theme, motion]);
  return (
    <ConfigProvider theme={config} locale={locale === "ko" ? koKR : enUS} wave={{ disabled: true }}>
      <App component={false}>
        <Outlet />
      </App>
    </ConfigProvider>
  );
}
