import { useQuery } from "@tanstack/react-query";
import { Segmented } from "antd";
import { useState } from "react";
import { Link } from "react-router";

import { CodeBlock } from "../../components/CodeBlock";
import { Section } from "../../components/Page";
import { QueryState } from "../../components/QueryState";
import type { PlaygroundDocument } from "./documents";
import { playgroundQuery } from "./queries";
import { useEndpointsText } from "./text";

/** The same request for a terminal, for OpenAI's client, and as it goes over the wire. */
export default function Snippets({ endpointId }: { endpointId: string }) {
  const t = useEndpointsText();
  const playground = useQuery(playgroundQuery(endpointId));
  return (
    <Section title={t("code.title")}>
      <QueryState query={playground}>{(document) => <Choice document={document} />}</QueryState>
    </Section>
  );
}

function Choice({ document }: { document: PlaygroundDocument }) {
  const t = useEndpointsText();
  const { curl, python } = document.snippets;
  const codes = { curl, ...(python === undefined ? {} : { python }), http: httpOf(document) };
  const [chosen, setChosen] = useState<keyof typeof codes>("curl");
  return (
    <div className="sk-stack">
      <Segmented
        aria-label={t("code.title")}
        value={chosen}
        onChange={setChosen}
        options={(Object.keys(codes) as (keyof typeof codes)[]).map((name) => ({ value: name, label: t(`code.${name}`) }))}
      />
      <CodeBlock code={codes[chosen] ?? curl} label={t(`code.${chosen}`)} />
      <p className="sk-hint">
        {t("code.key")} <Link to="/settings/keys">{t("code.keys")}</Link>
      </p>
    </div>
  );
}

function httpOf({ route, body }: PlaygroundDocument): string {
  const { host } = window.location;
  return `POST ${route} HTTP/1.1\nHost: ${host}\nAuthorization: Bearer sskai_...\nContent-Type: application/json\n\n${JSON.stringify(body, null, 2)}`;
}
