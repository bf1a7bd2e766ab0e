"""Spans as the monitor keeps them: what is counted of one, what is kept of a trace, and how a trace reads as a tree."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Scalar: TypeAlias = str | int | float | bool
Attribute: TypeAlias = Scalar | list[Scalar]

# A long job repeats the same few spans (heartbeats) thousands of times: figures count all of them, the trace keeps the
# first ones of each kind, so that its later chapters still find room.
MAX_SPANS_PER_TRACE = 5_000
MAX_SPANS_PER_NAME = 200

# Deeper spans of a nested trace stand under their ancestor at this depth: readers of JSON have their limits.
MAX_NESTED_DEPTH = 100


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
        return self.text("sskai.tenant")

    def text(self, *names: str) -> str:
        """The first of these attributes that the span has; empty if none."""
        for name in names:
            if name in self.attributes:
                return str(self.attributes[name])
        return ""

    @property
    def body(self) -> dict[str, Any]:
        """Its fields, as they are stored: `Span(**body)` is the span again."""
        return {name: getattr(self, name) for name in self.__slots__}


class TraceBook:
    """How many spans of each kind a trace holds, and which of the next ones still find room."""

    def __init__(self, names: Mapping[str, int] | None = None, *, closed: bool = False) -> None:
        self.names = dict(names or {})
        self._total = sum(self.names.values())
        self._closed = closed  # it was decided that the trace is not kept

    def takes(self, span: Span) -> bool:
        """Count the span in and say True, or say False: there are enough of its kind, or of all, or none is kept."""
        kind = f"{span.service} {span.name}"
        if self._closed or self._total >= MAX_SPANS_PER_TRACE or self.names.get(kind, 0) >= MAX_SPANS_PER_NAME:
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


def nested(nodes: Iterable[Node], shown: Callable[[Node], dict[str, Any]]) -> list[dict[str, Any]]:
    """A trace's nodes, in tree order, as roots that hold their `children`; `shown` says what is told of each."""
    roots: list[dict[str, Any]] = []
    path: list[list[dict[str, Any]]] = [roots]  # where a span of each depth goes
    for node in nodes:
        depth = min(node.depth, MAX_NESTED_DEPTH)
        del path[depth + 1 :]
        told = {**shown(node), "children": []}
        path[depth].append(told)
        path.append(told["children"])
    return roots
