import { describe, expect, it } from "vitest";

import { problemOfText } from "../src/api/problem";
import { insideAddress } from "../src/pages/signin/next";

describe("a refusal", () => {
  it("keeps the gateway's words and the field", () => {
    const body = '{"type": "about:blank", "title": "Unknown model", "status": 422, "detail": "model.base: no", "field": "model.base"}';
    const problem = problemOfText(422, "", body);
    expect([problem.title, problem.detail, problem.field]).toEqual(["Unknown model", "model.base: no", "model.base"]);
    expect(problem.isPassing).toBe(false);
  });

  it("is read where models answer, and where no problem document comes", () => {
    expect(problemOfText(503, "", '{"error": {"message": "Not ready"}}').detail).toBe("Not ready");
    const proxy = problemOfText(502, "Bad Gateway", "<html>");
    expect([proxy.title, proxy.detail, proxy.isPassing]).toEqual(["Bad Gateway", "", true]);
    expect(problemOfText(500, "", "null").title).toBe("HTTP 500");
  });
});

describe("where to go after signing in", () => {
  it("is a page of this console", () => {
    expect(insideAddress("/jobs/job_1?tab=logs")).toBe("/jobs/job_1?tab=logs");
    for (const next of [null, "", "https://x.example", "//x.example", "/\\x.example", "javascript:alert(1)", "/signin?next=/"]) {
      expect(insideAddress(next)).toBe("/");
    }
  });
});
