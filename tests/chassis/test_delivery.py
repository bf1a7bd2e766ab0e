"""Inbox, outbox, relay and claims on a real PostgreSQL: handled once, told for certain, worked on by one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime

import pytest
from sqlalchemy import select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from services.scheduler.store import JobRow, Store
from sskai import claims, contract, delivery
from sskai.database import Database
from sskai.events import v1 as events
from sskai.testing import InMemoryBus, envelope, handle, wait_for

SERVICE = "scheduler"  # any service's schema will do


class PlainStore:
    def __init__(self, session: AsyncSession) -> None:
        self.session = session


async def answer(event: events.JobSubmitted, store: PlainStore, now: datetime) -> list[object]:
    return [events.JobHeld(job_id=event.job_id, rule="quota", held_at=now)]


class Listener:
    """A publisher that can be made to fail."""

    def __init__(self) -> None:
        self.heard: list[contract.Envelope] = []
        self.fail = False

    async def publish_all(self, envelopes: Iterable[contract.Envelope]) -> None:
        if self.fail:
            raise ConnectionError("the broker is away")
        self.heard += list(envelopes)


async def test_an_event_delivered_twice_is_handled_once(database: Database) -> None:
    event = envelope(events.JobSubmitted(job_id="j"))
    handlers = {events.JobSubmitted: answer}
    told = [await handle(handlers, database, PlainStore, event) for _ in range(3)]
    assert [len(one) for one in told] == [1, 0, 0]
    listener = Listener()
    assert await delivery.Relay(database, listener).publish_batch() == 1
    assert listener.heard[0].message.job_id == "j"


async def test_ten_deliveries_at_the_same_time_are_handled_once(database: Database) -> None:
    event = envelope(events.JobSubmitted(job_id="j"))
    told = await asyncio.gather(
        *(handle({events.JobSubmitted: answer}, database, PlainStore, event) for _ in range(10))
    )
    assert sum(len(one) for one in told) == 1


async def test_a_handler_that_fails_leaves_nothing(database: Database) -> None:
    async def fails(event: events.JobSubmitted, store: PlainStore, now: datetime) -> list[object]:
        await delivery.tell(store.session, events.JobHeld(job_id="half"))
        raise ZeroDivisionError

    event = envelope(events.JobSubmitted(job_id="j"))
    with pytest.raises(ZeroDivisionError):
        await handle({events.JobSubmitted: fails}, database, PlainStore, event)
    assert await delivery.Relay(database, Listener()).publish_batch() == 0
    assert len(await handle({events.JobSubmitted: answer}, database, PlainStore, event)) == 1, "it may come again"


async def test_an_event_that_kafka_would_refuse_rolls_the_transaction_back(database: Database) -> None:
    with pytest.raises(ValueError, match="limit"):
        async with database.transaction() as session:
            await delivery.tell(session, events.JobHeld(job_id="j", detail="x" * 2_000_000))
    assert await delivery.Relay(database, Listener()).publish_batch() == 0


async def test_the_relay_survives_a_broker_that_is_away_and_keeps_the_order(database: Database) -> None:
    listener = Listener()
    listener.fail = True
    stopping = asyncio.Event()
    task = asyncio.create_task(delivery.Relay(database, listener).run(stopping))
    for number in range(1, 4):
        async with database.transaction() as session:
            await delivery.tell(session, events.JobRequeued(job_id="j", attempt=number))
    listener.fail = False
    await wait_for(lambda: len(listener.heard) == 3)
    async with database.transaction() as session:
        await delivery.tell(session, events.JobRequeued(job_id="j", attempt=4))
    await wait_for(lambda: len(listener.heard) == 4)
    assert [one.message.attempt for one in listener.heard] == [1, 2, 3, 4]
    assert len({one.id for one in listener.heard}) == 4
    stopping.set()
    await asyncio.wait_for(task, 10)


async def test_of_two_relays_one_works_and_the_other_takes_over(database: Database) -> None:
    first, second = Listener(), Listener()
    stop_first, stop_second = asyncio.Event(), asyncio.Event()
    one = asyncio.create_task(delivery.Relay(database, first).run(stop_first))

    async def tell(number: int) -> None:
        async with database.transaction() as session:
            await delivery.tell(session, events.JobRequeued(job_id="j", attempt=number))

    await tell(1)
    await wait_for(lambda: first.heard)
    two = asyncio.create_task(delivery.Relay(database, second).run(stop_second))
    for number in range(2, 10):
        await tell(number)
    await wait_for(lambda: len(first.heard) == 9)
    assert not second.heard
    stop_first.set()
    await one
    await tell(10)
    await wait_for(lambda: second.heard)
    stop_second.set()
    await two


async def test_old_inbox_rows_are_forgotten(database: Database) -> None:
    await handle({events.JobSubmitted: answer}, database, PlainStore, events.JobSubmitted(job_id="j"))
    async with database.transaction() as session:
        await session.execute(text("UPDATE scheduler.inbox SET handled_at = now() - interval '8 days'"))
    await delivery.forget_old_events(database)
    async with database.transaction() as session:
        assert await session.scalar(text("SELECT count(*) FROM scheduler.inbox")) == 0


async def test_the_trace_goes_along(database: Database) -> None:
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider

    if not isinstance(trace.get_tracer_provider(), TracerProvider):
        trace.set_tracer_provider(TracerProvider())
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    event = envelope(events.JobSubmitted(job_id="j"), traceparent=f"00-{trace_id}-00f067aa0ba902b7-01")
    await handle({events.JobSubmitted: answer}, database, PlainStore, event)
    listener = Listener()
    await delivery.Relay(database, listener).publish_batch()
    assert trace_id in (listener.heard[0].traceparent or "")


async def test_the_in_memory_bus_settles_and_notices_endless_talk(database: Database) -> None:
    bus = InMemoryBus()
    bus.connect(database, {events.JobSubmitted: answer}, PlainStore)
    await bus.publish(events.JobSubmitted(job_id="j"))
    await bus.settle()
    assert [type(message).__name__ for message in bus.told] == ["JobSubmitted", "JobHeld"]

    async def echo(event: events.JobHeld, store: PlainStore, now: datetime) -> list[object]:
        return [event]

    bus.connect(database, {events.JobHeld: echo}, PlainStore)
    await bus.publish(events.JobSubmitted(job_id="k"))
    with pytest.raises(AssertionError, match="for ever"):
        await bus.settle(limit=50)


async def some_jobs(database: Database, count: int) -> None:
    from services.scheduler.transitions import submitted

    async with database.transaction() as session:
        for number in range(count):
            event = events.JobSubmitted(job_id=f"job_{number}", tenant_id="t")
            await Store(session).save(submitted(event, datetime.now(UTC), ""))
        await session.execute(update(JobRow).values(due_at=datetime(2020, 1, 1, tzinfo=UTC)))


async def test_claims_never_overlap(database: Database) -> None:
    await some_jobs(database, 20)
    batches = await asyncio.gather(*(claims.claim(database, JobRow, limit=4) for _ in range(8)))
    taken = [row.job_id for batch in batches for row in batch]
    assert len(taken) == len(set(taken)) == 20


async def test_a_lease_that_ran_out_drops_the_result(database: Database) -> None:
    await some_jobs(database, 1)
    (slow,) = await claims.claim(database, JobRow, lease_seconds=0)
    (quick,) = await claims.claim(database, JobRow, lease_seconds=30)
    async with database.transaction() as session:
        assert not await claims.release(session, slow, due_in_seconds=None, checkpoint_uri="from the zombie")
        assert await claims.release(session, quick, due_in_seconds=None, checkpoint_uri="s3://sskai/a")
    async with database.transaction() as session:
        row = await session.scalar(select(JobRow))
        assert row is not None
        assert (row.checkpoint_uri, row.due_at, row.lease_token) == ("s3://sskai/a", None, None)
    assert await claims.claim(database, JobRow) == []


async def test_a_claim_is_held_as_long_as_it_is_renewed(database: Database) -> None:
    await some_jobs(database, 1)
    (mine,) = await claims.claim(database, JobRow, lease_seconds=0)
    assert await claims.renew(database, mine, 30)
    assert await claims.claim(database, JobRow) == []
    assert await claims.renew(database, mine, 0)
    (theirs,) = await claims.claim(database, JobRow, lease_seconds=30)
    assert not await claims.renew(database, mine, 30)
    assert await claims.renew(database, theirs, 30)
