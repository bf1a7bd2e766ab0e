"""The bus on a real Kafka: order, retries, dead letters, rebalances, and a broker that is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from sskai import broker_admin, bus, contract
from sskai.broker import Broker
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
            found = await broker_admin.read_dead_letters(kafka, TOPIC, limit=1000)
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
    assert not [
        one for one in await broker_admin.read_dead_letters(kafka, TOPIC, limit=1000) if one.key == marker.encode()
    ]


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
    await broker_admin.redrive(kafka, topic)
    mine = [one for one in await broker_admin.read_records(kafka, topic, limit=1000) if one.key == marker.encode()]
    assert [one.value for one in mine] == [record.value]
    assert not [name for name, _ in mine[0].headers if name.startswith("dlq_")]


async def test_backoff_is_bounded() -> None:
    assert all(0 < bus.backoff_seconds(attempt) <= bus.LAST_BACKOFF_SECONDS for attempt in range(1000))


async def test_publishing_to_no_broker_raises_in_bounded_time() -> None:
    lost = Publisher("127.0.0.1:1", "test")
    with pytest.raises(Exception, match=r"[Cc]onnect"):
        await asyncio.wait_for(lost.publish_all([envelope(events.JobHeld(job_id="j"))]), 20)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"security_protocol": "SASL_SSL"}, "SSKAI_KAFKA_USERNAME"),
        ({"security_protocol": "SSL", "ca_pem": "no certificate"}, "SSKAI_KAFKA_CA_PEM"),
    ],
)
def test_what_a_broker_asks_for_and_is_not_set_is_named(wrong: dict[str, str], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Publisher(Broker("127.0.0.1:9092", **wrong), "test")


class Together:
    """Handles records together as a service does, and notes what was tried and what stands."""

    def __init__(self, marker: str, poison: str = "", away: int = 0) -> None:
        self.marker, self.poison, self.away = marker, poison, away
        self.handled: list[str] = []
        self.alone: list[str] = []
        self.sizes: list[int] = []

    async def one(self, incoming: Incoming) -> None:
        key = job_of(incoming)
        self.alone.append(key)
        if key == self.poison:
            raise ZeroDivisionError("cannot be handled")
        self.handled.append(key)

    async def several(self, records: Sequence[Incoming]) -> int:
        keys = [job_of(record) for record in records]
        self.sizes.append(len(keys))
        if self.poison in keys:
            raise contract.TogetherError(keys.index(self.poison))
        if self.away:
            self.away -= 1
            raise UnavailableError("the database is away")
        self.handled += keys
        return len(keys)

    def mine(self, keys: list[str]) -> list[str]:
        return [key for key in keys if key.startswith(self.marker)]


@asynccontextmanager
async def together(kafka: str, publisher: Publisher, handling: Together) -> AsyncIterator[None]:
    stopping = asyncio.Event()
    consumer = Consumer(
        kafka, f"together-{handling.marker}", [TOPIC], handling.one, publisher, handle_together=handling.several
    )
    task = asyncio.create_task(consumer.run(stopping))
    try:
        yield
    finally:
        stopping.set()
        await asyncio.wait_for(task, 20)


async def one_partitions_jobs(publisher: Publisher, marker: str, names: Sequence[str]) -> list[str]:
    """Records of one partition, in this order; their keys."""
    producer = await publisher.start()
    keys = [f"{marker}-{name}" for name in names]
    for key in keys:
        record = contract.encode(envelope(events.JobHeld(job_id=key)))
        await producer.send_and_wait(TOPIC, key=record.key, value=record.value, headers=record.headers, partition=0)
    return keys


async def test_only_the_poison_among_records_together_is_tried_again(
    kafka: str, publisher: Publisher, marker: str
) -> None:
    handling = Together(marker, poison=f"{marker}-poison")
    keys = await one_partitions_jobs(publisher, marker, [*map(str, range(10)), "poison", *map(str, range(10, 20))])
    sound = [key for key in keys if key != handling.poison]
    async with together(kafka, publisher, handling):
        await wait_for(lambda: len(handling.mine(handling.handled)) >= len(sound), limit_seconds=30)
    assert handling.mine(handling.handled) == sound, "each once, in order, around the poison"
    assert handling.alone.count(handling.poison) == bus.MAX_ATTEMPTS
    assert max(handling.sizes) > 1
    letters = await broker_admin.read_dead_letters(kafka, TOPIC, limit=1000)
    assert [letter.key for letter in letters].count(handling.poison.encode()) == 1


async def test_records_together_that_find_the_database_away_are_handled_once_and_in_order(
    kafka: str, publisher: Publisher, marker: str
) -> None:
    handling = Together(marker, away=1)
    keys = await one_partitions_jobs(publisher, marker, list(map(str, range(30))))
    async with together(kafka, publisher, handling):
        await wait_for(lambda: len(handling.mine(handling.handled)) >= len(keys), limit_seconds=30)
    assert handling.mine(handling.handled) == keys
    assert not handling.away


async def test_a_part_of_records_together_is_gone_on_with(kafka: str, publisher: Publisher, marker: str) -> None:
    """Fewer are done than were given: the rest comes next, and no offset passes what was not done."""

    class Slow(Together):
        async def several(self, records: Sequence[Incoming]) -> int:
            return await super().several(records[:3])

    handling = Slow(marker)
    keys = await one_partitions_jobs(publisher, marker, list(map(str, range(25))))
    async with together(kafka, publisher, handling):
        await wait_for(lambda: len(handling.mine(handling.handled)) >= len(keys), limit_seconds=30)
    assert handling.mine(handling.handled) == keys
    again = Together(marker)
    async with together(kafka, publisher, again):
        last = await one_partitions_jobs(publisher, marker, ["last"])
        await wait_for(lambda: again.mine(again.handled))
    assert again.mine(again.handled) == last, "what was done was committed"
