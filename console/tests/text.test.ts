import { describe, expect, it } from "vitest";

import { bytes, durationParts, money, timeAgo } from "../src/i18n/figures";
import { format } from "../src/i18n/text";

describe("words with values in them", () => {
  it("take the form of their number", () => {
    expect(format("{count|# job|# jobs} on {where}", { count: 1, where: "spot" }, "en")).toBe("1 job on spot");
    expect(format("{count|# job|# jobs}", { count: 1200 }, "en")).toBe("1,200 jobs");
    expect(format("작업 {count}개", { count: 3 }, "ko")).toBe("작업 3개");
  });

  it("show which value is missing", () => {
    expect(format("in {where}", {}, "en")).toBe("in {where}");
  });
});

describe("figures", () => {
  it("keep what makes a small sum more than zero", () => {
    expect([0, 0.0042, 0.25, 1.2, 1234.5].map((usd) => money(usd, "en"))).toEqual(["$0.00", "$0.0042", "$0.25", "$1.20", "$1,235"]);
    expect(money(-0.5, "en")).toBe("-$0.50");
  });

  it("name the two largest parts of a duration", () => {
    expect(durationParts(90_061)).toEqual([{ part: "days", count: 1 }, { part: "hours", count: 1 }]);
    expect(durationParts(59.7)).toEqual([{ part: "minutes", count: 1 }]);
    expect(durationParts(0)).toEqual([{ part: "seconds", count: 0 }]);
    expect(durationParts(86_460)).toEqual([{ part: "days", count: 1 }]);
  });

  it("tell how long ago", () => {
    const now = new Date("2026-11-29T12:00:00Z");
    expect(timeAgo(new Date("2026-11-29T11:57:00Z"), now, "en")).toBe("3 minutes ago");
    expect(timeAgo(new Date("2026-11-30T12:00:00Z"), now, "ko")).toBe("내일");
  });

  it("tell sizes in powers of a thousand", () => {
    expect([0, 999, 1_500, 2.5e9].map((count) => bytes(count, "en"))).toEqual(["0 B", "999 B", "1.5 KB", "2.5 GB"]);
  });
});
