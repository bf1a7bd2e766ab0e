"""Inbox, outbox, relay and claims on a real PostgreSQL: handled once, told for certain, worked on by one."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, tzinfo

import pytest
from google.protobuf.message import Message
from sqlalchemy import select, text, update
from sqlalchemy.exc import IntegrityError
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


async def test_an_answer_that_cannot_be_told_undoes_what_was_done(database: Database) -> None:
    """Once the inbox row stands the event is not handled again: what it makes must stand with it."""

    async def too_long(event: events.JobSubmitted, store: PlainStore, now: datetime) -> list[object]:
        return [events.JobHeld(job_id=event.job_id, detail="x" * 2_000_000)]

    event = envelope(events.JobSubmitted(job_id="j"))
    with pytest.raises(ValueError, match="limit"):
        await handle({events.JobSubmitted: too_long}, database, PlainStore, event)
    assert await rows_of(database, "inbox") == 0
    assert len(await handle({events.JobSubmitted: answer}, database, PlainStore, event)) == 1


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


async def test_a_lease_that_ran_out_lets_go_of_nothing(database: Database) -> None:
    await some_jobs(database, 1)
    (slow,) = await claims.claim(database, JobRow, lease_seconds=0)
    (quick,) = await claims.claim(database, JobRow, lease_seconds=30)
    async with database.transaction() as session:
        assert not await claims.release(session, slow, due_in_seconds=0)
    assert await claims.claim(database, JobRow) == [], "it is the other's"
    async with database.transaction() as session:
        assert await claims.release(session, quick, due_in_seconds=0)
    (again,) = await claims.claim(database, JobRow, lease_seconds=30)
    async with database.transaction() as session:
        assert await claims.release(session, again, due_in_seconds=3600)
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


class WrongClock(datetime):
    """That of a process, so many minutes behind the database's."""

    minutes = 0

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        return datetime.now(tz) - timedelta(minutes=cls.minutes)


@pytest.mark.parametrize("minutes", [10, -10])
async def test_leases_are_decided_by_the_databases_clock_alone(
    database: Database, monkeypatch: pytest.MonkeyPatch, minutes: int
) -> None:
    monkeypatch.setattr(WrongClock, "minutes", minutes)
    monkeypatch.setattr(claims, "datetime", WrongClock)
    await some_jobs(database, 1)
    (mine,) = await claims.claim(database, JobRow, lease_seconds=60)
    assert await claims.claim(database, JobRow) == []
    assert await claims.renew(database, mine, 60)
    assert await claims.claim(database, JobRow) == []
    assert await claims.renew(database, mine, 0)
    (theirs,) = await claims.claim(database, JobRow, lease_seconds=60)
    async with database.transaction() as session:
        assert await claims.release(session, theirs, due_in_seconds=0)
    assert len(await claims.claim(database, JobRow)) == 1


async def test_work_may_take_longer_than_its_lease(database: Database) -> None:
    await some_jobs(database, 1)
    (mine,) = await claims.claim(database, JobRow, lease_seconds=2)
    first = mine.lease_until
    assert first is not None

    async def renewed() -> bool:
        async with database.transaction() as session:
            until: datetime | None = await session.scalar(select(JobRow.lease_until))
        assert until is not None
        return until > first + timedelta(seconds=2)

    async with claims.held(database, mine, 2) as lost:
        await wait_for(renewed, limit_seconds=30)
        assert await claims.claim(database, JobRow) == []
        assert not lost.is_set()
        async with database.transaction() as session:
            assert await claims.release(session, mine, due_in_seconds=0)
        await wait_for(lost.is_set, limit_seconds=30)
    (theirs,) = await claims.claim(database, JobRow, lease_seconds=30)
    assert theirs.lease_token != mine.lease_token


class Failing:
    """Handlers of which some events are poison, and how often each was tried."""

    def __init__(self, *poison: str) -> None:
        self.poison, self.tried = poison, Counter[str]()

    async def __call__(self, event: events.JobSubmitted, store: PlainStore, now: datetime) -> list[object]:
        self.tried[event.job_id] += 1
        if event.job_id in self.poison:
            raise ZeroDivisionError(event.job_id)
        return await answer(event, store, now)


async def rows_of(database: Database, table: str) -> int:
    async with database.transaction() as session:
        return int(await session.scalar(text(f"SELECT count(*) FROM scheduler.{table}")) or 0)


@pytest.fixture(autouse=True)
def time_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Events together are all done by one call, however slow the machine is."""
    monkeypatch.setattr(delivery, "TOGETHER_SECONDS", 60)


async def together(database: Database, handler: object, *some: contract.Envelope) -> list[list[Message] | None]:
    handlers = {events.JobSubmitted: handler}
    return await delivery.handle_together(database, handlers, PlainStore, some, datetime.now(UTC))  # type: ignore[arg-type]


def submitted_jobs(count: int) -> list[contract.Envelope]:
    return [envelope(events.JobSubmitted(job_id=f"j{number}")) for number in range(count)]


async def test_events_together_are_told_in_their_order(database: Database) -> None:
    async def twice(event: events.JobSubmitted, store: PlainStore, now: datetime) -> list[object]:
        await delivery.tell(store.session, events.JobHeld(job_id=event.job_id, rule="first"))
        return [events.JobHeld(job_id=event.job_id, rule="second")]

    some = submitted_jobs(30)
    assert len(await together(database, twice, *some)) == 30
    listener = Listener()
    assert await delivery.Relay(database, listener).publish_batch() == 60
    told = [(one.message.job_id, one.message.rule) for one in listener.heard]
    assert told == [(one.key, rule) for one in some for rule in ("first", "second")]
    assert await rows_of(database, "outbox") == 0


async def test_an_event_that_comes_twice_together_or_again_is_handled_once(database: Database) -> None:
    first, second, third = submitted_jobs(3)
    handler = Failing()
    told = await together(database, handler, first, second, first)
    assert [one is None for one in told] == [False, False, True]
    told = await together(database, handler, second, third, first)
    assert [one is None for one in told] == [True, False, True]
    assert handler.tried == {"j0": 1, "j1": 1, "j2": 1}
    assert await rows_of(database, "outbox") == 3


async def test_nothing_of_events_together_stands_when_one_of_them_fails(database: Database) -> None:
    some = submitted_jobs(5)
    with pytest.raises(contract.TogetherError) as failed:
        await together(database, Failing("j3"), *some)
    assert failed.value.index == 3
    assert isinstance(failed.value.__cause__, ZeroDivisionError)
    assert (await rows_of(database, "inbox"), await rows_of(database, "outbox")) == (0, 0)
    assert None not in await together(database, Failing(), *some), "all of them may come again"


async def test_what_takes_too_long_together_is_left_to_the_next_time(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "TOGETHER_SECONDS", 0)
    some = submitted_jobs(4)
    assert len(await together(database, answer, *some)) == 1
    assert await rows_of(database, "inbox") == 1
    assert await together(database, answer, *some[1:]) != [None]
    assert await rows_of(database, "outbox") == 2


async def test_a_commit_that_never_comes_leaves_nothing_of_events_together(database: Database) -> None:
    """As when the process is killed, or its partition taken away, in the middle of them."""
    reached, some = asyncio.Event(), submitted_jobs(3)

    async def hangs(event: events.JobSubmitted, store: PlainStore, now: datetime) -> list[object]:
        if event.job_id == "j2":
            reached.set()
            await asyncio.Event().wait()
        return await answer(event, store, now)

    task = asyncio.create_task(together(database, hangs, *some))
    await asyncio.wait_for(reached.wait(), 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await rows_of(database, "inbox"), await rows_of(database, "outbox")) == (0, 0)
    assert None not in await together(database, answer, *some)


async def test_answers_of_events_together_that_cannot_be_written_undo_all_of_them(database: Database) -> None:
    some = submitted_jobs(3)
    async with database.transaction() as session:
        await session.execute(text("ALTER TABLE scheduler.outbox ADD CONSTRAINT closed CHECK (false)"))
    with pytest.raises(IntegrityError):
        await together(database, answer, *some)
    assert await rows_of(database, "inbox") == 0
    async with database.transaction() as session:
        await session.execute(text("ALTER TABLE scheduler.outbox DROP CONSTRAINT closed"))
    assert None not in await together(database, answer, *some)
    assert await rows_of(database, "outbox") == 3


async def test_two_members_with_the_same_events_handle_each_once(database: Database) -> None:
    """A rebalance: the old member is not done yet when the new one begins with the same records, in another order."""
    some, handler = submitted_jobs(40), Failing()
    told = await asyncio.gather(
        together(database, handler, *some), together(database, handler, *reversed(some)), return_exceptions=True
    )
    assert [one for one in told if isinstance(one, BaseException)] == []
    assert sum(answers is not None for one in told if isinstance(one, list) for answers in one) == 40
    assert await rows_of(database, "outbox") == 40


async def test_events_together_read_nothing_that_is_old(database: Database) -> None:
    """What one event has read and another process has changed meanwhile, the next one reads anew."""
    await some_jobs(database, 1)
    seen: list[str] = []

    async def reads(_event: events.JobSubmitted, store: PlainStore, _now: datetime) -> list[object]:
        row = await store.session.scalar(select(JobRow))
        assert row is not None
        seen.append(row.checkpoint_uri)
        async with database.transaction() as other:
            await other.execute(update(JobRow).values(checkpoint_uri="s3://newer"))
        return []

    await together(database, reads, *submitted_jobs(2))
    assert seen[1] == "s3://newer" != seen[0]
