import { textOf } from "../i18n/useText";
import en from "../locales/en/common";
import ko from "../locales/ko/common";

/** Words that are everywhere: the layout's, states, durations, charts. */
export const useCommonText = textOf(en, ko);
