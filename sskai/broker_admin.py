"""What an operator asks of the broker, and nobody who handles events: topics, groups and their offsets, dead letters.

Raises AdminError or OSError while the broker is away.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    KafkaError,
    KafkaTimeoutError,
    NotCoordinatorForGroupError,
    TopicAlreadyExistsError,
    for_code,
)

from sskai import contract
from sskai.broker import Broker, options_of
from sskai.bus import MAX_RECORD_BYTES, Incoming, Publisher

AdminError = KafkaError  # for those who do not know the client
REQUEST_MS = 10_000
COORDINATOR_TRIES, COORDINATOR_PAUSE_SECONDS = 20, 0.25
STABLE, EMPTY = "Stable", "Empty"
Offsets = dict[TopicPartition, int]


@dataclass(frozen=True, slots=True)
class Topic:
    """`replicas`, `in_sync`: of the partition that has fewest. `settings` are as they apply."""

    name: str
    partitions: int
    replicas: int
    in_sync: int
    leaderless: int
    settings: Mapping[str, str]

    def number(self, setting: str) -> int:
        return int(self.settings.get(setting) or 0)


@dataclass(frozen=True, slots=True)
class Group:
    """A consumer group. `committed` by partition; without one of those that it never read."""

    name: str
    state: str
    members: int
    committed: Offsets


class Admin:
    """By `connected`."""

    def __init__(self, options: dict[str, Any], admin: Any) -> None:
        self._options = options
        self._admin = admin

    async def brokers(self) -> list[str]:
        """`host:port` of each that is up."""
        found = await self._admin.describe_cluster()
        return sorted(f"{one['host']}:{one['port']}" for one in found["brokers"])

    async def settings(self) -> dict[str, str]:
        """Of one broker, whichever it is."""
        found = await self._admin.describe_cluster()
        name = str(found["brokers"][0]["node_id"])
        answers = await self._admin.describe_configs([ConfigResource(ConfigResourceType.BROKER, name)])
        return {entry[0]: entry[1] for answer in answers for one in answer.resources for entry in one[4]}

    async def topics(self, names: Iterable[str]) -> dict[str, Topic]:
        """Those of the names that exist."""
        wanted = set(names)
        described = [one for one in await self._admin.describe_topics() if one["topic"] in wanted]
        if not described:
            return {}
        resources = [ConfigResource(ConfigResourceType.TOPIC, one["topic"]) for one in described]
        settings = {
            resource[3]: {entry[0]: entry[1] for entry in resource[4]}
            for answer in await self._admin.describe_configs(resources)
            for resource in answer.resources
        }
        return {
            one["topic"]: Topic(
                one["topic"],
                len(one["partitions"]),
                min(len(each["replicas"]) for each in one["partitions"]),
                min(len(each["isr"]) for each in one["partitions"]),
                sum(each["leader"] < 0 for each in one["partitions"]),
                settings.get(one["topic"], {}),
            )
            for one in described
        }

    async def groups(self, names: Iterable[str]) -> dict[str, Group]:
        """Those of the names that the broker knows."""
        found = {}
        for name in names:
            _error, _name, state, _type, _protocol, members = (await self._described(name))[:6]
            if state in ("", "Dead"):
                continue
            committed = await self._admin.list_consumer_group_offsets(name)
            offsets = {at: one.offset for at, one in committed.items() if one.offset >= 0}
            found[name] = Group(name, state, len(members), offsets)
        return found

    async def _described(self, name: str) -> Any:
        """One at a time: aiokafka 0.14 reads the newest answer as an older one, which fits the first group alone."""
        # A broker makes its own topic of offsets when somebody asks for a group first: until then no one has them.
        for _ in range(COORDINATOR_TRIES):
            try:
                (answer,) = await self._admin.describe_consumer_groups([name])
                return answer.groups[0]
            except (GroupCoordinatorNotAvailableError, NotCoordinatorForGroupError):
                await asyncio.sleep(COORDINATOR_PAUSE_SECONDS)
        raise KafkaTimeoutError("no broker coordinates the consumer groups")

    async def ends(self, topics: Iterable[str]) -> Offsets:
        """One past the newest record of each partition."""
        async with self._reader() as reader:
            ends: Offsets = await reader.end_offsets(await self._partitions(topics))
        return ends

    async def beginnings(self, topics: Iterable[str]) -> Offsets:
        """The oldest record of each partition that is still kept."""
        async with self._reader() as reader:
            first: Offsets = await reader.beginning_offsets(await self._partitions(topics))
        return first

    async def at(self, topics: Iterable[str], moment: datetime) -> Offsets:
        """The first record of each partition that is as new as that moment; the end where there is none."""
        partitions = await self._partitions(topics)
        stamp = int(moment.timestamp() * 1000)
        async with self._reader() as reader:
            found = await reader.offsets_for_times(dict.fromkeys(partitions, stamp))
            ends: Offsets = await reader.end_offsets(partitions)
        return {one: at.offset if at is not None else ends[one] for one, at in found.items()}

    async def move(self, group: str, offsets: Offsets) -> None:
        """Where the group reads on. Nobody may be a member of it meanwhile: ValueError."""
        known = (await self.groups([group])).get(group)
        if known is not None and known.members:
            raise ValueError(f"the group {group} has {known.members} members: stop the service first")
        consumer = AIOKafkaConsumer(
            **self._options, group_id=group, enable_auto_commit=False, request_timeout_ms=REQUEST_MS
        )
        await consumer.start()
        try:
            consumer.assign(list(offsets))
            await consumer.commit(offsets)
        finally:
            await consumer.stop()

    async def _partitions(self, topics: Iterable[str]) -> list[TopicPartition]:
        wanted = set(topics)
        return [
            TopicPartition(one["topic"], each["partition"])
            for one in await self._admin.describe_topics()
            if one["topic"] in wanted
            for each in one["partitions"]
        ]

    @asynccontextmanager
    async def _reader(self) -> AsyncIterator[Any]:
        reader: Any = AIOKafkaConsumer(**self._options, enable_auto_commit=False, request_timeout_ms=REQUEST_MS)
        await reader.start()
        try:
            yield reader
        finally:
            await reader.stop()


@asynccontextmanager
async def connected(broker: Broker | str) -> AsyncIterator[Admin]:
    """The broker, as an administrator sees it."""
    options = options_of(broker)
    admin: Any = AIOKafkaAdminClient(**options, request_timeout_ms=REQUEST_MS)
    await admin.start()
    try:
        yield Admin(options, admin)
    finally:
        await admin.close()


async def create_topics(
    broker: Broker | str, topics: Iterable[str], *, partitions: int = 4, replication: int = 1
) -> None:
    """Create what is missing of `topics` and their dead letter topics. Raises KafkaError.

    With three copies and more, a record counts as written only when all but one of them have it.
    """
    settings = {"min.insync.replicas": str(replication - 1)} if replication > 2 else {}
    admin = AIOKafkaAdminClient(**options_of(broker))
    await admin.start()
    try:
        wanted = [
            NewTopic(
                name,
                partitions if not name.endswith(contract.DEAD_LETTER_SUFFIX) else 1,
                replication,
                topic_configs=settings,
            )
            for topic in topics
            for name in (topic, topic + contract.DEAD_LETTER_SUFFIX)
        ]
        existing = set(await admin.list_topics())
        missing = [topic for topic in wanted if topic.name not in existing]
        if missing:
            response = await admin.create_topics(missing)
            for name, code, *_rest in response.topic_errors:
                error = for_code(code)
                if code and error is not TopicAlreadyExistsError:
                    raise error(f"topic {name}: {_rest}")
    finally:
        await admin.close()


async def read_dead_letters(
    broker: Broker | str, topic: str, *, limit: int = 100, seconds: float = 5
) -> list[Incoming]:
    """The records set aside from `topic`, oldest first, at most `limit`; reads no longer than `seconds`."""
    return await read_records(broker, topic + contract.DEAD_LETTER_SUFFIX, limit=limit, seconds=seconds)


async def read_records(broker: Broker | str, *topics: str, limit: int = 100, seconds: float = 5) -> list[Incoming]:
    """What stands on topics now, from their beginning, without joining a group."""
    consumer: Any = AIOKafkaConsumer(
        *topics,
        **options_of(broker),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=MAX_RECORD_BYTES,
    )
    await consumer.start()
    found: list[Incoming] = []
    try:
        ends = await consumer.end_offsets(list(consumer.assignment()))
        deadline = time.monotonic() + seconds
        while len(found) < limit and time.monotonic() < deadline:
            if all([await consumer.position(partition) >= end for partition, end in ends.items()]):
                break
            for records in (await consumer.getmany(timeout_ms=200, max_records=limit)).values():
                found += [Incoming(r.topic, r.partition, r.offset, r.key, r.value, list(r.headers)) for r in records]
    finally:
        await consumer.stop()
    return sorted(found, key=lambda incoming: (incoming.topic, incoming.partition, incoming.offset))[:limit]


async def redrive(broker: Broker | str, topic: str, *, limit: int = 100) -> int:
    """Publish the dead letters of `topic` to it again, less their `dlq_` headers; returns how many.

    They stay in the dead letter topic (a log is not edited); receivers that handled one already know its id.
    """
    letters = await read_dead_letters(broker, topic, limit=limit)
    publisher = Publisher(broker, "sskai-redrive")
    try:
        producer = await publisher.start()
        for letter in letters:
            headers = [(name, text) for name, text in letter.headers if not name.startswith("dlq_")]
            await producer.send_and_wait(topic, value=letter.value, key=letter.key, headers=headers)
    finally:
        await publisher.stop()
    return len(letters)
