import { textOf } from "../../i18n/useText";
import en from "../../locales/en/dashboard";
import ko from "../../locales/ko/dashboard";

export const useDashboardText = textOf(en, ko);
