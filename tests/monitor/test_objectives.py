"""Broken promises: when one is told, how often, and when it is over; by tables, for any history, and on a database."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from services.monitor.handlers import HANDLERS
from services.monitor.objective_loop import watch_objectives
from services.monitor.objectives import (
    BUDGET_SECONDS,
    MIN_ANSWERS,
    PERIODS_SECONDS,
    RELEASE_FRACTION,
    RULES,
    Quality,
    Verdict,
    judge,
    quality,
    severity,
)
from services.monitor.sketches import Tally
from services.monitor.span_store import SpanStore
from services.monitor.spans import Span
from services.monitor.store import Store
from services.monitor.tables import ObjectiveRow
from sskai.contract import timestamp
from sskai.database import Database
from sskai.events import v1 as events
from sskai.testing import InMemoryBus

SERVICE = "monitor"
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
FAST, SLOW, CREEPING = (rule.name for rule in RULES)
TARGET = 0.99
M5, M30, H1, H6, D3, D30 = PERIODS_SECONDS


def windows(**bad_fractions: float) -> dict[int, Quality]:
    """1,000 answers in each window, of which these shares are bad: by the names above, in lower case."""
    names = {"m5": M5, "m30": M30, "h1": H1, "h6": H6, "d3": D3, "d30": D30}
    return {seconds: Quality(1_000, round(1_000 * bad_fractions.get(name, 0))) for name, seconds in names.items()}


def test_the_rules_are_those_of_the_book() -> None:
    """Each spends the book's share of the budget before it fires: 2 %, 5 % and 10 % of 30 days."""
    spent = [rule.burn_rate * rule.long_seconds / BUDGET_SECONDS for rule in RULES]
    assert spent == pytest.approx([0.02, 0.05, 0.10])
    assert [rule.long_seconds / rule.short_seconds for rule in RULES] == [12, 12, 12]


@pytest.mark.parametrize(
    ("observed", "holding", "told"),
    [
        (windows(), set(), None),
        (windows(m5=0.2), set(), None),  # too short to matter
        (windows(h1=0.2), set(), None),  # over already
        (windows(m5=0.143, h1=0.143), set(), None),
        (windows(m5=0.145, h1=0.145), {FAST}, "page"),
        (windows(m5=1, h1=0.15), {FAST}, "page"),
        (windows(m30=0.06, h6=0.07), {SLOW}, "page"),
        (windows(h6=0.01, d3=0.01), {CREEPING}, "ticket"),
        (windows(m5=1, m30=1, h1=1, h6=1, d3=1), {FAST, SLOW, CREEPING}, "page"),
        ({**windows(m5=1), H1: Quality(MIN_ANSWERS - 1, MIN_ANSWERS - 1)}, set(), None),  # nearly nobody asked
        ({**windows(m5=1), H1: Quality(MIN_ANSWERS, 1)}, set(), None),
    ],
)
def test_when_a_promise_is_broken(observed: dict[int, Quality], holding: set[str], told: str | None) -> None:
    verdict = judge(TARGET, observed, {}, NOW)
    assert set(verdict.breached) == holding
    assert (verdict.told.rule.severity if verdict.told else None) == told
    assert verdict.recovered_from is None


@pytest.mark.parametrize(
    ("before", "observed", "holding", "told", "recovered"),
    [
        ({FAST}, windows(m5=0.2, h1=0.2), {FAST}, None, False),  # told before
        ({FAST}, windows(m5=0.13, h1=0.2), {FAST}, None, False),  # a little better is not over
        ({FAST}, windows(m5=0.11, h1=0.2), set(), None, True),
        ({FAST}, windows(m5=0.2, h1=0.1), set(), None, True),
        ({FAST}, {**windows(h1=0.2), M5: Quality()}, {FAST}, None, False),  # nobody asks: nothing shows that it is over
        ({FAST}, windows(m5=0.11, h1=0.2, m30=0.1, h6=0.1), {SLOW}, None, False),  # another page goes on
        ({CREEPING}, windows(h6=0.01, d3=0.01, m5=0.2, h1=0.2), {CREEPING, FAST}, "page", False),  # graver
        ({FAST, CREEPING}, windows(h6=0.01, d3=0.01), {CREEPING}, None, False),  # less grave: not told again
        ({CREEPING}, windows(), set(), None, True),
    ],
)
def test_a_breach_is_told_once_and_ends_once(
    before: set[str], observed: dict[int, Quality], holding: set[str], told: str | None, recovered: bool
) -> None:
    since = {name: NOW - timedelta(hours=1) for name in before}
    verdict = judge(TARGET, observed, since, NOW)
    assert set(verdict.breached) == holding
    assert all(verdict.breached[name] == since[name] for name in holding & before)
    assert (verdict.told.rule.severity if verdict.told else None) == told
    assert (verdict.recovered_from == NOW - timedelta(hours=1)) is recovered


looks = st.lists(
    st.fixed_dictionaries(
        {seconds: st.integers(0, 400).flatmap(lambda n: st.builds(Quality, st.just(n), st.integers(0, n)))
         for seconds in PERIODS_SECONDS}
    ),
    max_size=12,
)  # fmt: skip


@given(looks, st.sampled_from([0.9, 0.95, 0.99, 0.999]))
def test_breaches_and_recoveries_take_turns_whatever_happens(history: list[dict[int, Quality]], target: float) -> None:
    breached: dict[str, datetime] = {}
    open_severity = ""
    for minute, observed in enumerate(history):
        verdict: Verdict = judge(target, observed, breached, NOW + timedelta(minutes=minute))
        if verdict.told:
            assert open_severity != "page", "a page is told once"
            assert verdict.told.rule.severity != open_severity
            assert verdict.told.burn_rate >= verdict.told.rule.burn_rate
            open_severity = verdict.told.rule.severity
        if verdict.recovered_from is not None:
            assert open_severity, "nothing was told that could be over"
            assert not verdict.told
            open_severity = ""
        breached = verdict.breached
        assert bool(breached) == bool(open_severity)
        # What ticks down from page to ticket stays open as a ticket would: a later page is told anew.
        open_severity = severity(breached)


@given(st.floats(0.15, 1), st.floats(0, 1))
def test_a_rule_lets_go_only_well_below_where_it_fires(first: float, second: float) -> None:
    held = judge(TARGET, {**windows(m5=first, h1=1)}, {}, NOW).breached
    kept = FAST in judge(TARGET, windows(m5=second, h1=1), held, NOW).breached
    assert kept == (round(1_000 * second) / 1_000 / (1 - TARGET) >= RELEASE_FRACTION * 14.4 - 1e-9)


def test_what_is_a_good_answer() -> None:
    tally = Tally()
    for seconds, error in [(0.1, ""), (0.5, ""), (3, ""), (0.1, "engine_error"), (0.1, "context_length_exceeded")]:
        tally.add(seconds, "t", error)
    assert quality(tally, None, None) == Quality(4, 1)  # what the asker did wrong is no answer
    assert quality(tally, "duration_seconds", 1.0) == Quality(5, 1)
    assert quality(Tally(), None, None).good_fraction == 1


def answer(number: int, *, error: str = "", endpoint_id: str = "endpoint_1", first_token: float = 0.1) -> Span:
    ended_ns = time.time_ns() - 30_000_000_000
    attributes: dict[str, Any] = {
        "sskai.tenant": "A",
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "support",
        "gen_ai.server.time_to_first_token": first_token,
    }
    if endpoint_id:
        attributes |= {"sskai.endpoint": endpoint_id, "sskai.model": "model_1"}
    if error:
        attributes["error.type"] = error
    return Span(
        trace_id=f"{number:032x}",
        span_id=f"{number:016x}",
        parent_span_id="",
        service="inference",
        name="chat support",
        kind="server",
        started_ns=ended_ns - 1_000_000,
        ended_ns=ended_ns,
        failed=bool(error),
        attributes=attributes,
    )


def promise(*objectives: dict[str, Any], at: datetime = NOW) -> events.EndpointObjectivesSet:
    return events.EndpointObjectivesSet(
        endpoint_id="endpoint_1",
        tenant_id="A",
        name="support",
        objectives=[events.EndpointObjectivesSet.Objective(**one) for one in objectives],
        set_at=timestamp(at),
    )


AVAILABLE = {"name": "availability", "target": 0.99}
QUICK = {"name": "time-to-first-token", "target": 0.95, "at_most_seconds": 0.5}


async def add(database: Database, *spans: Span) -> None:
    async with database.transaction() as session:
        await SpanStore(session).add(spans, datetime.now(UTC))


async def test_an_outage_is_told_once_and_its_end_once(database: Database) -> None:
    bus = InMemoryBus()
    bus.connect(database, HANDLERS, Store)
    await bus.publish(promise(AVAILABLE, QUICK))
    await bus.settle()
    await add(database, *(answer(n) for n in range(100)))
    await watch_objectives(database)
    await bus.settle()
    assert not [one for one in bus.told if isinstance(one, events.ObjectiveBreached)]
    # Half of them fail, some before an endpoint took them up; another tenant's endpoint of that name is not this one.
    await add(database, *(answer(n, error="engine_error") for n in range(100, 150)))
    await add(database, *(answer(n, error="loading", endpoint_id="") for n in range(150, 200)))
    for _ in range(3):
        await watch_objectives(database)
    await bus.settle()
    [breached] = [one for one in bus.told if isinstance(one, events.ObjectiveBreached)]
    assert (breached.endpoint_id, breached.tenant_id, breached.objective) == ("endpoint_1", "A", "availability")
    assert (breached.severity, breached.rule, breached.answers) == ("page", FAST, 200)
    assert [breached.value, breached.burn_rate] == pytest.approx([0.5, 50])
    # So many good answers that the short windows burn no more.
    await add(database, *(answer(n) for n in range(1_000, 14_000)))
    for _ in range(3):
        await watch_objectives(database)
    await bus.settle()
    [recovered] = [one for one in bus.told if isinstance(one, events.ObjectiveRecovered)]
    assert (recovered.objective, recovered.breached_at) == ("availability", breached.breached_at)
    assert len([one for one in bus.told if isinstance(one, events.ObjectiveBreached)]) == 1


async def test_slow_first_tokens_break_the_promise_of_quick_ones(database: Database) -> None:
    bus = InMemoryBus()
    bus.connect(database, HANDLERS, Store)
    await bus.publish(promise(AVAILABLE, QUICK))
    await bus.settle()
    await add(database, *(answer(n, first_token=2.0) for n in range(100)))
    await watch_objectives(database)
    await bus.settle()
    [breached] = [one for one in bus.told if isinstance(one, events.ObjectiveBreached)]
    assert (breached.objective, breached.value) == ("time-to-first-token", 0)


async def test_a_promise_takes_the_place_of_the_one_before_and_goes_with_its_endpoint(database: Database) -> None:
    bus = InMemoryBus()
    bus.connect(database, HANDLERS, Store)

    async def promised() -> list[tuple[str, float]]:
        await bus.settle()
        async with database.transaction() as session:
            rows = await session.scalars(select(ObjectiveRow).order_by(ObjectiveRow.objective))
            return [(row.objective, row.target) for row in rows]

    await bus.publish(promise(AVAILABLE, QUICK))
    assert await promised() == [("availability", 0.99), ("time-to-first-token", 0.95)]
    await bus.publish(promise({**AVAILABLE, "target": 0.9}, at=NOW + timedelta(minutes=2)))
    assert await promised() == [("availability", 0.9)]
    await bus.publish(promise(QUICK, at=NOW + timedelta(minutes=1)))  # an older wish, late
    assert await promised() == [("availability", 0.9)]
    await bus.publish(events.EndpointDeleted(endpoint_id="endpoint_1", tenant_id="B"))
    assert await promised() == [("availability", 0.9)]
    await bus.publish(events.EndpointDeleted(endpoint_id="endpoint_1", tenant_id="A"))
    assert await promised() == []
