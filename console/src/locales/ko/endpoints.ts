import type { Translation } from "../../i18n/text";
import type en from "../en/endpoints";

export default {
  title: "엔드포인트",
  one: "엔드포인트",
  lead: "서비스 중인 모델과 그 상태입니다.",
  "empty.title": "아직 엔드포인트가 없습니다",
  "empty.detail": "모델 버전을 배포하면 HTTP나 플레이그라운드에서 사용할 수 있습니다.",
} satisfies Translation<typeof en>;
