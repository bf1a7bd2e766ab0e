import type { ReactNode } from "react";

export interface Fact {
  label: string;
  value: ReactNode;
  /** Smaller, below the value. */
  detail?: ReactNode;
}

/** Figures side by side, each under its name. */
export function Facts({ facts }: { facts: Fact[] }) {
  return (
    <dl className="sk-tiles">
      {facts.map(({ label, value, detail }) => (
        <div key={label}>
          <dt>{label}</dt>
          <dd>
            {value}
            {detail !== undefined && <small>{detail}</small>}
          </dd>
        </div>
      ))}
    </dl>
  );
}
