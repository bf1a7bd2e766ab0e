import type { Translation } from "../../i18n/text";
import type en from "../en/monitoring";

export default {
  title: "모니터링",
  lead: "드리프트와 목표, 재학습 현황을 살펴봅니다.",
  "empty.title": "아직 지켜볼 대상이 없습니다",
  "empty.detail": "엔드포인트는 첫 요청부터 모니터링됩니다.",
} satisfies Translation<typeof en>;
