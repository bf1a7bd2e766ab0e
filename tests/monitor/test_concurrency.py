"""Events of one job, endpoint or trace that come by several topics at once: on a real database, nobody misses any."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

from google.protobuf.message import Message
from sqlalchemy import select

from services.monitor import notices
from services.monitor.domain import Rules
from services.monitor.handlers import HANDLERS
from services.monitor.span_store import SpanStore
from services.monitor.spans import Span
from services.monitor.store import Store
from services.monitor.tables import JobRow, SpanRow
from sskai.contract import timestamp
from sskai.database import Database
from sskai.events import v1 as events
from sskai.testing import handle

SERVICE = "monitor"
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
STORE = partial(Store, rules=Rules())
IDS = [f"job_{number}" for number in range(20)]


async def side_by_side(database: Database, *lanes: Sequence[Message]) -> list[Message]:
    """Each lane in its order, as a topic's partition is read, and all lanes at once; what was told."""

    async def read(lane: Sequence[Message]) -> list[Message]:
        return [told for message in lane for told in await handle(HANDLERS, database, STORE, message, NOW)]

    return [told for lane in await asyncio.gather(*map(read, lanes)) for told in lane]


def spend(job_id: str, interval: int, nano_usd: int) -> events.SpendRecorded:
    return events.SpendRecorded(
        job_id=job_id,
        tenant_id="A",
        interval=interval,
        attempt=1,
        amount_nano_usd=nano_usd,
        started_at=timestamp(NOW),
        ended_at=timestamp(NOW + timedelta(seconds=60)),
    )


async def test_a_budget_and_its_spend_at_the_same_time_reach_every_threshold_once(database: Database) -> None:
    lanes: list[list[Message]] = []
    for place, job_id in enumerate(IDS):
        spec = events.JobSpec(budget_usd=1.0)
        submitted = events.JobSubmitted(job_id=job_id, tenant_id="A", spec=spec, submitted_at=timestamp(NOW))
        ended = events.JobCancelled(job_id=job_id, tenant_id="A", metered_intervals=2, ended_at=timestamp(NOW))
        both: list[list[Message]] = [[submitted, ended], [spend(job_id, 1, 600_000_000), spend(job_id, 2, 500_000_000)]]
        lanes += both if place % 2 else reversed(both)
    told = await side_by_side(database, *lanes)
    reached = sorted((fact.job_id, fact.fraction) for fact in told if isinstance(fact, events.BudgetThresholdReached))
    assert reached == sorted((job_id, fraction) for job_id in IDS for fraction in (0.5, 0.8, 1.0))
    async with database.transaction() as session:
        accounts = (await session.scalars(select(JobRow))).all()
    assert {(row.outcome, row.budget_nano_usd, row.budget_fraction_told) for row in accounts} == {
        ("cancelled", 1_000_000_000, 1.0)
    }


async def test_what_two_topics_tell_of_one_attempt_is_all_remembered(database: Database) -> None:
    lanes: list[list[Message]] = []
    for place, job_id in enumerate(IDS):
        lost = events.AttemptLost(job_id=job_id, tenant_id="A", attempt=1)
        step = events.AttemptProgressed(job_id=job_id, tenant_id="A", attempt=1, step=7, at=timestamp(NOW))
        requeued = events.JobRequeued(job_id=job_id, tenant_id="A", attempt=1, requeued_at=timestamp(NOW))
        both: list[list[Message]] = [[step, lost], [requeued]]
        lanes += both if place % 2 else reversed(both)
    await side_by_side(database, *lanes)
    async with database.transaction() as session:
        logs = [(await STORE(session).attempts(job_id))[0] for job_id in IDS]
    assert {(log.last_step, log.stopped, log.requeued) for log in logs} == {((7, NOW), True, True)}


async def test_of_drifts_told_at_the_same_time_one_is_answered_with_a_retrain(database: Database) -> None:
    ids = [f"endpoint_{number}" for number in range(10)]
    version = events.ModelVersionReady(
        model_id="model_1", tenant_id="A", version=1, job_id="job_1", ready_at=timestamp(NOW)
    )
    ready = [events.EndpointReady(endpoint_id=id_, tenant_id="A", model_id="model_1", version=1) for id_ in ids]
    await side_by_side(database, [version], ready)
    drifted = [
        events.DriftDetected(endpoint_id=id_, tenant_id="A", model_id="model_1", version=1, signal="s", test="t")
        for id_ in ids
        for _ in range(3)
    ]
    told = await side_by_side(database, *([drift] for drift in drifted))
    requests = [fact.endpoint_id for fact in told if isinstance(fact, events.RetrainRequested)]
    declined = [fact.rule for fact in told if isinstance(fact, events.RetrainDeclined)]
    assert (sorted(requests), declined) == (sorted(ids), ["in-flight"] * 20)


async def test_a_slower_replica_does_not_move_the_cursor_back(database: Database) -> None:
    async with database.transaction() as slow:
        assert await notices.cursor(slow, "local") == 0
        async with database.transaction() as quick:
            await notices.move_cursor(quick, "local", 20)
        await notices.move_cursor(slow, "local", 10)
    async with database.transaction() as session:
        assert await notices.cursor(session, "local") == 20


def span(trace: int, number: int) -> Span:
    return Span(
        trace_id=f"trace_{trace}",
        span_id=f"span_{number}",
        parent_span_id="",
        service="gateway",
        name="a",
        kind="internal",
        started_ns=0,
        ended_ns=1_000,
        attributes={},
    )


async def test_spans_are_taken_while_their_traces_are_forgotten(database: Database) -> None:
    """Every batch is about the same traces, and all of them are past their time at once."""

    async def add(number: int) -> int:
        async with database.transaction() as session:
            return (await SpanStore(session).add([span(trace, number) for trace in range(5)], NOW)).kept

    async def forget() -> int:
        async with database.transaction() as session:
            return await SpanStore(session).forget(NOW + timedelta(hours=1), timedelta(0), 1)

    await asyncio.gather(*(add(turn) if turn % 2 else forget() for turn in range(200)))
    await forget()
    async with database.transaction() as session:
        assert not (await session.scalars(select(SpanRow))).all()
