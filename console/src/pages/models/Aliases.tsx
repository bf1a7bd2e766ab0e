import { useMutation, useQueryClient } from "@tanstack/react-query";
import { App, Select } from "antd";

import { send } from "../../api/client";
import { keys } from "../../api/keys";
import { useMay } from "../../api/session";
import { Section } from "../../components/Page";
import { QueryState } from "../../components/QueryState";
import type { AliasName, Model } from "./documents";
import { useAliases } from "./queries";
import { useModelsText } from "./text";

const NAMES: AliasName[] = ["champion", "challenger"];

/** What @champion and @challenger mean; moved after a question. */
export function Aliases({ name, versions }: { name: string; versions: Model[] }) {
  const t = useModelsText();
  const mayWrite = useMay("write");
  const { message, modal } = App.useApp();
  const client = useQueryClient();
  const aliases = useAliases(name, true);
  const move = useMutation({
    mutationFn: ({ alias, version }: { alias: AliasName; version: number }) => send("PUT", `/v1/models/${name}/aliases/${alias}`, { body: { version } }),
    onSuccess: (_answer, { alias, version }) => {
      void message.success(t("aliases.moved", { alias: `@${alias}`, version }));
      return client.invalidateQueries({ queryKey: keys.model(name) });
    },
    onError: (error) => void message.error(error.message),
  });
  return (
    <Section title={t("aliases.title")}>
      <p className="sk-hint">{t("aliases.lead")}</p>
      <QueryState query={aliases} rows={2}>
        {({ data }) => (
          <dl className="sk-models-aliases">
            {NAMES.map((alias) => {
              const now = data.find((one) => one.alias === alias)?.version;
              const ask = (version: number) =>
                modal.confirm({
                  title: t("aliases.confirm", { alias: `@${alias}`, name, version }),
                  content: now === undefined ? t("aliases.fromNone") : t("aliases.from", { version: now }),
                  okText: t("aliases.yes"),
                  cancelText: t("cancel"),
                  onOk: () => move.mutateAsync({ alias, version }).catch(() => undefined),
                });
              return (
                <div key={alias}>
                  <dt>
                    <code>@{alias}</code>
                    <span className="sk-hint">{t(`aliases.${alias}`)}</span>
                  </dt>
                  <dd>
                    {mayWrite ? (
                      <Select
                        value={now ?? null}
                        placeholder={t("aliases.none")}
                        aria-label={t("aliases.move", { alias: `@${alias}` })}
                        onChange={(version) => version !== null && ask(version)}
                        options={versions.map(({ version }) => ({ value: version, label: t("one.version", { version }) }))}
                      />
                    ) : now === undefined ? (
                      t("aliases.none")
                    ) : (
                      t("one.version", { version: now })
                    )}
                  </dd>
                </div>
              );
            })}
          </dl>
        )}
      </QueryState>
    </Section>
  );
}
