"""Traces: whose they are, how they read as a tree, how much of them is kept, and what is counted."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.monitor.sketches import Cell
from services.monitor.spans import (
    MAX_SPANS_PER_NAME,
    MAX_SPANS_PER_TRACE,
    Span,
    TraceBook,
    count,
    owner,
    tree,
    visible_to,
)

SECOND = 1_000_000_000


def span(id_: str, parent: str = "", start: float = 0, end: float = 1, tenant: str = "", **changes: Any) -> Span:
    fields: dict[str, Any] = {
        "trace_id": "t",
        "span_id": id_,
        "parent_span_id": parent,
        "service": "gateway",
        "name": id_,
        "kind": "internal",
        "started_ns": int(start * SECOND),
        "ended_ns": int(end * SECOND),
        "attributes": {"sskai.tenant": tenant} if tenant else {},
    }
    return Span(**fields | changes)


def test_a_tree_lists_parents_before_children_and_siblings_by_start() -> None:
    told = [
        span("late", "root", 5, 6),
        span("root", "", 1, 9),
        span("leaf", "early", 3, 4),
        span("early", "root", 2, 4),
    ]
    nodes = tree(told)
    assert [(node.span.span_id, node.depth) for node in nodes] == [("root", 0), ("early", 1), ("leaf", 2), ("late", 1)]
    assert [node.start_offset_seconds for node in nodes] == [0, 1, 2, 4]


def test_a_span_whose_parent_is_missing_is_a_root() -> None:
    assert [node.depth for node in tree([span("a", "elsewhere"), span("b", "a")])] == [0, 1]


@given(
    st.integers(1, 30).flatmap(
        lambda n: st.lists(st.tuples(st.integers(-1, n), st.integers(0, 100)), min_size=n, max_size=n)
    )
)
def test_every_span_stands_in_the_tree_once_whatever_its_parent_says(links: list[tuple[int, int]]) -> None:
    spans = [span(str(n), str(parent), start, start) for n, (parent, start) in enumerate(links)]
    assert Counter(node.span.span_id for node in tree(spans)) == Counter(one.span_id for one in spans)


def test_a_very_deep_trace_is_no_problem() -> None:
    assert tree([span(str(n), str(n - 1)) for n in range(5000)])[-1].depth == 4999


@pytest.mark.parametrize(
    ("spans", "tenant"),
    [
        ([], None),
        ([span("a")], None),
        ([span("a", tenant="A")], "A"),
        ([span("a"), span("b", "a", tenant="A")], "A"),
        ([span("a", tenant="A"), span("b", "a", tenant="B")], "A"),
        ([span("a", tenant="A"), span("b", tenant="B")], None),
        ([span("a"), span("b", "a", tenant="A"), span("c", "a", tenant="B")], None),
    ],
)
def test_a_trace_belongs_to_the_tenant_of_its_roots(spans: list[Span], tenant: str | None) -> None:
    assert owner(spans) == tenant


def test_a_tenant_sees_its_own_trace_without_what_names_another() -> None:
    spans = [span("a", tenant="A"), span("b", "a"), span("c", "a", tenant="B")]
    assert [one.span_id for one in visible_to("A", spans)] == ["a", "b"]
    assert visible_to("B", spans) == [] == visible_to("", spans)


def test_repeated_spans_leave_room_for_the_rest_of_the_story() -> None:
    book = TraceBook()
    heartbeats = [book.takes(span(str(n), name="heartbeat")) for n in range(10_000)]
    assert sum(heartbeats) == MAX_SPANS_PER_NAME
    assert book.takes(span("x", name="deploy"))
    assert not TraceBook({"gateway a": MAX_SPANS_PER_TRACE}).takes(span("x", name="deploy"))


def test_spans_are_counted_by_minute_and_hour_of_their_end() -> None:
    end = datetime(2026, 11, 1, 12, 59, 59, 900_000, UTC).timestamp()
    told = [span("a", start=end - 0.5, end=end), span("b", start=end - 0.5, end=end, name="a", failed=True)]
    cells = count(told)
    assert {(key.window_seconds, key.window_start.strftime("%H:%M")): cell for key, cell in cells.items()} == {
        (60, "12:59"): Cell(2, 1, pytest.approx(1.0)),
        (3600, "12:00"): Cell(2, 1, pytest.approx(1.0)),
    }


def test_a_span_is_counted_under_its_model_and_endpoint() -> None:
    attributes = {"sskai.tenant": "A", "gen_ai.request.model": "m", "sskai.model.version": 3, "sskai.endpoint": "e"}
    series = span("a", attributes=attributes).series
    assert (series.tenant_id, series.model, series.model_version, series.endpoint_id) == ("A", "m", "3", "e")
