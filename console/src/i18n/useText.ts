import { useCallback } from "react";

import { usePreferences } from "../app/preferences";
import { format, type Translation, type Values } from "./text";

/** `const useText = textOf(en, ko)` in a page; in its components `const t = useText(); t("title", {count: 3})`. */
export function textOf<English extends Record<string, string>>(en: English, ko: Translation<English>) {
  return function useText(): (key: keyof English & string, values?: Values) => string {
    const { locale } = usePreferences();
    return useCallback(
      (key, values = {}) => format((locale === "ko" ? ko : en)[key] ?? key, values, locale),
      [locale],
    );
  };
}
