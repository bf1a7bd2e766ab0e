import { usePreferences } from "../../app/preferences";
import { number } from "../../i18n/figures";
import en from "../../locales/en/data";
import { useDataText } from "./text";

/** Whole numbers as the language writes them. */
export function useCount(): (count: number) => string {
  const { locale } = usePreferences();
  return (count) => number(count, locale, 21);
}

/** A format in words; one that is not known here as it is called. */
export function useFormatName(): (format: string) => string {
  const t = useDataText();
  return (format) => {
    const key = `format.${format}`;
    return key in en ? t(key as keyof typeof en) : format;
  };
}
