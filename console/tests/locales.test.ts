import { describe, expect, it } from "vitest";

import { placeholders } from "../src/i18n/text";

type Words = Record<string, { default: Record<string, string> }>;
const english = import.meta.glob("../src/locales/en/*.ts", { eager: true }) as Words;
const korean = import.meta.glob("../src/locales/ko/*.ts", { eager: true }) as Words;
const files = Object.keys(english).map((path) => path.replace("../src/locales/en/", ""));

describe("Korean says all that English says", () => {
  it("in the same files", () => {
    expect(Object.keys(korean).map((path) => path.replace("../src/locales/ko/", ""))).toEqual(files);
  });

  it.each(files)("%s has the same keys and the same values in them", (file) => {
    const en = english[`../src/locales/en/${file}`]?.default ?? {};
    const ko = korean[`../src/locales/ko/${file}`]?.default ?? {};
    expect(Object.keys(ko).sort()).toEqual(Object.keys(en).sort());
    for (const [key, template] of Object.entries(en)) {
      expect([key, placeholders(ko[key] ?? "")]).toEqual([key, placeholders(template)]);
      expect(ko[key]?.trim(), key).not.toBe("");
    }
  });
});
