"""Figures on a real database: whatever the order, the lateness and the clocks, each span is in every total once."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from sqlalchemy import text

from services.monitor import cells
from services.monitor.cells import Cells
from services.monitor.counting import DURATION, RETENTION, WINDOWS_SECONDS, Series, count
from services.monitor.housekeeping import forget, learn_usual_durations, roll_up, sample_traces
from services.monitor.ingest import Sampler
from services.monitor.sampling import Sampling
from services.monitor.sketches import Tally
from services.monitor.span_store import SpanStore
from services.monitor.spans import Span
from sskai.database import Database

SERVICE = "monitor"
NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
EVER = (NOW - timedelta(days=800), datetime.now(UTC) + timedelta(days=2))


def span(
    number: int, at: datetime = NOW, *, seconds: float = 0.1, name: str = "work", job: str = "", **more: str
) -> Span:
    ended_ns = int(at.timestamp() * 1e9)
    attributes: dict[str, str] = {"sskai.tenant": "A", **({"sskai.job": job} if job else {})}
    return Span(
        trace_id=more.get("trace_id", f"{number:032x}"),
        span_id=f"{number:016x}",
        parent_span_id="",
        service="gateway",
        name=name,
        kind="server",
        started_ns=ended_ns - int(seconds * 1e9),
        ended_ns=ended_ns,
        failed=number % 10 == 0,
        attributes=attributes,
    )


async def add(database: Database, *spans: Span) -> None:
    async with database.transaction() as session:
        await SpanStore(session).add(spans, NOW)


async def total(database: Database, window_seconds: int) -> Tally:
    async with database.transaction() as session:
        found = await Cells(session).answer("A", window_seconds, *EVER, group_by=["service"], whole=True)
    assert len(found) <= 1
    return next(iter(found.values()), Tally())


async def roll(database: Database, now: datetime) -> None:
    for window_seconds in WINDOWS_SECONDS[:-1]:
        async with database.transaction() as session:
            await Cells(session).roll_up(window_seconds, now, RETENTION)


async def rows(database: Database) -> dict[tuple[int, bool], int]:
    async with database.transaction() as session:
        found = await session.execute(text("SELECT window_seconds, rolled, count(*) FROM monitor.cells GROUP BY 1, 2"))
        return {(window_seconds, rolled): number for window_seconds, rolled, number in found}


def told(tally: Tally) -> tuple[int, int, dict[int, int], float]:
    return tally.spans, tally.failed, tally.counts, round(tally.total, 6)


async def test_windows_of_every_length_say_the_same_before_and_after_they_are_rolled(database: Database) -> None:
    dice = random.Random(7)
    spans = [
        span(n, NOW - timedelta(seconds=dice.uniform(0, 10 * 3600)), seconds=dice.expovariate(1)) for n in range(1, 401)
    ]
    await add(database, *spans[:300])
    first = told(await total(database, 10))
    assert first[:2] == (300, 30)
    for hours in (0, 1, 30):
        await roll(database, NOW + timedelta(hours=hours))
        assert [told(await total(database, window)) for window in WINDOWS_SECONDS[1:]] == [first] * 3
    await add(database, *spans[250:])  # late ones, some of them again
    every = told(await total(database, 86_400))
    assert every[:2] == (400, 40)
    await roll(database, NOW + timedelta(hours=30))
    assert [told(await total(database, window)) for window in WINDOWS_SECONDS[1:]] == [every] * 3


async def test_late_spans_leave_no_trail_of_rows(database: Database) -> None:
    for n in range(1, 31):
        await add(database, span(n, NOW - timedelta(hours=30)))
        await roll(database, NOW)
    assert (await total(database, 86_400)).spans == 30
    # Windows of 10 s from back then are past their time, so they are not written again.
    assert await rows(database) == {(60, True): 1, (3600, True): 1, (86_400, False): 1}


async def test_a_window_that_is_not_over_stays_as_it_is(database: Database) -> None:
    await add(database, span(1, NOW), span(2, NOW - timedelta(hours=2)))
    await roll(database, NOW + timedelta(seconds=30))
    assert await rows(database) == {(10, False): 1, (60, True): 1, (3600, False): 1}
    await roll(database, NOW + timedelta(minutes=2, seconds=1))
    assert (await rows(database))[(10, True)] == 1
    assert [(await total(database, window)).spans for window in WINDOWS_SECONDS[1:]] == [2, 2, 2]


@pytest.mark.parametrize("seed", range(3))
async def test_clocks_duplicates_and_order_change_no_total(database: Database, seed: int) -> None:
    dice = random.Random(seed)
    spans = [span(n, NOW - timedelta(seconds=dice.uniform(0, 600)), seconds=dice.uniform(0, 3)) for n in range(1, 201)]
    skewed = [
        span(n, NOW + timedelta(seconds=dice.uniform(-300, 300)), seconds=one.seconds) for n, one in enumerate(spans, 1)
    ]
    sent = [*skewed, *dice.sample(skewed, 100)]
    dice.shuffle(sent)
    batches = [sent[start : start + 25] for start in range(0, len(sent), 25)]
    for first, second in zip(batches[::2], batches[1::2], strict=True):
        await asyncio.gather(add(database, *first), add(database, *second))
        await roll(database, NOW + timedelta(seconds=dice.uniform(0, 600)))
    expected = Tally()
    for tally in count(spans).values():
        expected.merge(tally)
    assert [told(await total(database, window)) for window in WINDOWS_SECONDS] == [told(expected)] * 4


async def test_rolling_and_writing_at_once_lose_nothing(database: Database) -> None:
    async def write(first: int) -> None:
        for n in range(first, first + 10):
            await add(database, span(n, NOW - timedelta(hours=3)))

    await asyncio.gather(*(write(n * 100 + 1) for n in range(5)), *(roll(database, NOW) for _ in range(5)))
    await roll(database, NOW)
    assert [(await total(database, window)).spans for window in WINDOWS_SECONDS[1:]] == [50] * 3


async def test_the_loop_rolls_what_is_over_by_now(database: Database) -> None:
    await add(database, span(1, datetime.now(UTC) - timedelta(hours=3)))
    await roll_up(database, RETENTION)
    assert (10, False) not in await rows(database)
    assert (await total(database, 3600)).spans == 1


async def test_a_job_is_counted_apart(database: Database) -> None:
    await add(database, *(span(n, job="job_1") for n in range(1, 6)), *(span(n) for n in range(6, 10)))
    assert (await total(database, 60)).spans == 9
    async with database.transaction() as session:
        found = await Cells(session).answer("A", 60, *EVER, group_by=["job_id"], labels={"service": "gateway"})
    assert [(group.labels, group.measure, tally.spans) for group, tally in found.items()] == [(("job_1",), DURATION, 5)]


async def test_beyond_the_limit_series_are_counted_together_and_old_jobs_forgotten(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cells, "MAX_SERIES", 3)
    monkeypatch.setattr(cells, "MAX_JOB_SERIES", 2)
    await add(database, *(span(n, name=f"name {n}", job=f"job_{n}") for n in range(1, 8)))
    assert (await total(database, 60)).spans == 7
    async with database.transaction() as session:
        by_name = await Cells(session).answer("A", 60, *EVER, group_by=["name"])
        by_job = await Cells(session).answer("A", 60, *EVER, group_by=["job_id"])
    assert sorted((group.labels[0], tally.spans) for group, tally in by_name.items()) == [
        ("(other)", 4), ("name 1", 1), ("name 2", 1), ("name 3", 1)
    ]  # fmt: skip
    assert sum(tally.spans for tally in by_job.values()) == 7
    await forget(database, 7, 10**6, {window: timedelta(days=10_000) for window in WINDOWS_SECONDS})
    async with database.transaction() as session:
        by_job = await Cells(session).answer("A", 60, *EVER, group_by=["job_id"])
    assert len(by_job) == 2
    assert (await total(database, 60)).spans == 7


async def test_windows_are_forgotten_after_their_time_but_not_before_they_are_summed_up(database: Database) -> None:
    await add(database, span(1, NOW - timedelta(hours=1)))
    async with database.transaction() as session:
        await Cells(session).forget(NOW + timedelta(days=3), RETENTION)
    assert await rows(database) == {(10, False): 1}
    await roll(database, NOW + timedelta(minutes=30))
    async with database.transaction() as session:
        await Cells(session).forget(NOW + timedelta(days=3), RETENTION)
    assert await rows(database) == {(3600, False): 1}
    await roll(database, NOW + timedelta(days=2))
    async with database.transaction() as session:
        await Cells(session).forget(NOW + timedelta(days=1000), RETENTION)
        series = await session.scalar(text("SELECT count(*) FROM monitor.series"))
    assert (await rows(database), series) == ({}, 0)


async def test_sampling_drops_what_is_unremarkable_and_no_figure(database: Database) -> None:
    sampler = Sampler(Sampling(fraction=0.0))
    remarkable = [span(10), span(11, seconds=60), span(12, job="job_1")]  # the tenth of this module's spans fails
    ordinary = [span(n) for n in range(101, 110)]

    async def take(*spans: Span) -> None:
        async with database.transaction() as session:
            await SpanStore(session).add(spans, datetime.now(UTC), sampler.sampling)

    async def kept() -> list[int]:
        async with database.transaction() as session:
            store = SpanStore(session)
            return [n for n in range(1, 200) if (await store.trace(f"{n:032x}"))[0]]

    # What is usual is learnt from what came before, here a minute ago.
    recent = datetime.now(UTC) - timedelta(minutes=1)
    await take(*(span(n, recent) for n in range(1001, 1060)))
    await learn_usual_durations(database, sampler)
    usual = dict(sampler.sampling.usual_seconds or {})
    assert list(usual) == [Series("A", "gateway", "work")]
    assert list(usual.values()) == pytest.approx([0.1], rel=0.025)
    await take(*remarkable, *ordinary)
    await sample_traces(database, sampler, quiet_seconds=60)
    assert len(await kept()) == 12  # nothing is quiet yet
    await sample_traces(database, sampler, quiet_seconds=0)
    assert await kept() == [10, 11, 12]
    before = told(await total(database, 60))
    await take(*ordinary)
    assert told(await total(database, 60)) == before
    # A trace that was dropped and fails later is kept from then on.
    await take(span(110, trace_id=f"{101:032x}"))
    await sample_traces(database, sampler, quiet_seconds=0)
    assert await kept() == [10, 11, 12, 101]
    async with database.transaction() as session:
        assert await SpanStore(session).kept_among([f"{n:032x}" for n in (10, 101, 102)]) == {
            f"{10:032x}", f"{101:032x}"
        }  # fmt: skip


def test_each_window_is_a_whole_number_of_the_one_before() -> None:
    assert all(longer % shorter == 0 for shorter, longer in pairwise(WINDOWS_SECONDS))
    assert set(RETENTION) == set(WINDOWS_SECONDS)
    assert list(RETENTION.values()) == sorted(RETENTION.values())
