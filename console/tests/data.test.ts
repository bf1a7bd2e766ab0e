import { describe, expect, it } from "vitest";

import { filled } from "../src/components/days";
import { months, queryOf, spanOf } from "../src/pages/costs/spans";
import { characterIn, NAME_PATTERN, nameOf, rowsAround, valueAt } from "../src/pages/data/offendingRow";

describe("the row that was refused", () => {
  it("is read with its neighbours from JSON Lines", async () => {
    const file = new Blob(['{"a":1}\n{"a":2}\n{"a":3}\n{"a":4}']);
    expect(await rowsAround(file, "x.jsonl", 4)).toEqual([
      { row: 3, text: '{"a":3}', isCut: false },
      { row: 4, text: '{"a":4}', isCut: false },
    ]);
    expect((await rowsAround(file, "x.jsonl", 1)).map((one) => one.row)).toEqual([1, 2]);
    expect(await rowsAround(file, "x.parquet", 1)).toEqual([]);
    expect(await rowsAround(file, "x.jsonl", 0)).toEqual([]);
  });

  it("of a CSV file counts from the line after the first, and may hold line ends", async () => {
    const file = new Blob(['prompt,completion\r\n"two\nlines",b\r\nc,\r\nd,e\r\n']);
    expect(await rowsAround(file, "x.CSV", 2)).toEqual([
      { row: 1, text: '"two\nlines",b', isCut: false },
      { row: 2, text: "c,", isCut: false },
      { row: 3, text: "d,e", isCut: false },
    ]);
  });

  it("has the value that the refusal is about", () => {
    expect(valueAt('{"messages":[{},{"content":""}]}', "messages[1].content")).toBe("");
    expect(valueAt("{", "messages")).toBeUndefined();
    expect(characterIn("not JSON at character 18: Expecting value")).toBe(17);
    expect(characterIn("is empty")).toBeNull();
  });

  it("names a dataset after its file", () => {
    expect(["My FAQ.jsonl", "...csv", "a.b.parquet"].map(nameOf)).toEqual(["my-faq", "file", "a.b"]);
    expect(["a", "a.b-c_1"].every((name) => NAME_PATTERN.test(name))).toBe(true);
    expect(["", "A", "-a", "a."].some((name) => NAME_PATTERN.test(name))).toBe(false);
  });
});

describe("days of the ledger", () => {
  it("are all there, in UTC", () => {
    const cost = { day: "2026-11-30", paid_usd: 1, on_demand_usd: 2 };
    expect(filled([cost], "2026-11-29", "2026-12-01").map(({ day, paid_usd }) => [day, paid_usd])).toEqual([
      ["2026-11-29", 0],
      ["2026-11-30", 1],
      ["2026-12-01", 0],
    ]);
  });

  it("make spans and months", () => {
    const now = new Date("2026-01-15T12:00:00Z");
    expect(spanOf("last", now)).toEqual({ first: "2025-12-01", last: "2025-12-31" });
    expect(spanOf("days30", now)).toEqual({ first: "2025-12-17", last: "2026-01-15" });
    expect(queryOf(spanOf("month", now))).toEqual({ since: "2026-01-01T00:00:00Z", until: "2026-01-15T23:59:59Z" });
    expect(months(now, 2).map(({ name, until }) => [name, until.slice(0, 10)])).toEqual([
      ["2026-01", "2026-02-01"],
      ["2025-12", "2026-01-01"],
    ]);
  });
});
