"""Spans as the monitor keeps them: what is counted of one, what is kept of a trace, and how a trace reads as a tree."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeAlias

from services.monitor.sketches import Cell, bucket_of

Scalar: TypeAlias = str | int | float | bool
Attribute: TypeAlias = Scalar | list[Scalar]

# A long job repeats the same few spans (heartbeats) thousands of times: figures count all of them, the trace keeps the
# first ones of each kind, so that its later chapters still find room.
MAX_SPANS_PER_TRACE = 5_000
MAX_SPANS_PER_NAME = 200

MINUTE_SECONDS, HOUR_SECONDS = 60, 3600
WINDOWS_SECONDS = (MINUTE_SECONDS, HOUR_SECONDS)

# Names come from outside. More different ones than this are counted under OTHER, so that no table grows without end.
MAX_SERIES = 5_000
OTHER = "(other)"


@dataclass(frozen=True, slots=True)
class Span:
    """One span; times in nanoseconds since 1970, ids in lower-case hex."""

    trace_id: str
    span_id: str
    parent_span_id: str  # empty: a root
    service: str
    name: str
    kind: str  # "internal" | "server" | "client" | "producer" | "consumer"
    started_ns: int
    ended_ns: int
    failed: bool = False
    status_message: str = ""
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    events: Sequence[Mapping[str, Any]] = ()
    links: Sequence[Mapping[str, Any]] = ()  # to other spans: trace_id, span_id, attributes

    @property
    def seconds(self) -> float:
        return max(0, self.ended_ns - self.started_ns) / 1e9

    @property
    def tenant_id(self) -> str:
        return self._text("sskai.tenant")

    def _text(self, *names: str) -> str:
        return next((str(self.attributes[name]) for name in names if name in self.attributes), "")

    @property
    def series(self) -> Series:
        return Series(
            tenant_id=self.tenant_id,
            service=self.service,
            name=self.name,
            model=self._text("sskai.model", "gen_ai.request.model"),
            model_version=self._text("sskai.model.version"),
            endpoint_id=self._text("sskai.endpoint"),
        )


@dataclass(frozen=True, slots=True, order=True)
class Series:
    """Whose durations are counted together."""

    tenant_id: str
    service: str
    name: str
    model: str = ""
    model_version: str = ""
    endpoint_id: str = ""

    @property
    def collapsed(self) -> Series:
        """Where it is counted when there are too many series: by tenant and service only."""
        return Series(self.tenant_id, self.service, OTHER)


@dataclass(frozen=True, slots=True, order=True)
class CellKey:
    """One counter: a series, a window of time, a bucket of durations."""

    series: Series
    window_seconds: int
    window_start: datetime
    bucket: int


def count(spans: Iterable[Span]) -> dict[CellKey, Cell]:
    """What the spans add to the figures, by the time at which they ended, in every window length."""
    cells: dict[CellKey, Cell] = {}
    for span in spans:
        ended_at = span.ended_ns // 1_000_000_000
        cell = Cell(1, int(span.failed), span.seconds)
        for window_seconds in WINDOWS_SECONDS:
            start = datetime.fromtimestamp(ended_at - ended_at % window_seconds, UTC)
            key = CellKey(span.series, window_seconds, start, bucket_of(span.seconds))
            cells[key] = cells[key] + cell if key in cells else cell
    return cells


class TraceBook:
    """How many spans of each kind a trace holds, and which of the next ones still find room."""

    def __init__(self, names: Mapping[str, int] | None = None) -> None:
        self.names = dict(names or {})
        self._total = sum(self.names.values())

    def takes(self, span: Span) -> bool:
        """Count the span in and say True, or say False: there are enough of its kind, or of all kinds."""
        kind = f"{span.service} {span.name}"
        if self._total >= MAX_SPANS_PER_TRACE or self.names.get(kind, 0) >= MAX_SPANS_PER_NAME:
            return False
        self.names[kind] = self.names.get(kind, 0) + 1
        self._total += 1
        return True


def owner(spans: Sequence[Span]) -> str | None:
    """The tenant whose trace this is: the one that its roots name; if they name none, the one that all its spans name.

    None: nobody's, or more than one tenant's, so nobody may see it.
    """
    ids = {span.span_id for span in spans}
    roots = {span.tenant_id for span in spans if span.parent_span_id not in ids} - {""}
    tenants = roots or {span.tenant_id for span in spans} - {""}
    return tenants.pop() if len(tenants) == 1 else None


def visible_to(tenant_id: str, spans: Sequence[Span]) -> list[Span]:
    """What a tenant may see of a trace: all of its own, without spans that name somebody else; nothing of another's."""
    if not tenant_id or owner(spans) != tenant_id:
        return []
    return [span for span in spans if span.tenant_id in ("", tenant_id)]


@dataclass(frozen=True, slots=True)
class Node:
    """A span at its place in the tree; depth 0 is a root, offsets count from the trace's first start."""

    span: Span
    depth: int
    start_offset_seconds: float


def tree(spans: Sequence[Span]) -> list[Node]:
    """All spans, parents before children, siblings by start. A span whose parent is not there (yet) is a root.

    Parents that go round in a circle, which only a broken sender makes, are cut at their earliest span.
    """
    by_start = sorted(spans, key=lambda span: (span.started_ns, -span.ended_ns, span.span_id))
    if not by_start:
        return []
    ids = {span.span_id for span in by_start}
    children: dict[str, list[Span]] = {}
    for span in by_start:
        children.setdefault(span.parent_span_id if span.parent_span_id in ids else "", []).append(span)
    first = by_start[0].started_ns
    nodes: list[Node] = []
    placed: set[str] = set()
    # Circles have no root: after the real roots, whatever is left unplaced becomes one.
    for root in [*children.get("", []), *by_start]:
        stack = [(root, 0)]
        while stack:
            span, depth = stack.pop()
            if span.span_id in placed:
                continue
            placed.add(span.span_id)
            nodes.append(Node(span, depth, (span.started_ns - first) / 1e9))
            stack.extend((child, depth + 1) for child in reversed(children.get(span.span_id, [])))
    return nodes
