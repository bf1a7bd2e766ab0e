import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "react-router";

import { send } from "../../api/client";
import { keys } from "../../api/keys";
import type { JobFile } from "./draft";
import { forgetDraft } from "./useDraft";

const STORED_AS = "sskai.train.attempt";

/** Starts the job and goes to its page. Pressed twice, or again after an answer that was lost, it starts one job. */
export function useSubmit() {
  const client = useQueryClient();
  const navigate = useNavigate();
  return useMutation({
    mutationFn: (file: JobFile) =>
      send<{ id: string }>("POST", "/v1/jobs", { body: file, headers: { "Idempotency-Key": keyOf(JSON.stringify(file)) } }),
    onSuccess: async ({ id }) => {
      forgetDraft();
      sessionStorage.removeItem(STORED_AS);
      void client.invalidateQueries({ queryKey: keys.jobs });
      await navigate(`/jobs/${id}`);
    },
  });
}

/** The same for the same job file until it was accepted. */
function keyOf(file: string): string {
  try {
    const [known, key] = JSON.parse(sessionStorage.getItem(STORED_AS) ?? "[]") as [string?, string?];
    if (known === file && key !== undefined) return key;
  } catch {
    // What cannot be read is written anew.
  }
  // crypto.randomUUID is there on https and localhost only.
  const key = `console-${[...crypto.getRandomValues(new Uint32Array(4))].map((part) => part.toString(16).padStart(8, "0")).join("")}`;
  try {
    sessionStorage.setItem(STORED_AS, JSON.stringify([file, key]));
  } catch {
    // Storage may be forbidden or full: then only this request is safe to repeat.
  }
  return key;
}
