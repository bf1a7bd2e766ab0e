import type { Translation } from "../../i18n/text";
import type en from "../en/notfound";

export default {
  title: "페이지를 찾을 수 없습니다",
  detail: "{path}에는 아무것도 없습니다.",
  home: "대시보드로",
} satisfies Translation<typeof en>;
