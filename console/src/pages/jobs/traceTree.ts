/** A trace's spans as rows of a tree that can be folded. Pure. */

import type { Span } from "./documents";

export interface SpanRow {
  span: Span;
  children: number;
}

/** Parents before children; what lies within a folded span is left out. `wanted`: only these and what leads to them. */
export function rowsOf(spans: Span[], folded: ReadonlySet<string>, wanted: (span: Span) => boolean): SpanRow[] {
  const children = new Map<string, number>();
  const parents = new Map(spans.map((span) => [span.span_id, span.parent_span_id]));
  for (const span of spans) children.set(span.parent_span_id, (children.get(span.parent_span_id) ?? 0) + 1);
  const kept = new Set<string>();
  for (const span of spans) {
    if (!wanted(span)) continue;
    for (let id: string | undefined = span.span_id; id !== undefined && id !== "" && !kept.has(id); id = parents.get(id)) kept.add(id);
  }
  const hidden = new Set<string>();
  const rows: SpanRow[] = [];
  for (const span of spans) {
    if (folded.has(span.parent_span_id) || hidden.has(span.parent_span_id)) {
      hidden.add(span.span_id);
      continue;
    }
    if (kept.has(span.span_id)) rows.push({ span, children: children.get(span.span_id) ?? 0 });
  }
  return rows;
}

/** Spans that are folded at first: deep ones with much within. */
export function foldedFirst(spans: Span[], depth: number): Set<string> {
  return new Set(spans.filter((span) => span.depth >= depth).map((span) => span.span_id));
}
