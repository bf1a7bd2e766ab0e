import { EVENT_TYPES, type EventType } from "./event-types";

/** What the console needs of a CloudEvent of `/v1/events`. `subject` is the id of what it is about, `type` is the short one. */
export interface StreamEvent {
  position: string;
  type: EventType;
  subject: string;
  time: string;
  data: Record<string, unknown>;
}

export interface EventFilter {
  types: readonly EventType[] | "all";
  subject?: string | undefined;
}

export type StreamState = "off" | "connecting" | "live";

const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 30_000;

type Listener = (event: StreamEvent) => void;

/**
 * The application's one connection to `/v1/events`. The browser resumes a broken one by Last-Event-ID; one that was
 * refused (too many streams, a restarting gateway) is opened again here, from where the last one was.
 *
 * A page in the background gives its connection up: of HTTP/1.1 a browser opens six to one host, for all tabs together.
 */
export class EventStream {
  private source: EventSource | null = null;
  private readonly listeners = new Map<Listener, EventFilter>();
  private readonly stateListeners = new Set<() => void>();
  private position: string | null = null;
  private pauseMs = FIRST_PAUSE_MS;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private wanted = false;
  private state: StreamState = "off";

  constructor(private readonly connect: (url: string) => EventSource = (url) => new EventSource(url)) {}

  /** From now on, and again whenever the page is looked at. */
  start(): void {
    this.wanted = true;
    document.addEventListener("visibilitychange", this.lookedAt);
    this.open();
  }

  stop(): void {
    this.wanted = false;
    this.position = null;
    document.removeEventListener("visibilitychange", this.lookedAt);
    this.close("off");
  }

  subscribe(filter: EventFilter, listener: Listener): () => void {
    this.listeners.set(listener, filter);
    return () => this.listeners.delete(listener);
  }

  readonly subscribeState = (listener: () => void): (() => void) => {
    this.stateListeners.add(listener);
    return () => this.stateListeners.delete(listener);
  };

  readonly currentState = (): StreamState => this.state;

  private readonly lookedAt = (): void => {
    if (document.visibilityState === "hidden") this.close("connecting");
    else this.open();
  };

  private open(): void {
    clearTimeout(this.timer);
    if (!this.wanted || this.source !== null || document.visibilityState === "hidden") return;
    this.say("connecting");
    const source = this.connect(this.position === null ? "/v1/events" : `/v1/events?after=${this.position}`);
    this.source = source;
    source.onopen = () => {
      this.pauseMs = FIRST_PAUSE_MS;
      this.say("live");
    };
    source.onerror = () => {
      this.say("connecting");
      if (source.readyState === EventSource.CLOSED && this.source === source) this.openLater();
    };
    for (const type of EVENT_TYPES) {
      source.addEventListener(type, (message: MessageEvent<string>) => this.tell(type, message));
    }
  }

  private openLater(): void {
    this.close("connecting");
    this.timer = setTimeout(() => this.open(), this.pauseMs);
    this.pauseMs = Math.min(2 * this.pauseMs, LONGEST_PAUSE_MS);
  }

  private close(state: StreamState): void {
    clearTimeout(this.timer);
    this.source?.close();
    this.source = null;
    this.say(state);
  }

  private tell(type: EventType, message: MessageEvent<string>): void {
    this.position = message.lastEventId;
    const { partitionkey, time, data } = JSON.parse(message.data) as { partitionkey: string; time: string; data: StreamEvent["data"] };
    const told: StreamEvent = { position: message.lastEventId, type, subject: partitionkey, time, data };
    for (const [listener, filter] of [...this.listeners]) if (matches(told, filter)) listener(told);
  }

  private say(state: StreamState): void {
    if (state === this.state) return;
    this.state = state;
    for (const listener of this.stateListeners) listener();
  }
}

export function matches(event: Pick<StreamEvent, "type" | "subject">, filter: EventFilter): boolean {
  if (filter.subject !== undefined && filter.subject !== event.subject) return false;
  return filter.types === "all" || filter.types.includes(event.type);
}
