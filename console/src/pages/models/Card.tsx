import { Link } from "react-router";

import { CopyButton } from "../../components/CodeBlock";
import { Section } from "../../components/Page";
import { factsOf, markdownOf } from "./card";
import type { Model } from "./documents";
import { useMaking } from "./queries";
import { useModelsText } from "./text";
import { useWords } from "./words";

/** All that is known of a version, on one card. */
export function Card({ model, base }: { model: Model; base: Model | undefined }) {
  const t = useModelsText();
  const words = useWords();
  const making = useMaking(model);
  const facts = factsOf(model, base, making.data, words);
  return (
    <Section title={t("card.title")} actions={<CopyButton text={markdownOf(model, facts)} what={t("card.copy")} />}>
      <dl className="sk-facts">
        {facts.map(({ label, value, link }) => (
          <div key={label} className="sk-models-fact">
            <dt>{label}</dt>
            <dd>{link === undefined ? value : <Link to={link}>{value}</Link>}</dd>
          </div>
        ))}
      </dl>
    </Section>
  );
}
