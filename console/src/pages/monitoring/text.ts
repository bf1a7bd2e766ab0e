import { textOf } from "../../i18n/useText";
import en from "../../locales/en/monitoring";
import ko from "../../locales/ko/monitoring";

export const useMonitoringText = textOf(en, ko);
