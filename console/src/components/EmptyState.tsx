import type { ReactNode } from "react";

/** Nothing is here yet: what would be, and what to do about it. */
export function EmptyState({ title, detail, action }: { title: string; detail?: ReactNode; action?: ReactNode }) {
  return (
    <div className="sk-state sk-empty">
      <svg width="96" height="44" viewBox="0 0 96 44" aria-hidden="true" focusable="false">
        <path className="sk-empty-base" d="M2 42h92" />
        <path className="sk-empty-curve" d="M6 34c14 0 14-24 28-24s14 24 28 24 10-12 18-16" />
        <circle className="sk-empty-spot" cx="86" cy="14" r="4.5" />
      </svg>
      <h2 className="sk-state-title">{title}</h2>
      {detail !== undefined && <p className="sk-state-detail">{detail}</p>}
      {action}
    </div>
  );
}
