import { useCallback, useRef, useState } from "react";

import { answer, type Message } from "./chat";

/** A question and what came of it. Times are of this browser: the network is in them. */
export interface Turn {
  question: string;
  text: string;
  /** The answer's id, by which feedback names it. */
  id: string | null;
  state: "waiting" | "answering" | "done" | "stopped" | "failed";
  error: Error | null;
  firstTokenSeconds: number | null;
  seconds: number | null;
  outputTokens: number | null;
  finishReason: string | null;
}

const NEW: Omit<Turn, "question"> = {
  text: "", id: null, state: "waiting", error: null, firstTokenSeconds: null, seconds: null, outputTokens: null, finishReason: null,
};

/** Tokens a second after the first one; before the usage is told a piece counts as a token. */
export function tokensPerSecond(turn: Turn): number | null {
  const { seconds, firstTokenSeconds, outputTokens } = turn;
  if (seconds === null || firstTokenSeconds === null || outputTokens === null || outputTokens < 2) return null;
  return seconds > firstTokenSeconds ? (outputTokens - 1) / (seconds - firstTokenSeconds) : null;
}

export interface Conversation {
  turns: Turn[];
  isBusy: boolean;
  ask: (question: string, system: string, parameters: Record<string, unknown>) => Promise<void>;
  stop: () => void;
  clear: () => void;
}

export function useConversation(route: string, model: string): Conversation {
  const [turns, setTurns] = useState<Turn[]>([]);
  const abort = useRef<AbortController | null>(null);

  const ask = useCallback<Conversation["ask"]>(
    async (question, system, parameters) => {
      const stopper = new AbortController();
      abort.current = stopper;
      const messages = messagesOf(turns, question, system);
      const turn: Turn = { ...NEW, question };
      const show = (changes: Partial<Turn>) => {
        Object.assign(turn, changes);
        setTurns((before) => [...before.slice(0, turns.length), { ...turn }]);
      };
      show({});
      const begun = performance.now();
      const elapsed = () => (performance.now() - begun) / 1000;
      let pieces = 0;
      try {
        for await (const piece of answer(route, { model, messages, ...parameters }, stopper.signal)) {
          if (piece.error !== undefined) throw new Error(piece.error);
          if (piece.text !== undefined) pieces += 1;
          show({
            state: "answering",
            id: piece.id ?? turn.id,
            text: turn.text + (piece.text ?? ""),
            firstTokenSeconds: turn.firstTokenSeconds ?? (piece.text === undefined ? null : elapsed()),
            seconds: piece.text === undefined ? turn.seconds : elapsed(),
            outputTokens: piece.outputTokens ?? pieces,
            finishReason: piece.finishReason ?? turn.finishReason,
          });
        }
        show({ state: "done" });
      } catch (error) {
        show(stopper.signal.aborted ? { state: "stopped" } : { state: "failed", error: error as Error });
      } finally {
        abort.current = null;
      }
    },
    [route, model, turns],
  );
  const stop = useCallback(() => abort.current?.abort(), []);
  const clear = useCallback(() => {
    abort.current?.abort();
    setTurns([]);
  }, []);
  const isBusy = turns.at(-1)?.state === "waiting" || turns.at(-1)?.state === "answering";
  return { turns, isBusy, ask, stop, clear };
}

/** What was said before goes along, but for questions that got no answer. */
function messagesOf(turns: Turn[], question: string, system: string): Message[] {
  const before = turns
    .filter((turn) => turn.text !== "")
    .flatMap((turn): Message[] => [
      { role: "user", content: turn.question },
      { role: "assistant", content: turn.text },
    ]);
  const first: Message[] = system.trim() === "" ? [] : [{ role: "system", content: system }];
  return [...first, ...before, { role: "user", content: question }];
}
