import type { Translation } from "../../i18n/text";
import type en from "../en/jobs";

export default {
  title: "작업",
  one: "작업",
  lead: "진행 중이거나 끝난 학습 작업입니다.",
  "empty.title": "아직 작업이 없습니다",
  "empty.detail": "작업을 시작하면 바로 여기에 표시됩니다.",
} satisfies Translation<typeof en>;
