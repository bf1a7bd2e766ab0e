"""The bus on a real Kafka: order, retries, dead letters, rebalances, and a broker that is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from sskai import bus, contract
from sskai.bus import Consumer, Incoming, Publisher, UnavailableError
from sskai.events import v1 as events
from sskai.testing import envelope, wait_for

TOPIC = "sskai.jobs.v1"


def job_of(incoming: Incoming) -> str:
    return contract.decode(incoming.value, incoming.headers).key


@pytest.fixture
async def publisher(kafka: str) -> AsyncIterator[Publisher]:
    one = Publisher(kafka, "test")
    yield one
    await one.stop()


@pytest.fixture
def marker() -> str:
    """Topics are shared by the tests of a session: each looks only at jobs of its own."""
    return contract.new_id("job")


@asynccontextmanager
async def consuming(
    kafka: str, group: str, handle: Callable[[Incoming], Awaitable[None]], publisher: Publisher
) -> AsyncIterator[Consumer]:
    stopping = asyncio.Event()
    consumer = Consumer(kafka, group, [TOPIC], handle, publisher)
    task = asyncio.create_task(consumer.run(stopping))
    try:
        await asyncio.wait_for(consumer.ready.wait(), 20)
        yield consumer
    finally:
        stopping.set()
        await asyncio.wait_for(task, 20)


async def test_events_of_one_key_arrive_in_order(kafka: str, publisher: Publisher, marker: str) -> None:
    seen: list[int] = []

    async def handle(incoming: Incoming) -> None:
        event = contract.decode(incoming.value, incoming.headers)
        if event.key == marker:
            seen.append(event.message.attempt)

    sent = [envelope(events.JobRequeued(job_id=marker, attempt=number)) for number in range(1, 51)]
    await publisher.publish_all(sent)
    async with consuming(kafka, f"order-{marker}", handle, publisher):
        await wait_for(lambda: len(seen) >= 50)
    assert seen == list(range(1, 51))


async def test_a_poison_event_is_set_aside_with_its_reason_and_stops_nobody(
    kafka: str, publisher: Publisher, marker: str
) -> None:
    seen: list[str] = []

    async def handle(incoming: Incoming) -> None:
        key = job_of(incoming)
        if key == f"{marker}-poison":
            raise ZeroDivisionError("cannot be handled")
        seen.append(key)

    producer = await publisher.start()
    await producer.send_and_wait(TOPIC, key=f"{marker}-garbage".encode(), value=b"\xff\xfe", headers=[])
    await publisher.publish_all([envelope(events.JobHeld(job_id=f"{marker}-poison"))])
    await publisher.publish_all([envelope(events.JobHeld(job_id=f"{marker}-{number}")) for number in range(20)])
    async with consuming(kafka, f"poison-{marker}", handle, publisher):
        await wait_for(lambda: sum(key.startswith(marker) for key in seen) == 20)

        async def letters() -> dict[str, dict[str, str]]:
            found = await bus.read_dead_letters(kafka, TOPIC, limit=1000)
            return {
                (letter.key or b"").decode(): {name: text.decode() for name, text in letter.headers}
                for letter in found
                if (letter.key or b"").decode().startswith(marker)
            }

        async def both() -> dict[str, dict[str, str]] | None:
            found = await letters()
            return found if len(found) == 2 else None

        found: Any = await wait_for(both, limit_seconds=20)
    assert found[f"{marker}-garbage"]["dlq_reason"] == "undecodable"
    assert found[f"{marker}-poison"]["dlq_reason"] == "handler-failed"
    assert "ZeroDivisionError" in found[f"{marker}-poison"]["dlq_detail"]


async def test_a_part_that_is_away_is_waited_for_and_nothing_is_set_aside(
    kafka: str, publisher: Publisher, marker: str
) -> None:
    tries: list[str] = []
    away = True

    async def handle(incoming: Incoming) -> None:
        if job_of(incoming) == marker:
            tries.append(marker)
            if away:
                raise UnavailableError("the database is away")

    await publisher.publish_all([envelope(events.JobHeld(job_id=marker))])
    async with consuming(kafka, f"away-{marker}", handle, publisher):
        await wait_for(lambda: len(tries) > bus.MAX_ATTEMPTS + 1, limit_seconds=60)
        away = False
        count = len(tries)
        await wait_for(lambda: len(tries) == count + 1)
    assert not [one for one in await bus.read_dead_letters(kafka, TOPIC, limit=1000) if one.key == marker.encode()]


async def test_what_was_handled_is_not_handled_again_by_the_next_member(
    kafka: str, publisher: Publisher, marker: str
) -> None:
    seen: list[str] = []

    async def handle(incoming: Incoming) -> None:
        if job_of(incoming).startswith(marker):
            seen.append(job_of(incoming))

    await publisher.publish_all([envelope(events.JobHeld(job_id=f"{marker}-{number}")) for number in range(10)])
    for _ in range(2):
        async with consuming(kafka, f"again-{marker}", handle, publisher):
            await wait_for(lambda: len(seen) >= 10)
    await publisher.publish_all([envelope(events.JobHeld(job_id=f"{marker}-last"))])
    async with consuming(kafka, f"again-{marker}", handle, publisher):
        await wait_for(lambda: f"{marker}-last" in seen)
    assert len(seen) == 11


async def test_a_rebalance_in_the_middle_of_a_retry_loses_nothing(
    kafka: str, publisher: Publisher, marker: str
) -> None:
    """The member that retries loses its partitions to a newcomer; each event still gets handled."""
    done: set[str] = set()
    failing = True

    async def handle(incoming: Incoming) -> None:
        key = job_of(incoming)
        if not key.startswith(marker):
            return
        if failing:
            raise UnavailableError("not yet")
        done.add(key)

    sent = {f"{marker}-{number}" for number in range(40)}
    await publisher.publish_all([envelope(events.JobHeld(job_id=key)) for key in sorted(sent)])
    async with (
        consuming(kafka, f"rebalance-{marker}", handle, publisher),
        consuming(kafka, f"rebalance-{marker}", handle, publisher),
    ):
        failing = False
        await wait_for(lambda: done == sent, limit_seconds=30)


async def test_an_event_by_another_client_in_json_is_handled(kafka: str, publisher: Publisher, marker: str) -> None:
    seen: list[events.JobCancelRequested] = []

    async def handle(incoming: Incoming) -> None:
        event = contract.decode(incoming.value, incoming.headers)
        if event.key == marker:
            seen.append(event.message)

    producer = await publisher.start()
    await producer.send_and_wait(
        TOPIC,
        key=marker.encode(),
        value=b'{"job_id": "%s", "requested_by": "kcat"}' % marker.encode(),
        headers=[
            ("ce_specversion", b"1.0"),
            ("ce_id", marker.encode()),
            ("ce_source", b"by-hand"),
            ("ce_type", b"sskai.events.v1.JobCancelRequested"),
            ("content-type", b"application/json"),
        ],
    )
    async with consuming(kafka, f"json-{marker}", handle, publisher):
        await wait_for(lambda: len(seen) == 1)
    assert seen[0].requested_by == "kcat"


async def test_redriven_letters_come_back_without_their_marks(kafka: str, publisher: Publisher, marker: str) -> None:
    topic = "sskai.monitoring.v1"
    record = contract.encode(envelope(events.DriftDetected(endpoint_id=marker, tenant_id="t")))
    letter = Incoming(topic, 0, 7, record.key, record.value, record.headers)
    await publisher.set_aside(letter, "handler-failed", "because")
    await bus.redrive(kafka, topic)
    mine = [one for one in await bus.read_records(kafka, topic, limit=1000) if one.key == marker.encode()]
    assert [one.value for one in mine] == [record.value]
    assert not [name for name, _ in mine[0].headers if name.startswith("dlq_")]


async def test_backoff_is_bounded() -> None:
    assert all(0 < bus.backoff_seconds(attempt) <= bus.LAST_BACKOFF_SECONDS for attempt in range(1000))


async def test_publishing_to_no_broker_raises_in_bounded_time() -> None:
    lost = Publisher("127.0.0.1:1", "test")
    with pytest.raises(Exception, match=r"[Cc]onnect"):
        await asyncio.wait_for(lost.publish_all([envelope(events.JobHeld(job_id="j"))]), 20)
