import { textOf } from "../../i18n/useText";
import en from "../../locales/en/settings";
import ko from "../../locales/ko/settings";

export const useSettingsText = textOf(en, ko);
