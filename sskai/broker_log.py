"""The whole log of some topics, from the oldest record that is kept to what stood at the end when one began to read.

As `broker_admin.py` for operators: nobody joins a group, nothing is committed. Raises AdminError or OSError while the
broker is away.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from sskai.broker import Broker, options_of
from sskai.broker_admin import REQUEST_MS, AdminError, Offsets, connected
from sskai.bus import MAX_RECORD_BYTES, Incoming

AHEAD = 1_000  # records of one partition in memory
SILENT_SECONDS = 60.0  # without a record, while some must be there


class LogError(AdminError):  # type: ignore[misc]
    """The log cannot be read to its end, or is longer than one wants to read."""


@dataclass
class Bounds:
    """What of the topics is kept. `short`: why older records may be missing, in words; empty: all of it is there."""

    beginnings: Offsets
    ends: Offsets
    short: list[str] = field(default_factory=list)

    @property
    def records(self) -> int:
        return sum(self.ends[at] - first for at, first in self.beginnings.items())


@dataclass
class _Partition:
    at: TopicPartition
    next: int
    end: int
    records: deque[Any] = field(default_factory=deque)

    @property
    def wants(self) -> bool:
        """A record that must be there has not come yet."""
        return not self.records and self.next < self.end


class Log:
    """By `opened`."""

    def __init__(self, consumer: Any, bounds: Bounds) -> None:
        self._consumer = consumer
        self.bounds = bounds
        self.read = 0

    async def records(self) -> AsyncIterator[Incoming]:
        """All of them: in order within a partition, and of several partitions the older one first, as the broker has
        their times. Raises LogError if the broker stops to answer."""
        bounds = self.bounds
        partitions = [_Partition(at, first, bounds.ends[at]) for at, first in bounds.beginnings.items()]
        partitions = [one for one in partitions if one.next < one.end]
        if not partitions:
            return
        self._consumer.assign([one.at for one in partitions])
        for one in partitions:
            self._consumer.seek(one.at, one.next)
        while partitions:
            await self._fetch(partitions)
            partitions = [one for one in partitions if one.records or one.next < one.end]
            # While each of them has one, the oldest of all is among them.
            while partitions and not any(one.wants for one in partitions):
                oldest = min(partitions, key=lambda one: one.records[0].timestamp)
                record = oldest.records.popleft()
                self.read += 1
                yield Incoming(
                    record.topic, record.partition, record.offset, record.key, record.value, list(record.headers)
                )
                if not oldest.records and oldest.next >= oldest.end:
                    partitions.remove(oldest)

    async def _fetch(self, partitions: list[_Partition]) -> None:
        """Until no partition is without a record that must be there."""
        waiting_since = time.monotonic()
        by_place = {one.at: one for one in partitions}
        while any(one.wants for one in partitions):
            full = [one.at for one in partitions if len(one.records) >= AHEAD]
            over = [at for at in self._consumer.assignment() if at not in by_place or at in full]
            self._consumer.pause(*over)
            self._consumer.resume(*(at for at in by_place if at not in full))
            found = await self._consumer.getmany(timeout_ms=500, max_records=AHEAD)
            for at, records in found.items():
                one = by_place[at]
                one.records.extend(record for record in records if record.offset < one.end)
                one.next = records[-1].offset + 1
            for one in partitions:
                if one.wants:  # the last places of a log may hold no records: compaction, or markers of transactions
                    one.next = max(one.next, await self._consumer.position(one.at))
            if any(found.values()):
                waiting_since = time.monotonic()
            elif time.monotonic() - waiting_since > SILENT_SECONDS:
                raise LogError(f"the broker gave no record for {SILENT_SECONDS:g} s")


@asynccontextmanager
async def opened(broker: Broker | str, topics: Iterable[str], *, max_records: int) -> AsyncIterator[Log]:
    """The log of these topics as it stands now. Raises LogError if it holds more than `max_records`."""
    bounds = await _bounds(broker, sorted(topics))
    if bounds.records > max_records:
        raise LogError(f"the log holds {bounds.records} records, more than {max_records}: allow more with --max-events")
    consumer: Any = AIOKafkaConsumer(
        **options_of(broker),
        enable_auto_commit=False,
        request_timeout_ms=REQUEST_MS,
        max_partition_fetch_bytes=MAX_RECORD_BYTES,
    )
    await consumer.start()
    try:
        yield Log(consumer, bounds)
    finally:
        await consumer.stop()


async def _bounds(broker: Broker | str, names: list[str]) -> Bounds:
    async with connected(broker) as admin:
        known = await admin.topics(names)
        bounds = Bounds(await admin.beginnings(known), await admin.ends(known))
    bounds.short += [f"{name}: there is no such topic" for name in names if name not in known]
    for name, topic in sorted(known.items()):
        gone = sum(first for at, first in bounds.beginnings.items() if at.topic == name)
        if gone:
            hours = topic.number("retention.ms") / 3_600_000
            bounds.short.append(f"{name}: the oldest {gone} records are gone (retention.ms is {hours:g} h)")
        if "compact" in topic.settings.get("cleanup.policy", ""):
            bounds.short.append(
                f"{name}: it is compacted (cleanup.policy), of each key only the newest is sure to stay"
            )
    return bounds
