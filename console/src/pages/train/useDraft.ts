import { useEffect, useState } from "react";

import { type Draft, EMPTY } from "./draft";

const STORED_AS = "sskai.train";

/** The draft, kept in this tab's storage so that it survives a reload. */
export function useDraft(): [Draft, (next: (draft: Draft) => Draft) => void] {
  const [draft, setDraft] = useState<Draft>(stored);
  useEffect(() => {
    try {
      sessionStorage.setItem(STORED_AS, JSON.stringify(draft));
    } catch {
      // Storage may be forbidden or full: the draft lasts as long as the page.
    }
  }, [draft]);
  return [draft, setDraft];
}

export function forgetDraft(): void {
  sessionStorage.removeItem(STORED_AS);
}

function stored(): Draft {
  try {
    const text = sessionStorage.getItem(STORED_AS);
    return text === null ? EMPTY : { ...EMPTY, ...(JSON.parse(text) as Partial<Draft>) };
  } catch {
    return EMPTY;
  }
}
