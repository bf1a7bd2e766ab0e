import { textOf } from "../../i18n/useText";
import en from "../../locales/en/costs";
import ko from "../../locales/ko/costs";

export const useCostsText = textOf(en, ko);
