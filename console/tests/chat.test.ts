import { describe, expect, it } from "vitest";

import { linesOf, pieceOf } from "../src/pages/endpoints/playground/chat";

async function* parts(...texts: string[]) {
  for (const text of texts) yield new TextEncoder().encode(text);
}

describe("a chat's answer", () => {
  it("is read in whole lines, however its bytes are cut", async () => {
    const bytes = new TextEncoder().encode("data: 한국어\r\n\ndata: [DONE]");
    async function* cut() {
      for (const byte of bytes) yield Uint8Array.of(byte);
    }
    const lines = [];
    for await (const line of linesOf(cut())) lines.push(line);
    expect(lines).toEqual(["data: 한국어", "", "data: [DONE]"]);
  });

  it("tells text, its end, and what it took", async () => {
    const chunks = [
      { id: "chatcmpl_1", choices: [{ delta: { role: "assistant", content: "" }, finish_reason: null }] },
      { id: "chatcmpl_1", choices: [{ delta: { content: "Hi" }, finish_reason: null }] },
      { id: "chatcmpl_1", choices: [{ delta: {}, finish_reason: "length" }] },
      { id: "chatcmpl_1", choices: [], usage: { prompt_tokens: 3, completion_tokens: 1 } },
    ];
    const pieces = [];
    for await (const line of linesOf(parts(...chunks.map((chunk) => `data: ${JSON.stringify(chunk)}\n\n`), "data: [DONE]\n\n"))) {
      const piece = pieceOf(line);
      if (piece !== null) pieces.push(piece);
    }
    expect(pieces).toEqual([
      { id: "chatcmpl_1" },
      { id: "chatcmpl_1", text: "Hi" },
      { id: "chatcmpl_1", finishReason: "length" },
      { id: "chatcmpl_1", outputTokens: 1, inputTokens: 3 },
    ]);
  });

  it("may break in the middle, with a reason", () => {
    expect(pieceOf('data: {"error": {"message": "The replica is gone"}}')).toEqual({ error: "The replica is gone" });
    expect(pieceOf(": connected")).toBeNull();
  });
});
