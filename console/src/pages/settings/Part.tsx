import type { ReactNode } from "react";

import type { Scope } from "../../api/documents";
import { useMay } from "../../api/session";
import { EmptyState } from "../../components/EmptyState";
import { CodeBlock } from "../../components/CodeBlock";
import { useSettingsText } from "./text";

/** A part of the settings: its heading, what it is for, and who may see it. */
export function Part({ title, lead, actions, needs, children }: { title: string; lead?: ReactNode; actions?: ReactNode; needs?: Scope; children: ReactNode }) {
  const t = useSettingsText();
  const may = useMay(needs ?? "read");
  return (
    <section className="sk-stack" aria-label={title}>
      <header className="sk-settings-head">
        <div>
          <h2>{title}</h2>
          {lead !== undefined && <p className="sk-muted">{lead}</p>}
        </div>
        {may && actions}
      </header>
      {may ? children : <EmptyState title={t("mayNot.title")} detail={t("mayNot.detail")} />}
    </section>
  );
}

/** A secret that is shown this once. */
export function OnceShown({ title, detail, secret, label }: { title: string; detail: string; secret: string; label: string }) {
  return (
    <div className="sk-settings-once" role="status">
      <strong>{title}</strong>
      <p>{detail}</p>
      <CodeBlock code={secret} label={label} />
    </div>
  );
}
