import { textOf } from "../../i18n/useText";
import en from "../../locales/en/train";
import ko from "../../locales/ko/train";

export const useTrainText = textOf(en, ko);
