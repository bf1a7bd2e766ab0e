import type { Translation } from "../../i18n/text";
import type en from "../en/models";

export default {
  title: "모델",
  lead: "기반 모델과 직접 올린 모델, 학습된 버전을 관리합니다.",
  "empty.title": "아직 등록한 모델이 없습니다",
  "empty.detail": "기반 모델을 미세 조정하거나 가중치를 직접 올려 보세요.",
} satisfies Translation<typeof en>;
