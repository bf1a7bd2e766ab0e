import { useMutation } from "@tanstack/react-query";
import { Button, Input } from "antd";
import { type ChangeEvent, type FormEvent, useId, useState } from "react";

import { send } from "../../../api/client";
import { usePreferences } from "../../../app/preferences";
import { CodeBlock } from "../../../components/CodeBlock";
import { ErrorLine } from "../../../components/ErrorState";
import { FormField } from "../../../components/FormField";
import { percent } from "../../../i18n/figures";
import type { PlaygroundDocument, Tensor } from "../documents";
import { useEndpointsText } from "../text";

interface Inferred {
  outputs: Tensor[];
}

interface Metadata {
  labels?: string[];
  parameters?: { labels?: string[] };
}

/** Classifiers of texts and pictures, and models of one's own, by the Open Inference Protocol. */
export function Infer({ document }: { document: PlaygroundDocument }) {
  const t = useEndpointsText();
  const infer = useMutation({
    mutationFn: async (inputs: Tensor[]) => {
      const answer = await send<Inferred>("POST", document.route, { body: { inputs } });
      const about = await send<Metadata>("GET", document.route.replace(/\/infer$/, "")).catch((): Metadata => ({}));
      return { answer, labels: about.labels ?? about.parameters?.labels ?? [] };
    },
  });
  const [first] = (document.body["inputs"] ?? []) as Tensor[];
  const ask = (inputs: Tensor[]) => infer.mutate(inputs);
  return (
    <section className="sk-section sk-stack" aria-label={t("infer.title")}>
      {document.task === "text-classification" && <OfText first={first} examples={document.examples} isPending={infer.isPending} onAsk={ask} />}
      {document.task === "image-classification" && <OfPicture isPending={infer.isPending} onAsk={ask} />}
      {document.task !== "text-classification" && document.task !== "image-classification" && (
        <OfTensors body={document.body} isPending={infer.isPending} onAsk={ask} />
      )}
      <ErrorLine error={infer.error} />
      {infer.data && <Outputs answer={infer.data.answer} labels={infer.data.labels} />}
    </section>
  );
}

interface AskProps {
  isPending: boolean;
  onAsk: (inputs: Tensor[]) => void;
}

function OfText({ first, examples, isPending, onAsk }: AskProps & { first: Tensor | undefined; examples: string[] }) {
  const t = useEndpointsText();
  const [text, setText] = useState(examples[0] ?? "");
  const submit = (event: FormEvent) => {
    event.preventDefault();
    onAsk([{ name: first?.name ?? "text", datatype: "BYTES", shape: [1], data: [text] }]);
  };
  return (
    <form className="sk-stack" onSubmit={submit}>
      <FormField label={t("infer.text")}>
        {(control) => (
          <Input.TextArea {...control} autoSize={{ minRows: 2, maxRows: 8 }} value={text} onChange={(event) => setText(event.target.value)} />
        )}
      </FormField>
      <div>
        <Button type="primary" htmlType="submit" loading={isPending} disabled={text.trim() === ""}>
          {t("infer.classify")}
        </Button>
      </div>
    </form>
  );
}

function OfPicture({ isPending, onAsk }: AskProps) {
  const t = useEndpointsText();
  const id = useId();
  const [picture, setPicture] = useState<{ name: string; url: string } | null>(null);
  const choose = (event: ChangeEvent<HTMLInputElement>) => {
    const file = event.target.files?.[0];
    if (file === undefined) return;
    const reader = new FileReader();
    reader.onload = () => {
      const url = String(reader.result);
      setPicture({ name: file.name, url });
      onAsk([{ name: "image", datatype: "BYTES", shape: [1], data: [url.slice(url.indexOf(",") + 1)] }]);
    };
    reader.readAsDataURL(file);
  };
  return (
    <div className="sk-field">
      <label htmlFor={id}>{t("infer.picture")}</label>
      <input id={id} type="file" accept="image/png,image/jpeg,image/webp" disabled={isPending} onChange={choose} />
      {picture !== null && <img className="sk-endpoints-chosen" src={picture.url} alt={picture.name} />}
    </div>
  );
}

function OfTensors({ body, isPending, onAsk }: AskProps & { body: Record<string, unknown> }) {
  const t = useEndpointsText();
  const [text, setText] = useState(() => JSON.stringify(body["inputs"], null, 2));
  const [isWrong, setIsWrong] = useState(false);
  const submit = (event: FormEvent) => {
    event.preventDefault();
    try {
      onAsk(JSON.parse(text) as Tensor[]);
      setIsWrong(false);
    } catch {
      setIsWrong(true);
    }
  };
  return (
    <form className="sk-stack" onSubmit={submit}>
      <FormField label={t("infer.tensors")} hint={t("infer.tensorsHint")} error={isWrong ? t("infer.noJson") : undefined}>
        {(control) => (
          <Input.TextArea {...control} className="sk-endpoints-json" autoSize={{ minRows: 6, maxRows: 16 }} value={text} onChange={(event) => setText(event.target.value)} />
        )}
      </FormField>
      <div>
        <Button type="primary" htmlType="submit" loading={isPending}>
          {t("infer.ask")}
        </Button>
      </div>
    </form>
  );
}

function Outputs({ answer, labels }: { answer: Inferred; labels: string[] }) {
  const t = useEndpointsText();
  const { locale } = usePreferences();
  const of = (name: string) => answer.outputs.find((one) => one.name === name)?.data;
  const label = of("label")?.[0];
  const shares = (of("probabilities") as number[] | undefined) ?? [];
  if (label === undefined) return <CodeBlock code={JSON.stringify(answer.outputs, null, 2)} label={t("infer.outputs")} />;
  const top = (of("probability")?.[0] as number | undefined) ?? null;
  const rows = shares
    .map((share, index) => ({ name: labels[index] ?? t("infer.class", { index: index + 1 }), share }))
    .sort((one, other) => other.share - one.share);
  return (
    <div className="sk-stack" role="status">
      <p className="sk-endpoints-label">
        {String(label)} {top !== null && <span className="sk-muted">{percent(top, locale)}</span>}
      </p>
      <ul className="sk-endpoints-shares">
        {rows.slice(0, 10).map(({ name, share }) => (
          <li key={name}>
            <span>{name}</span>
            <span className="sk-endpoints-share" aria-hidden="true"><span style={{ width: `${100 * share}%` }} /></span>
            <span>{percent(share, locale)}</span>
          </li>
        ))}
      </ul>
    </div>
  );
}
