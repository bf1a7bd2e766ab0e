import { createContext, type ReactNode, useCallback, useContext, useEffect, useMemo, useState, useSyncExternalStore } from "react";

import { type Locale, LOCALES } from "../i18n/text";
import type { ThemeName } from "./palette";
import { applyPalette } from "./theme";

export type ThemeChoice = ThemeName | "system";

interface Preferences {
  locale: Locale;
  setLocale: (locale: Locale) => void;
  themeChoice: ThemeChoice;
  setThemeChoice: (choice: ThemeChoice) => void;
  /** What the choice means now. */
  theme: ThemeName;
  /** Whether things may move. */
  motion: boolean;
}

const Context = createContext<Preferences | null>(null);

/** Language and theme: kept in this browser only. */
export function PreferencesProvider({ children }: { children: ReactNode }) {
  const [locale, setLocale] = useStored("sskai.locale", LOCALES, browserLocale());
  const [themeChoice, setThemeChoice] = useStored<ThemeChoice>("sskai.theme", ["light", "dark", "system"], "system");
  const systemIsDark = useMedia("(prefers-color-scheme: dark)");
  const motion = !useMedia("(prefers-reduced-motion: reduce)");
  const theme = themeChoice === "system" ? (systemIsDark ? "dark" : "light") : themeChoice;

  useEffect(() => {
    document.documentElement.lang = locale;
  }, [locale]);
  useEffect(() => applyPalette(theme), [theme]);

  const value = useMemo(
    () => ({ locale, setLocale, themeChoice, setThemeChoice, theme, motion }),
    [locale, setLocale, themeChoice, setThemeChoice, theme, motion],
  );
  return <Context value={value}>{children}</Context>;
}

export function usePreferences(): Preferences {
  const preferences = useContext(Context);
  if (preferences === null) throw new Error("usePreferences outside of PreferencesProvider");
  return preferences;
}

function browserLocale(): Locale {
  return navigator.language.toLowerCase().startsWith("ko") ? "ko" : "en";
}

function useMedia(query: string): boolean {
  const watch = useCallback(
    (changed: () => void) => {
      const media = window.matchMedia(query);
      media.addEventListener("change", changed);
      return () => media.removeEventListener("change", changed);
    },
    [query],
  );
  return useSyncExternalStore(watch, () => window.matchMedia(query).matches);
}

function useStored<T extends string>(key: string, allowed: readonly T[], fallback: T): [T, (value: T) => void] {
  const [value, setValue] = useState<T>(() => {
    const stored = readStorage(key) as T | null;
    return stored !== null && allowed.includes(stored) ? stored : fallback;
  });
  const set = useCallback(
    (next: T) => {
      setValue(next);
      try {
        localStorage.setItem(key, next);
      } catch {
        // Storage may be forbidden or full: the choice lasts as long as the page.
      }
    },
    [key],
  );
  return [value, set];
}

function readStorage(key: string): string | null {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}
