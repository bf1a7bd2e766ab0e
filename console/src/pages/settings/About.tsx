import { useQuery } from "@tanstack/react-query";

import { send } from "../../api/client";
import { useStreamState } from "../../api/useEvents";
import { useCommonText } from "../../app/text";
import { Facts } from "../../components/Facts";
import { Icon } from "../../components/icons";
import { Section } from "../../components/Page";
import { Part } from "./Part";
import { useSettingsText } from "./text";

const LINKS = ["/docs", "/openapi.json", "/asyncapi.yaml"] as const;

/** What runs here, and where it is described. */
export default function AboutPart() {
  const t = useSettingsText();
  const common = useCommonText();
  const state = useStreamState();
  const api = useQuery({
    queryKey: ["openapi-version"],
    staleTime: Infinity,
    queryFn: async ({ signal }) => (await send<{ info: { version: string } }>("GET", "/openapi.json", { signal })).info.version,
  });
  return (
    <Part title={t("part.about")}>
      <Section title="SSKAI">
        <div className="sk-stack">
          <Facts
            facts={[
              { label: t("about.version"), value: api.data ?? "–" },
              { label: t("about.address"), value: window.location.origin },
              { label: t("about.events"), value: common(`stream.${state}`) },
            ]}
          />
          <ul className="sk-settings-links">
            {LINKS.map((path) => (
              <li key={path}>
                <a href={path} target="_blank" rel="noreferrer">
                  {t(`about.${path}`)} <Icon name="external" size={14} />
                </a>
                <span className="sk-muted">{t(`about.${path}.detail`)}</span>
              </li>
            ))}
          </ul>
        </div>
      </Section>
    </Part>
  );
}
