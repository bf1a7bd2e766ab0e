import type { Translation } from "../../i18n/text";
import type en from "../en/train";

export default {
  title: "학습",
  lead: "데이터 선택부터 가격이 정해진 계획까지, 비용을 쓰기 전에 확인합니다.",
  "empty.title": "먼저 데이터셋을 선택하세요",
  "empty.detail": "데이터셋을 고른 다음 모델과 방법, 목표를 정합니다.",
} satisfies Translation<typeof en>;
