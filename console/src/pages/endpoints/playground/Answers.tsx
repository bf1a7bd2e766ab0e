import { Button } from "antd";
import { useEffect, useRef } from "react";

import { usePreferences } from "../../../app/preferences";
import { CopyButton } from "../../../components/CodeBlock";
import { ErrorLine } from "../../../components/ErrorState";
import { number } from "../../../i18n/figures";
import { useEndpointsText } from "../text";
import { Feedback } from "./Feedback";
import { type Conversation, tokensPerSecond, type Turn } from "./useConversation";

interface AnswersProps {
  name: string;
  conversation: Conversation;
  showName: boolean;
  examples: string[];
  onExample: (text: string) => void;
}

/** One endpoint's side of the conversation. */
export function Answers({ name, conversation, showName, examples, onExample }: AnswersProps) {
  const t = useEndpointsText();
  const end = useRef<HTMLDivElement>(null);
  const { turns } = conversation;
  const length = turns.at(-1)?.text.length ?? 0;
  useEffect(() => {
    const list = end.current?.parentElement;
    if (list) list.scrollTop = list.scrollHeight;
  }, [turns.length, length]);

  return (
    // A log that grows is read out as it does, and is scrolled by the keyboard.
    // eslint-disable-next-line jsx-a11y/no-noninteractive-tabindex
    <div className="sk-endpoints-answers" role="log" aria-label={name} tabIndex={0}>
      {showName && <h3>{name}</h3>}
      {turns.length === 0 && (
        <div className="sk-endpoints-hello">
          <p className="sk-muted">{t("playground.hello", { name })}</p>
          {examples.map((example) => (
            <Button key={example} onClick={() => onExample(example)}>
              {example}
            </Button>
          ))}
        </div>
      )}
      {turns.map((turn, index) => (
        <One key={index} turn={turn} />
      ))}
      <div ref={end} />
    </div>
  );
}

function One({ turn }: { turn: Turn }) {
  const t = useEndpointsText();
  const isOver = turn.state !== "waiting" && turn.state !== "answering";
  return (
    <>
      <p className="sk-endpoints-question">
        <span className="sk-hidden">{t("playground.you")}</span>
        {turn.question}
      </p>
      <div className="sk-endpoints-answer" aria-busy={!isOver}>
        {turn.state === "waiting" && <span className="sk-endpoints-waiting">{t("playground.waiting")}</span>}
        {turn.text !== "" && <p>{turn.text}</p>}
        <ErrorLine error={turn.error} />
        {turn.state === "stopped" && <p className="sk-muted">{t("playground.stopped")}</p>}
        {isOver && turn.state === "done" && turn.text === "" && <p className="sk-muted">{t("playground.nothing")}</p>}
        {turn.text !== "" && (
          <div className="sk-endpoints-meta">
            <Speed turn={turn} />
            {isOver && <CopyButton text={turn.text} what={t("playground.answer")} />}
            {isOver && turn.id !== null && <Feedback answerId={turn.id} />}
          </div>
        )}
      </div>
    </>
  );
}

function Speed({ turn }: { turn: Turn }) {
  const t = useEndpointsText();
  const { locale } = usePreferences();
  const rate = tokensPerSecond(turn);
  const told = [
    turn.firstTokenSeconds === null ? null : t("speed.first", { seconds: number(turn.firstTokenSeconds, locale, 3) }),
    rate === null ? null : t("speed.rate", { rate: number(rate, locale, 3) }),
    turn.outputTokens === null ? null : t("speed.tokens", { count: turn.outputTokens }),
    turn.finishReason === "length" ? t("speed.length") : null,
  ];
  return <span>{told.filter(Boolean).join(" · ")}</span>;
}
