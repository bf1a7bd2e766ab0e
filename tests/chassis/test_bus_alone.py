"""What the bus does with records, on a broker of one partition in memory: quick, so that each promise has its own test.
The same on a real Kafka: `test_bus.py`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaTimeoutError

from sskai import bus, contract
from sskai.bus import Consumer, Incoming, Publisher, UnavailableError
from sskai.events import v1 as events
from sskai.testing import envelope, wait_for

TOPIC = "sskai.jobs.v1"
PARTITION = TopicPartition(TOPIC, 0)


class OnePartition:
    """A broker's records, and the offset that its group has committed."""

    def __init__(self, *names: str) -> None:
        self.records = [contract.encode(envelope(events.JobHeld(job_id="j", rule=name))) for name in names]
        self.committed = 0
        self.looks = 0  # of members that found nothing new

    def member(self, **_options: Any) -> Member:
        return Member(self)


class Member:
    """What the bus asks of AIOKafkaConsumer."""

    def __init__(self, broker: OnePartition) -> None:
        self.broker = broker
        self.position = broker.committed

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def subscribe(self, _topics: Sequence[str], listener: Consumer) -> None:
        self.assigned = asyncio.create_task(listener.on_partitions_assigned([PARTITION]))

    async def getmany(self, timeout_ms: int, max_records: int) -> dict[TopicPartition, list[Any]]:
        await self.assigned
        new = self.broker.records[self.position :][:max_records]
        found = [
            SimpleNamespace(topic=TOPIC, partition=0, offset=offset, key=one.key, value=one.value, headers=one.headers)
            for offset, one in enumerate(new, self.position)
        ]
        self.position += len(found)
        if not found:
            self.broker.looks += 1
            await asyncio.sleep(0.001)
        return {PARTITION: found}

    def paused(self) -> set[TopicPartition]:
        return set()

    def highwater(self, _partition: TopicPartition) -> int:
        return len(self.broker.records)

    async def commit(self, offsets: dict[TopicPartition, int]) -> None:
        self.broker.committed = offsets[PARTITION]


class Letters:
    """A publisher that keeps what is set aside."""

    def __init__(self) -> None:
        self.aside: list[tuple[str, str]] = []

    async def set_aside(self, incoming: Incoming, reason: str, _detail: str) -> None:
        self.aside.append((name_of(incoming), reason))


def name_of(incoming: Incoming) -> str:
    rule: str = contract.decode(incoming.value, incoming.headers).message.rule
    return rule


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus, "FIRST_BACKOFF_SECONDS", 0.001)
    monkeypatch.setattr(bus, "LAST_BACKOFF_SECONDS", 0.002)
    monkeypatch.setattr(bus, "COMMIT_SECONDS", 0.002)
    monkeypatch.setattr(bus, "REVOKE_SECONDS", 0.1)


@pytest.fixture
def consuming(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    @asynccontextmanager
    async def run(
        broker: OnePartition, handle: Callable[[Incoming], Awaitable[None]], **options: Any
    ) -> AsyncIterator[Letters]:
        monkeypatch.setattr(bus, "AIOKafkaConsumer", broker.member)
        letters, stopping = Letters(), asyncio.Event()
        consumer = Consumer("", "test", [TOPIC], handle, letters, **options)  # type: ignore[arg-type]
        task = asyncio.create_task(consumer.run(stopping))
        try:
            yield letters
        finally:
            stopping.set()
            await asyncio.wait_for(task, 20)

    return run


async def test_an_offset_is_committed_once_its_record_was_handled(consuming: Callable[..., Any]) -> None:
    """A member that is stopped, or killed, in the middle of a record leaves it to the next one."""
    broker, seen = OnePartition("a", "b", "c", "d"), list[str]()

    async def stands_still(incoming: Incoming) -> None:
        seen.append(name_of(incoming))
        if seen[-1] == "c":
            await asyncio.Event().wait()

    async with consuming(broker, stands_still):
        await wait_for(lambda: seen == ["a", "b", "c"] and broker.committed >= 2)
        looks = broker.looks
        await wait_for(lambda: broker.looks > looks + 20)
        assert broker.committed == 2
    assert broker.committed == 2

    async def handles(incoming: Incoming) -> None:
        seen.append(name_of(incoming))

    async with consuming(broker, handles):
        await wait_for(lambda: broker.committed == 4)
    assert seen == ["a", "b", "c", "c", "d"]


async def test_an_event_that_waits_is_not_overtaken_by_later_ones_of_its_key(consuming: Callable[..., Any]) -> None:
    broker, seen, away = OnePartition("a", "b", "c", "d"), list[str](), [1, 2, 3]

    async def handle(incoming: Incoming) -> None:
        if name_of(incoming) == "b" and away:
            away.pop()
            raise UnavailableError("the database is away")
        seen.append(name_of(incoming))

    async with consuming(broker, handle):
        await wait_for(lambda: len(seen) >= 4)
    assert (seen, away) == (["a", "b", "c", "d"], [])


async def test_a_part_that_is_away_sets_nothing_aside(consuming: Callable[..., Any]) -> None:
    broker, tries = OnePartition("a"), list[str]()

    async def handle(incoming: Incoming) -> None:
        tries.append(name_of(incoming))
        if len(tries) < 4 * bus.MAX_ATTEMPTS:
            raise UnavailableError("the database is away")

    async with consuming(broker, handle) as letters:
        await wait_for(lambda: broker.committed == 1)
    assert (len(tries), letters.aside) == (4 * bus.MAX_ATTEMPTS, [])


async def test_what_can_never_be_handled_is_set_aside_with_its_reason(consuming: Callable[..., Any]) -> None:
    broker, tries = OnePartition("poison", "foreign", "good"), list[str]()

    async def handle(incoming: Incoming) -> None:
        tries.append(name_of(incoming))
        if tries[-1] == "poison":
            raise ZeroDivisionError
        if tries[-1] == "foreign":
            raise contract.ForeignEventError

    async with consuming(broker, handle) as letters:
        await wait_for(lambda: broker.committed == 3)
    assert tries == ["poison"] * bus.MAX_ATTEMPTS + ["foreign", "good"]
    assert letters.aside == [("poison", "handler-failed"), ("foreign", "foreign")]


async def test_what_is_around_a_poison_is_handled_in_order(consuming: Callable[..., Any]) -> None:
    names = [*"abcdef", "poison", *"ghijkl"]
    broker, handled = OnePartition(*names), list[str]()

    async def one(incoming: Incoming) -> None:
        if name_of(incoming) == "poison":
            raise ZeroDivisionError
        handled.append(name_of(incoming))

    async def together(records: Sequence[Incoming]) -> int:
        found = [name_of(record) for record in records]
        if "poison" in found:
            raise contract.TogetherError(found.index("poison"))
        handled.extend(found)
        return len(found)

    async with consuming(broker, one, handle_together=together) as letters:
        await wait_for(lambda: broker.committed == len(names))
    assert handled == [name for name in names if name != "poison"]
    assert letters.aside == [("poison", "handler-failed")]


class DeafBroker:
    """A producer whose broker acknowledges the first record, and no other."""

    def __init__(self, **_options: Any) -> None:
        self.sent = 0

    async def start(self) -> None: ...

    async def send(self, _topic: str, **_record: Any) -> asyncio.Future[None]:
        acknowledged = asyncio.get_running_loop().create_future()
        self.sent += 1
        if self.sent == 1:
            acknowledged.set_result(None)
        else:
            acknowledged.set_exception(KafkaTimeoutError())
        return acknowledged


async def test_what_the_broker_does_not_acknowledge_is_not_published(monkeypatch: pytest.MonkeyPatch) -> None:
    """The relay deletes from the outbox what was published."""
    monkeypatch.setattr(bus, "AIOKafkaProducer", DeafBroker)
    publisher = Publisher("127.0.0.1:1", "test")
    await publisher.publish_all([envelope(events.JobHeld(job_id="j"))])
    with pytest.raises(KafkaTimeoutError):
        await publisher.publish_all([envelope(events.JobHeld(job_id="j"))])
