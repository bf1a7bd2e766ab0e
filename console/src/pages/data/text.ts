import { textOf } from "../../i18n/useText";
import en from "../../locales/en/data";
import ko from "../../locales/ko/data";

export const useDataText = textOf(en, ko);
