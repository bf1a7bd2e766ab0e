"""Kafka in memory: logs by topic and partition, groups with members that come, go and are missed.

The services' own `sskai.bus` runs on it unchanged: these classes stand where aiokafka's would. What a real broker may
do, it does by the seed: hold a record back, lose an acknowledgement, give a record out twice, be away.
"""

from __future__ import annotations

import asyncio
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import CommitFailedError, KafkaConnectionError, KafkaTimeoutError

from simulation import globals as simulated
from simulation.loop import ACTOR, Actor
from simulation.trace import Trace

PARTITIONS = 4
SESSION_SECONDS = 10.0  # as `sskai.bus` sets it
REQUEST_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Kept:
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    visible_at: float
    topic: str
    partition: int
    timestamp: int = 0


@dataclass
class Weather:
    """Drawn from the seed."""

    least_seconds: float = 0.001
    most_seconds: float = 0.02
    lost_acknowledgements: float = 0.0  # share of publishes that are done and reported as failed
    held_back: float = 0.0  # share of records that become visible late
    most_held_seconds: float = 5.0
    redelivered: float = 0.0  # share of assignments that begin before the committed offset
    most_redelivered: int = 20
    away_from: set[str] = field(default_factory=set)  # names of services; "": from everybody


@dataclass
class Group:
    name: str
    members: dict[int, SimulatedConsumer] = field(default_factory=dict)
    committed: dict[TopicPartition, int] = field(default_factory=dict)
    generation: int = 0
    balancing: asyncio.Task[None] | None = None
    again: bool = False


class Broker:
    def __init__(self, trace: Trace, weather: Weather) -> None:
        self.trace = trace
        self.weather = weather
        self.logs: dict[TopicPartition, list[Kept]] = defaultdict(list)
        self.groups: dict[str, Group] = {}
        self.arrived: dict[asyncio.Event, None] = {}  # in order, as a set of objects would not be
        self.on_told: Callable[[Kept], None] = lambda _kept: None
        self._numbers = 0

    def number(self) -> int:
        self._numbers += 1
        return self._numbers

    def reaches(self, actor: Actor | None) -> bool:
        """Whether the actor's packets arrive."""
        if actor is not None and not actor.alive:
            return False
        away = self.weather.away_from
        return not away or ("" not in away and (actor is None or actor.name.split("/")[0] not in away))

    def seconds(self) -> float:
        return simulated.SOURCES.dice.uniform(self.weather.least_seconds, self.weather.most_seconds)

    def append(self, topic: str, key: bytes | None, value: bytes | None, headers: Iterable[tuple[str, bytes]]) -> None:
        dice, loop = simulated.SOURCES.dice, asyncio.get_running_loop()
        where = TopicPartition(topic, zlib.crc32(key or b"") % PARTITIONS)
        log = self.logs[where]
        visible_at = loop.time() + self.seconds()
        if dice.random() < self.weather.held_back:
            visible_at += dice.uniform(0, self.weather.most_held_seconds)
        if log:
            visible_at = max(visible_at, log[-1].visible_at)
        log.append(Kept(len(log), key, value, tuple(headers), visible_at, topic, where.partition))
        kind = next((text.decode().rsplit(".", 1)[-1] for name, text in headers if name == "ce_type"), topic)
        self.trace.say("told", f"{kind} {(key or b'').decode()} {zlib.crc32(value or b''):08x}")
        self.on_told(log[-1])
        loop.call_at(visible_at, self._wake)

    def _wake(self) -> None:
        for event in self.arrived:
            event.set()

    def group(self, name: str) -> Group:
        return self.groups.setdefault(name, Group(name))

    def join(self, member: SimulatedConsumer) -> None:
        self.group(member.group_id).members[member.number] = member
        self.rebalance(self.group(member.group_id))

    def leave(self, member: SimulatedConsumer) -> None:
        group = self.group(member.group_id)
        if group.members.pop(member.number, None) is not None:
            member.generation = -1
            self.rebalance(group)

    def rebalance(self, group: Group) -> None:
        """Everybody gives back what they have, then gets their share."""
        if group.balancing is not None and not group.balancing.done():
            group.again = True
            return
        context = asyncio.get_running_loop()
        group.balancing = context.create_task(self._rebalance(group), context=_nobody())

    async def _rebalance(self, group: Group) -> None:
        while True:
            group.again = False
            await asyncio.sleep(self.seconds())
            group.generation += 1
            members = list(group.members.values())
            for member in members:
                await member.revoke()
            partitions = sorted(
                {
                    TopicPartition(topic, number)
                    for one in members
                    for topic in one.topics
                    for number in range(PARTITIONS)
                }
            )
            for place, member in enumerate(members):
                if member.number in group.members:
                    await member.assign(partitions[place :: len(members)], group.generation)
            self.trace.say("rebalanced", f"{group.name}: {len(members)} members")
            if not group.again:
                return

    def lag(self) -> dict[str, int]:
        """Records that each group has not committed yet, of the topics that it reads."""
        found = {}
        for group in self.groups.values():
            topics = {topic for member in group.members.values() for topic in member.topics}
            found[group.name] = sum(
                len(log) - group.committed.get(where, 0) for where, log in self.logs.items() if where.topic in topics
            )
        return found


def _nobody() -> Any:
    """A context that belongs to no actor."""
    import contextvars

    context = contextvars.copy_context()
    context.run(ACTOR.set, None)
    return context


BROKER: Broker | None = None


def broker() -> Broker:
    assert BROKER is not None
    return BROKER


class SimulatedProducer:
    """`AIOKafkaProducer`, as far as `sskai.bus.Publisher` knows it."""

    def __init__(self, **_options: Any) -> None:
        self._broker = broker()

    async def start(self) -> None:
        await asyncio.sleep(self._broker.seconds())
        if not self._broker.reaches(ACTOR.get()):
            raise KafkaConnectionError("the broker is away (simulated)")

    async def stop(self) -> None:
        """Everything was sent when it was given."""

    async def send(
        self, topic: str, *, value: bytes | None, key: bytes | None, headers: Iterable[tuple[str, bytes]]
    ) -> asyncio.Future[Any]:
        there, loop = self._broker, asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        await asyncio.sleep(there.seconds())
        if not there.reaches(ACTOR.get()):
            # The client tries until its time is over.
            loop.call_later(REQUEST_SECONDS, _fail, future, KafkaTimeoutError("no acknowledgement (simulated)"))
            return future
        there.append(topic, key, value, headers)
        if simulated.SOURCES.dice.random() < there.weather.lost_acknowledgements:
            there.trace.say("fault", "a record was kept, and its acknowledgement lost")
            loop.call_later(REQUEST_SECONDS, _fail, future, KafkaTimeoutError("acknowledgement lost (simulated)"))
        else:
            loop.call_later(there.seconds(), _succeed, future)
        return future

    async def send_and_wait(self, topic: str, **record: Any) -> None:
        await (await self.send(topic, **record))


def _succeed(future: asyncio.Future[Any]) -> None:
    if not future.done():
        future.set_result(None)


def _fail(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # whoever gave up waiting need not hear of it


class SimulatedConsumer:
    """`AIOKafkaConsumer`, as far as `sskai.bus.Consumer` knows it."""

    def __init__(self, *_topics: str, group_id: str = "", **_options: Any) -> None:
        self._broker = broker()
        self.number = self._broker.number()
        self.group_id = group_id
        self.topics: list[str] = []
        self.generation = -1
        self.actor = ACTOR.get()
        self._listener: Any = None
        self._assigned: dict[TopicPartition, int] = {}  # the next offset to fetch
        self._paused: set[TopicPartition] = set()
        self._arrived = asyncio.Event()
        self._heart: asyncio.Task[None] | None = None
        self._beaten_at = 0.0

    async def start(self) -> None:
        await asyncio.sleep(self._broker.seconds())
        if not self._broker.reaches(self.actor):
            raise KafkaConnectionError("the broker is away (simulated)")

    def subscribe(self, topics: Iterable[str], listener: Any) -> None:
        self.topics, self._listener = list(topics), listener
        self._broker.arrived[self._arrived] = None
        self._beaten_at = asyncio.get_running_loop().time()
        self._heart = asyncio.create_task(self._beat())
        asyncio.get_running_loop().call_later(SESSION_SECONDS, self._missed, context=_nobody())
        self._broker.join(self)

    async def _beat(self) -> None:
        """Heartbeats, of which the broker misses those of a process that stands still or is cut off."""
        while True:
            await asyncio.sleep(1.0)
            if not self._broker.reaches(self.actor):
                continue
            self._beaten_at = asyncio.get_running_loop().time()
            if self.generation == -1 and self.number not in self._broker.group(self.group_id).members:
                await self.revoke()
                self._broker.join(self)

    def _missed(self) -> None:
        loop = asyncio.get_running_loop()
        if self.number in self._broker.group(self.group_id).members:
            if loop.time() - self._beaten_at >= SESSION_SECONDS:
                self._broker.trace.say("missed", f"a member of {self.group_id}")
                self._broker.leave(self)
            loop.call_later(1.0, self._missed, context=_nobody())
        elif self.actor is not None and self.actor.alive:
            loop.call_later(1.0, self._missed, context=_nobody())

    async def revoke(self) -> None:
        """By the member's own process; one that is dead or stands still does not hold up the others."""
        had, self._assigned = self._assigned, {}
        if had:
            await self._call(self._listener.on_partitions_revoked(list(had)))

    async def assign(self, partitions: list[TopicPartition], generation: int) -> None:
        dice, weather = simulated.SOURCES.dice, self._broker.weather
        committed = self._broker.group(self.group_id).committed
        self.generation = generation
        self._assigned = {}
        for where in partitions:
            offset = committed.get(where, 0)
            if offset and dice.random() < weather.redelivered:
                back = min(offset, dice.randint(1, weather.most_redelivered))
                self._broker.trace.say("fault", f"{self.group_id}: {back} records of {where.topic} come again")
                offset -= back
            self._assigned[where] = offset
        self._paused.clear()
        await self._call(self._listener.on_partitions_assigned(partitions))
        self._arrived.set()

    async def _call(self, words: Any) -> None:
        actor = self.actor
        if actor is None or not actor.alive or actor.paused:
            words.close()
            return
        context = _nobody()
        context.run(ACTOR.set, actor)
        task = asyncio.get_running_loop().create_task(words, context=context)
        await asyncio.wait([task], timeout=SESSION_SECONDS)

    async def getmany(self, *, timeout_ms: int, max_records: int) -> dict[TopicPartition, list[Any]]:
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout_ms / 1000
        while True:
            found = self._fetch(loop.time(), max_records) if self._broker.reaches(self.actor) else {}
            if found or loop.time() >= until:
                return found
            self._arrived.clear()
            try:
                await asyncio.wait_for(self._arrived.wait(), until - loop.time())
            except TimeoutError:
                return {}

    def _fetch(self, now: float, limit: int) -> dict[TopicPartition, list[Any]]:
        found: dict[TopicPartition, list[Any]] = {}
        for where, begin in list(self._assigned.items()):
            if where in self._paused:
                continue
            end = min(begin + limit, len(self._broker.logs.get(where, [])))
            fresh = [kept for kept in self._broker.logs[where][begin:end] if kept.visible_at <= now]
            if fresh:
                self._assigned[where] = begin + len(fresh)
                found[where] = list(fresh)
        return found

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        await asyncio.sleep(self._broker.seconds())
        group = self._broker.group(self.group_id)
        if not self._broker.reaches(self.actor):
            raise KafkaConnectionError("the broker is away (simulated)")
        if self.number not in group.members or self.generation != group.generation:
            raise CommitFailedError("the group has moved on (simulated)")
        for where, offset in offsets.items():
            group.committed[where] = offset

    def paused(self) -> set[TopicPartition]:
        return set(self._paused)

    def pause(self, *partitions: TopicPartition) -> None:
        self._paused |= set(partitions)

    def resume(self, *partitions: TopicPartition) -> None:
        self._paused -= set(partitions)
        self._arrived.set()

    def highwater(self, partition: TopicPartition) -> int | None:
        return len(self._broker.logs.get(partition, []))

    def assignment(self) -> set[TopicPartition]:
        return set(self._assigned)

    async def stop(self) -> None:
        if self._heart is not None:
            self._heart.cancel()
        self._broker.arrived.pop(self._arrived, None)
        if self._broker.reaches(self.actor):
            self._broker.leave(self)
