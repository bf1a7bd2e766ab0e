import { describe, expect, it } from "vitest";

import type { Span, Timeline } from "../src/pages/jobs/documents";
import { EventParser } from "../src/pages/jobs/logStream";
import { shapeOf, stepped } from "../src/pages/jobs/timelineShape";
import { foldedFirst, rowsOf } from "../src/pages/jobs/traceTree";

describe("a log's stream", () => {
  it("gives whole events from any pieces", () => {
    const parser = new EventParser();
    expect(parser.take(': connected\n\nid: 1:a\nevent: line\ndata: {"te')).toEqual([]);
    expect(parser.take('xt":"x"}\n\nevent: end\r\ndata: {}\r\n\r\n')).toEqual([
      { event: "line", data: '{"text":"x"}', id: "1:a" },
      { event: "end", data: "{}", id: null },
    ]);
  });
});

const TIMELINE: Timeline = {
  from: "2026-11-29T12:00:00Z",
  until: "2026-11-29T13:00:00Z",
  state: "running",
  deadline: "2026-11-29T13:30:00Z",
  point_of_no_return: null,
  attempts: [
    {
      number: 1,
      offer: "aws/us-east-1/use1-az2/g6.xlarge/spot",
      placement: { capacity_type: "spot", zone: "use1-az2", region: "us-east-1", instance_type: "g6.xlarge" } as Timeline["attempts"][0]["placement"],
      started_at: "2026-11-29T12:10:00Z",
      ended_at: null,
      outcome: "running",
      reason: "",
      from_step: 0,
      to_step: 10,
      lost_steps: 0,
      gap_seconds: null,
      phases: [],
    },
  ],
  waits: [
    { from: "2026-11-29T12:00:00Z", until: "2026-11-29T12:10:00Z", rule: "no-plan", detail: "" },
    { from: "2026-11-29T12:59:59Z", until: "2026-11-29T13:00:00Z", rule: "", detail: "" },
  ],
  events: [1, 2, 3000].map((second) => ({ at: new Date(Date.parse("2026-11-29T12:00:00Z") + second * 1000).toISOString(), kind: "checkpoint", attempt: 1 })),
  prices: [{ offer: "aws/us-east-1/use1-az2/g6.xlarge/spot", capacity_type: "spot", on_demand_usd_per_hour: 0.8, points: [{ at: "2026-11-29T12:10:00Z", usd_per_hour: 0.3 }] }],
};

describe("a timeline", () => {
  it("is drawn to a deadline that is near, and tells one that is far", () => {
    expect(shapeOf(TIMELINE)).toMatchObject({ span: 5400, deadline: 5400, now: 3600 });
    expect(shapeOf({ ...TIMELINE, deadline: "2026-11-30T13:00:00Z" })).toMatchObject({ span: 3600, deadline: null });
  });

  it("draws checkpoints side by side once, and waits that mean something", () => {
    const shape = shapeOf(TIMELINE);
    expect(shape.lanes[0]?.checkpoints).toEqual([1, 3000]);
    expect(shape.lanes[0]).toMatchObject({ start: 600, end: 3600, isOver: false });
    expect(shape.waits.map((wait) => wait.rule)).toEqual(["no-plan"]);
    expect(shape.ticks.length).toBeLessThanOrEqual(8);
  });

  it("holds a price until the next one", () => {
    expect(stepped([[0, 1], [10, 2]], 30)).toEqual([[0, 1], [10, 1], [10, 2], [30, 2]]);
  });
});

describe("a trace", () => {
  const spans = ["a", "b", "c"].map((id, depth) => ({ span_id: id, parent_span_id: ["", "a", "b"][depth], depth, name: id }) as Span);

  it("hides what is within a folded span", () => {
    expect(rowsOf(spans, new Set(["b"]), () => true).map(({ span }) => span.span_id)).toEqual(["a", "b"]);
    expect([...foldedFirst(spans, 1)]).toEqual(["b", "c"]);
  });

  it("keeps what leads to a match", () => {
    expect(rowsOf(spans, new Set(), (span) => span.name === "b").map(({ span }) => span.span_id)).toEqual(["a", "b"]);
  });
});
