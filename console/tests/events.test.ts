import { beforeEach, describe, expect, it, vi } from "vitest";

import { EventStream, matches } from "../src/api/events";

class Source extends EventTarget {
  onopen: (() => void) | null = null;
  onerror: (() => void) | null = null;
  readyState = 0;
  constructor(readonly url: string) {
    super();
  }
  close() {
    this.readyState = 2;
  }
  tell(type: string, position: string, subject: string) {
    const data = JSON.stringify({ partitionkey: subject, time: "2026-11-29T12:00:00Z", data: { job_id: subject } });
    this.dispatchEvent(new MessageEvent(type, { data, lastEventId: position }));
  }
  refuse() {
    this.close();
    this.onerror?.();
  }
}

describe("the one stream of events", () => {
  const opened: Source[] = [];
  const page = Object.assign(new EventTarget(), { visibilityState: "visible" });
  const stream = new EventStream((url) => {
    const source = new Source(url);
    opened.push(source);
    return source as unknown as EventSource;
  });

  beforeEach(() => {
    vi.stubGlobal("document", page);
    vi.stubGlobal("EventSource", { CLOSED: 2 });
    vi.useFakeTimers();
    stream.stop();
    opened.length = 0;
    stream.start();
  });

  it("tells who asked for the type and the subject, until they leave", () => {
    const told: string[] = [];
    const leave = stream.subscribe({ types: ["JobSucceeded"], subject: "job_1" }, (event) => told.push(event.position));
    opened[0]?.tell("JobSucceeded", "1", "job_1");
    opened[0]?.tell("JobSucceeded", "2", "job_2");
    opened[0]?.tell("JobFailed", "3", "job_1");
    leave();
    opened[0]?.tell("JobSucceeded", "4", "job_1");
    expect(told).toEqual(["1"]);
  });

  it("is opened again where it ended, later and later while it is refused", () => {
    opened[0]?.tell("JobSucceeded", "7", "job_1");
    opened[0]?.refuse();
    expect(stream.currentState()).toBe("connecting");
    vi.advanceTimersByTime(1_000);
    expect(opened[1]?.url).toBe("/v1/events?after=7");
    opened[1]?.refuse();
    vi.advanceTimersByTime(1_000);
    expect(opened.length).toBe(2);
    vi.advanceTimersByTime(1_000);
    expect(opened.length).toBe(3);
    opened[2]?.onopen?.();
    expect(stream.currentState()).toBe("live");
  });

  it("is given up in the background and taken up again", () => {
    page.visibilityState = "hidden";
    page.dispatchEvent(new Event("visibilitychange"));
    expect(opened[0]?.readyState).toBe(2);
    page.visibilityState = "visible";
    page.dispatchEvent(new Event("visibilitychange"));
    expect(opened.length).toBe(2);
  });
});

it("a filter without types or subject lets everything through", () => {
  expect(matches({ type: "JobFailed", subject: "job_1" }, { types: "all" })).toBe(true);
});
