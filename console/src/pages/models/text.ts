import { textOf } from "../../i18n/useText";
import en from "../../locales/en/models";
import ko from "../../locales/ko/models";

export const useModelsText = textOf(en, ko);
