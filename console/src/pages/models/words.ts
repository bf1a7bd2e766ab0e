import { useMemo } from "react";

import { usePreferences } from "../../app/preferences";
import { useDuration } from "../../components/Figures";
import { bytes, compact, dateTime, money, number, percent } from "../../i18n/figures";
import en from "../../locales/en/models";
import type { Words } from "./card";
import { useModelsText } from "./text";

/** How the language writes what stands on this page. */
export function useWords(): Words {
  const t = useModelsText();
  const { locale } = usePreferences();
  const duration = useDuration();
  return useMemo(
    () => ({
      t,
      task: (task) => (`task.${task}` in en ? t(`task.${task}` as keyof typeof en) : task),
      money: (usd) => money(usd, locale),
      percent: (fraction) => percent(fraction, locale),
      number: (value) => number(value, locale),
      compact: (value) => compact(value, locale),
      bytes: (count) => bytes(count, locale),
      duration,
      dateTime: (at) => dateTime(new Date(at), locale),
    }),
    [t, locale, duration],
  );
}
