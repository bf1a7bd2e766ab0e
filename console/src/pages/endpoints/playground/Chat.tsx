import { useQuery } from "@tanstack/react-query";
import { Button, Input, Select } from "antd";
import { type FormEvent, type KeyboardEvent, useState } from "react";

import { FormField } from "../../../components/FormField";
import type { PlaygroundDocument } from "../documents";
import { endpointsQuery } from "../queries";
import { useEndpointsText } from "../text";
import { Answers } from "./Answers";
import { Knobs, parametersOf, type Turned } from "./Knobs";
import { useConversation } from "./useConversation";

/** A conversation, or the same one with two endpoints side by side. */
export function Chat({ endpointId, document }: { endpointId: string; document: PlaygroundDocument }) {
  const t = useEndpointsText();
  const [question, setQuestion] = useState("");
  const [system, setSystem] = useState("");
  const [turned, setTurned] = useState<Turned>({});
  const [other, setOther] = useState<string | null>(null);
  const mine = useConversation(document.route, document.name);
  const theirs = useConversation(document.route, other ?? "");
  const endpoints = useQuery(endpointsQuery);
  const others = (endpoints.data?.data ?? []).filter((one) => one.id !== endpointId && one.state === "ready");
  const isBusy = mine.isBusy || theirs.isBusy;

  const ask = (text: string) => {
    if (text.trim() === "" || isBusy) return;
    setQuestion("");
    void mine.ask(text, system, parametersOf(turned));
    if (other !== null) void theirs.ask(text, system, parametersOf(turned));
  };
  const stop = () => [mine, theirs].forEach((one) => one.stop());
  const clear = () => [mine, theirs].forEach((one) => one.clear());
  const onKey = (event: KeyboardEvent) => {
    // Enter while a syllable is composed ends the syllable, not the question.
    if (event.key !== "Enter" || event.shiftKey || event.nativeEvent.isComposing) return;
    event.preventDefault();
    ask(question);
  };
  const submit = (event: FormEvent) => {
    event.preventDefault();
    ask(question);
  };

  return (
    <div className="sk-endpoints-playground">
      <section className="sk-endpoints-chat" aria-label={t("playground.conversation")}>
        <div className="sk-endpoints-panes" data-two={other !== null}>
          <Answers name={document.name} conversation={mine} showName={other !== null} examples={document.examples} onExample={ask} />
          {other !== null && <Answers name={other} conversation={theirs} showName examples={[]} onExample={ask} />}
        </div>
        <form className="sk-endpoints-composer" onSubmit={submit}>
          <Input.TextArea
            aria-label={t("playground.question")}
            placeholder={t("playground.placeholder")}
            autoSize={{ minRows: 2, maxRows: 8 }}
            value={question}
            onChange={(event) => setQuestion(event.target.value)}
            onKeyDown={onKey}
          />
          <div className="sk-row">
            <span className="sk-hint">{t("playground.enter")}</span>
            {mine.turns.length > 0 && (
              <Button type="text" onClick={clear}>
                {t("playground.clear")}
              </Button>
            )}
            {isBusy ? (
              <Button danger onClick={stop}>
                {t("playground.stop")}
              </Button>
            ) : (
              <Button type="primary" htmlType="submit" disabled={question.trim() === ""}>
                {t("playground.send")}
              </Button>
            )}
          </div>
        </form>
      </section>
      <aside className="sk-section sk-stack" aria-label={t("playground.settings")}>
        {others.length > 0 && (
          <FormField label={t("playground.compare")} hint={t("playground.compareHint")}>
            {(control) => (
              <Select
                {...control}
                allowClear
                value={other}
                placeholder={t("playground.compareNone")}
                disabled={isBusy}
                options={others.map((one) => ({ value: one.name, label: one.name }))}
                onChange={(name: string | undefined) => {
                  clear();
                  setOther(name ?? null);
                }}
              />
            )}
          </FormField>
        )}
        <FormField label={t("playground.system")} hint={t("playground.systemHint")}>
          {(control) => (
            <Input.TextArea {...control} autoSize={{ minRows: 2, maxRows: 6 }} value={system} onChange={(event) => setSystem(event.target.value)} />
          )}
        </FormField>
        <Knobs knobs={document.parameters} turned={turned} onTurn={setTurned} />
      </aside>
    </div>
  );
}
