import type { ReactNode } from "react";
import { Link } from "react-router";

import { useCommonText } from "../app/text";

interface PageProps {
  title: string;
  /** Of the browser's tab; `title` where it is not given. */
  documentTitle?: string;
  lead?: ReactNode;
  /** The pages above this one, outermost first. */
  breadcrumbs?: { title: string; to: string }[];
  /** Beside the heading, as a StateTag. */
  badge?: ReactNode;
  /** Buttons at the right of the heading. */
  actions?: ReactNode;
  children?: ReactNode;
}

/** Every page is one of these: document title, breadcrumbs, the one h1, and what is below it. */
export function Page({ title, documentTitle, lead, breadcrumbs = [], badge, actions, children }: PageProps) {
  const t = useCommonText();
  return (
    <div className="sk-page">
      <title>{`${documentTitle ?? title} · SSKAI`}</title>
      {breadcrumbs.length > 0 && (
        <nav className="sk-breadcrumbs" aria-label={t("breadcrumbs.label")}>
          <ol>
            {breadcrumbs.map(({ title: name, to }) => (
              <li key={to}>
                <Link to={to}>{name}</Link>
              </li>
            ))}
            <li aria-current="page">{title}</li>
          </ol>
        </nav>
      )}
      <header className="sk-page-head">
        <div className="sk-page-titles">
          <div className="sk-page-title">
            <h1>{title}</h1>
            {badge}
          </div>
          {lead !== undefined && <p className="sk-page-lead">{lead}</p>}
        </div>
        {actions !== undefined && <div className="sk-page-actions">{actions}</div>}
      </header>
      {children}
    </div>
  );
}

/** A part of a page with a heading of its own, on a surface. */
export function Section({ title, actions, children }: { title: string; actions?: ReactNode; children: ReactNode }) {
  return (
    <section className="sk-section" aria-label={title}>
      <header className="sk-section-head">
        <h2>{title}</h2>
        {actions}
      </header>
      {children}
    </section>
  );
}
