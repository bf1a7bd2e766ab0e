import type { Translation } from "../../i18n/text";
import type en from "../en/data";

export default {
  title: "데이터",
  lead: "데이터셋과 버전, 출처를 관리합니다.",
  "empty.title": "아직 데이터셋이 없습니다",
  "empty.detail": "JSON Lines, CSV, Parquet 또는 이미지 zip 파일을 올릴 수 있습니다. 올릴 때 모든 행을 검사합니다.",
} satisfies Translation<typeof en>;
