import { useMutation } from "@tanstack/react-query";
import { Button, Input } from "antd";
import { type FormEvent, useState } from "react";

import { send } from "../../../api/client";
import { ErrorLine } from "../../../components/ErrorState";
import { Duration } from "../../../components/Figures";
import { FormField } from "../../../components/FormField";
import { Loading } from "../../../components/Loading";
import type { PlaygroundDocument } from "../documents";
import { useEndpointsText } from "../text";
import { Knobs, parametersOf, type Turned } from "./Knobs";

interface Drawn {
  data: { b64_json: string; seed?: number }[];
}

/** Pictures from words. */
export function Pictures({ document }: { document: PlaygroundDocument }) {
  const t = useEndpointsText();
  const [prompt, setPrompt] = useState(String(document.body["prompt"] ?? ""));
  const [turned, setTurned] = useState<Turned>({});
  const draw = useMutation({
    mutationFn: async () => {
      const begun = performance.now();
      const body = { model: document.name, prompt, ...parametersOf(turned) };
      const drawn = await send<Drawn>("POST", document.route, { body });
      const format = String(turned["output_format"] ?? "png");
      return { pictures: drawn.data, format, prompt, seconds: (performance.now() - begun) / 1000 };
    },
  });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    draw.mutate();
  };
  return (
    <div className="sk-endpoints-playground">
      <section className="sk-section sk-stack" aria-label={t("pictures.title")}>
        <form className="sk-stack" onSubmit={submit}>
          <FormField label={t("pictures.prompt")}>
            {(control) => (
              <Input.TextArea {...control} autoSize={{ minRows: 2, maxRows: 6 }} value={prompt} onChange={(event) => setPrompt(event.target.value)} />
            )}
          </FormField>
          <div>
            <Button type="primary" htmlType="submit" loading={draw.isPending} disabled={prompt.trim() === ""}>
              {t("pictures.draw")}
            </Button>
          </div>
        </form>
        <ErrorLine error={draw.error} />
        {draw.isPending && <Loading rows={5} />}
        {draw.data && (
          <>
            <div className="sk-endpoints-pictures">
              {draw.data.pictures.map((picture, index) => (
                <figure key={index}>
                  <img src={`data:image/${draw.data.format};base64,${picture.b64_json}`} alt={draw.data.prompt} />
                  {picture.seed !== undefined && <figcaption>{t("pictures.seed", { seed: String(picture.seed) })}</figcaption>}
                </figure>
              ))}
            </div>
            <p className="sk-hint"><Duration seconds={draw.data.seconds} /></p>
          </>
        )}
      </section>
      <aside className="sk-section" aria-label={t("playground.settings")}>
        <Knobs knobs={document.parameters} turned={turned} onTurn={setTurned} />
      </aside>
    </div>
  );
}
