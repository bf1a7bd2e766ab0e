import { textOf } from "../../i18n/useText";
import en from "../../locales/en/jobs";
import ko from "../../locales/ko/jobs";

export const useJobsText = textOf(en, ko);
