import type { Translation } from "../../i18n/text";
import type en from "../en/dashboard";

export default {
  title: "대시보드",
  lead: "실행 중인 작업과 비용, 결정이 필요한 일을 보여 줍니다.",
  "empty.title": "아직 실행한 작업이 없습니다",
  "empty.detail": "데이터셋을 올리고 첫 모델을 학습하면 비용과 절감액, 진행 상황이 여기에 표시됩니다.",
} satisfies Translation<typeof en>;
