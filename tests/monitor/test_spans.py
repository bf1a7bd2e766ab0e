"""Traces: whose they are, how they read as a tree, how much of them is kept, and what is counted."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.monitor.counting import DURATION, count, error_kind, series_of
from services.monitor.spans import (
    MAX_NESTED_DEPTH,
    MAX_SPANS_PER_NAME,
    MAX_SPANS_PER_TRACE,
    Span,
    TraceBook,
    nested,
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


def test_a_nested_trace_holds_every_span_under_its_parent() -> None:
    told = [
        span("late", "root", 5, 6),
        span("root", "", 1, 9),
        span("leaf", "early", 3, 4),
        span("early", "root", 2, 4),
    ]
    [root] = nested(tree(told), lambda node: {"id": node.span.span_id})
    assert root == {
        "id": "root",
        "children": [
            {"id": "early", "children": [{"id": "leaf", "children": []}]},
            {"id": "late", "children": []},
        ],
    }


def test_a_very_deep_trace_is_nested_only_so_far() -> None:
    [root] = nested(tree([span(str(n), str(n - 1)) for n in range(5000)]), lambda node: {"id": node.span.span_id})
    for _ in range(MAX_NESTED_DEPTH - 1):
        [root] = root["children"]
    assert len(root["children"]) == 5000 - MAX_NESTED_DEPTH


def test_a_trace_that_is_not_kept_takes_nothing() -> None:
    assert not TraceBook(closed=True).takes(span("a"))


def test_spans_are_counted_in_the_window_of_their_end() -> None:
    end = datetime(2026, 11, 1, 12, 59, 59, 900_000, UTC).timestamp()
    told = [
        span("a", start=end - 0.5, end=end),
        span("b", start=end - 0.7, end=end, name="a", failed=True, trace_id="slow"),
    ]
    [(key, tally)] = count(told).items()
    assert (key.measure, key.window_start) == (DURATION, datetime(2026, 11, 1, 12, 59, 50, tzinfo=UTC))
    assert (tally.spans, tally.errors) == (2, {"error": 1})
    assert tally.total == pytest.approx(1.2)
    [(longest, trace_id)] = tally.exemplars
    assert longest == pytest.approx(0.7)
    assert trace_id == "slow"


def test_a_span_is_counted_under_its_model_and_endpoint() -> None:
    attributes = {"sskai.tenant": "A", "gen_ai.request.model": "m", "sskai.model.version": 3, "sskai.endpoint": "e"}
    [series] = series_of(span("a", attributes=attributes))
    assert (series.tenant_id, series.model, series.model_version, series.endpoint_id) == ("A", "m", "3", "e")


@pytest.mark.parametrize(
    ("attributes", "job", "attempt"),
    [
        ({"sskai.job": "job_1", "sskai.attempt": 2}, "job_1", "2"),
        ({"sskai.subject": "job_1"}, "job_1", ""),
        ({"sskai.subject": "endpoint_1"}, None, None),
        ({}, None, None),
    ],
)
def test_what_works_for_a_job_is_counted_for_its_attempt_too(
    attributes: dict[str, Any], job: str | None, attempt: str | None
) -> None:
    of_service, *of_job = series_of(span("a", attributes=attributes))
    assert (of_service.job_id, of_service.attempt) == ("", "")
    assert [(one.job_id, one.attempt) for one in of_job] == ([(job, attempt)] if job else [])


def test_what_an_answer_took_is_counted_beside_its_duration() -> None:
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.usage.input_tokens": 12,
        "gen_ai.usage.output_tokens": 3,
        "gen_ai.usage.cache_read.input_tokens": 0,
        "gen_ai.server.time_to_first_token": 0.25,
        "sskai.queue_seconds": "no number",
        "sskai.batch_size": True,
    }
    counted = {key.measure: tally.total for key, tally in count([span("a", attributes=attributes)]).items()}
    assert counted == {
        DURATION: 1.0,
        "input_tokens": 12,
        "output_tokens": 3,
        "cached_tokens": 0,
        "time_to_first_token_seconds": 0.25,
    }


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({}, ""),
        ({"attributes": {"error.type": "timeout"}}, ""),
        ({"failed": True}, "error"),
        ({"failed": True, "attributes": {"error.type": "timeout", "http.response.status_code": 504}}, "timeout"),
        ({"failed": True, "attributes": {"http.response.status_code": 502}}, "502"),
        ({"failed": True, "events": [{"name": "x", "attributes": {"exception.type": "ValueError"}}]}, "ValueError"),
    ],
)
def test_an_errors_kind_is_the_first_word_that_says_it(fields: dict[str, Any], kind: str) -> None:
    assert error_kind(span("a", **fields)) == kind
