import { textOf } from "../../i18n/useText";
import en from "../../locales/en/endpoints";
import ko from "../../locales/ko/endpoints";

export const useEndpointsText = textOf(en, ko);
