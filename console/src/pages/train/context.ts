import { createContext, useContext } from "react";

import type { Draft } from "./draft";

export interface Wizard {
  draft: Draft;
  change: (part: Partial<Draft>) => void;
  replace: (next: (draft: Draft) => Draft) => void;
  /** What the gateway said of a field of the job file, by its path. */
  problems: Readonly<Record<string, string>>;
  mayWrite: boolean;
}

export const WizardContext = createContext<Wizard | null>(null);

export function useWizard(): Wizard {
  const wizard = useContext(WizardContext);
  if (wizard === null) throw new Error("useWizard outside of the wizard");
  return wizard;
}
