import type { Translation } from "../../i18n/text";
import type en from "../en/settings";

export default {
  title: "설정",
  lead: "이 프로젝트의 키, 구성원, 웹훅, 한도를 관리합니다.",
  "empty.title": "아직 설정할 항목이 없습니다",
  "empty.detail": "키, 구성원, 웹훅, 한도를 이 페이지에서 관리합니다.",
} satisfies Translation<typeof en>;
