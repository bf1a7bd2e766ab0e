import { useCommonText } from "../app/text";
import common from "../locales/en/common";

export type Tone = "good" | "busy" | "wait" | "bad" | "off";

const TONES: Record<string, Tone> = {
  succeeded: "good", ready: "good", active: "good", enabled: "good", approved: "good", met: "good",
  running: "busy", launching: "busy", starting: "busy", provisioning: "busy", planning: "busy",
  submitted: "wait", queued: "wait", held: "wait", pending: "wait", invited: "wait", cancelling: "wait",
  deleting: "wait", degraded: "wait", interrupted: "wait", paused: "wait",
  failed: "bad", broken: "bad",
};

/** A state in its words, with a dot that moves while something goes on. Unknown states are shown as they are. */
export function StateTag({ state, tone, label }: { state: string; tone?: Tone; label?: string }) {
  const t = useCommonText();
  const key = `state.${state}`;
  return (
    <span className="sk-tag" data-tone={tone ?? TONES[state] ?? "off"}>
      <span className="sk-tag-dot" aria-hidden="true" />
      {label ?? (key in common ? t(key as keyof typeof common) : state)}
    </span>
  );
}
