/** A chat's answer as it comes over the wire: server-sent events of OpenAI's shape. No React here. */

import { request } from "../../../api/client";

export interface Message {
  role: "system" | "user" | "assistant";
  content: string;
}

export interface Piece {
  id?: string;
  text?: string;
  finishReason?: string;
  outputTokens?: number;
  inputTokens?: number;
  error?: string;
}

interface Chunk {
  id?: string;
  choices?: { delta?: { content?: string | null }; finish_reason?: string | null }[];
  usage?: { prompt_tokens: number; completion_tokens: number } | null;
  error?: { message?: string };
}

/** What one `data:` line says; null: the answer is complete, or the line is no data. */
export function pieceOf(line: string): Piece | null {
  if (!line.startsWith("data:")) return null;
  const data = line.slice(5).trim();
  if (data === "[DONE]" || data === "") return null;
  const { id, choices, usage, error } = JSON.parse(data) as Chunk;
  const choice = choices?.[0];
  const piece: Piece = {};
  if (id !== undefined) piece.id = id;
  if (choice?.delta?.content) piece.text = choice.delta.content;
  if (choice?.finish_reason) piece.finishReason = choice.finish_reason;
  if (usage) {
    piece.outputTokens = usage.completion_tokens;
    piece.inputTokens = usage.prompt_tokens;
  }
  if (error) piece.error = error.message ?? "";
  return piece;
}

/** Whole lines of a stream of bytes, however its parts are cut. */
export async function* linesOf(parts: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const part of parts) {
    rest += decoder.decode(part, { stream: true });
    const lines = rest.split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) yield line.trimEnd();
  }
  if (rest !== "") yield rest;
}

async function* partsOf(body: ReadableStream<Uint8Array>): AsyncGenerator<Uint8Array> {
  const reader = body.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield value;
    }
  } finally {
    reader.releaseLock();
  }
}

/** Asks and tells the answer piece by piece. Raises ProblemError, and AbortError where `signal` stops it. */
export async function* answer(route: string, body: Record<string, unknown>, signal: AbortSignal): AsyncGenerator<Piece> {
  const response = await request(route, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ ...body, stream: true, stream_options: { include_usage: true } }),
    signal,
  });
  if (response.body === null) return;
  for await (const line of linesOf(partsOf(response.body))) {
    const piece = pieceOf(line);
    if (piece !== null) yield piece;
  }
}
