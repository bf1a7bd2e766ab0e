import type { Translation } from "../../i18n/text";
import type en from "../en/costs";

export default {
  title: "비용",
  lead: "지불한 금액과 온디맨드 대비 절감액, 예산을 관리합니다.",
  "empty.title": "아직 발생한 비용이 없습니다",
  "empty.detail": "작업 영수증과 엔드포인트 비용이 여기에 표시됩니다.",
} satisfies Translation<typeof en>;
