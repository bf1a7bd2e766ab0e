import type { Translation } from "../../i18n/text";
import type en from "../en/signin";

export default {
  title: "로그인",
  lead: "가장 저렴한 스팟 자원으로 미세 조정하고, 자원이 회수되어도 아무것도 잃지 않습니다.",
  "point.plan": "비용을 쓰기 전에 모든 머신과 가격을 비교합니다",
  "point.spot": "중단된 작업은 마지막으로 검증된 체크포인트에서 이어집니다",
  "point.receipt": "작업마다 실제 비용과 온디맨드 비용을 비교한 영수증을 제공합니다",
  key: "API 키",
  keyHint: "sskai_로 시작합니다. ‘sskai up’ 명령이 출력하거나 프로젝트 관리자가 발급합니다.",
  keyMissing: "API 키를 입력하세요.",
  keyWrong: "유효하지 않은 키입니다. 폐기되었거나 만료되었을 수 있습니다.",
  submit: "로그인",
  or: "또는",
  oidc: "{name}(으)로 계속하기",
  linkSigningIn: "링크로 로그인하는 중",
  linkFailed: "이 링크는 사용할 수 없습니다",
  linkFailedDetail: "링크는 5분 안에 한 번만 사용할 수 있습니다. ‘sskai console’로 새 링크를 받거나 키로 로그인하세요.",
  problem: "로그인하지 못했습니다",
} satisfies Translation<typeof en>;
