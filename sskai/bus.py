"""Kafka, and the only file that imports aiokafka: publish, consume, retry, set aside.

Delivery is at least once and in order per key; the inbox makes effects happen once. Each partition has a worker of its
own, so that one that retries holds up nobody else. An offset is committed only when its record was handled, skipped as
an unknown type, or set aside in `<topic>.dlq` with the reason in its headers.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import IllegalStateError, KafkaError, TopicAlreadyExistsError, for_code
from opentelemetry import trace

from sskai import contract, telemetry
from sskai.metrics import CONSUMER_LAG, DEAD_LETTERS, EVENTS_SKIPPED

log = structlog.get_logger()

MAX_ATTEMPTS = 5  # of a handler that raises, before its record is set aside
FIRST_BACKOFF_SECONDS = 0.1
LAST_BACKOFF_SECONDS = 5.0
MAX_QUEUED_RECORDS = 500  # per partition, in memory
COMMIT_SECONDS = 0.2
REVOKE_SECONDS = 5.0  # how long a rebalance waits for records in the making
MAX_RECORD_BYTES = 4_000_000  # raw OTLP batches are larger than events


class UnavailableError(Exception):
    """A part that a handler needs is away (the database, say): try again for as long as it takes, set nothing aside."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """A record as it came."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]] = field(default_factory=list)


Handle: TypeAlias = Callable[[Incoming], Awaitable[None]]


def backoff_seconds(attempt: int) -> float:
    """Exponential with full jitter on its upper half: 0.1, 0.2, ... 5 s at most."""
    ceiling: float = min(LAST_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2.0 ** min(attempt, 16))
    return ceiling * random.uniform(0.5, 1.0)


class Publisher:
    """An idempotent producer (acks=all). `publish_all` returns when the broker has every record."""

    def __init__(self, bootstrap: str, client_id: str) -> None:
        self._bootstrap = bootstrap
        self._client_id = client_id
        self._producer: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()

    async def start(self) -> AIOKafkaProducer:
        """Connect if not connected; raises KafkaError while the broker is away."""
        async with self._starting:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    bootstrap_servers=self._bootstrap,
                    client_id=self._client_id,
                    acks="all",
                    enable_idempotence=True,
                    linger_ms=0,
                    request_timeout_ms=10_000,
                    max_request_size=MAX_RECORD_BYTES,
                )
                try:
                    await producer.start()
                except BaseException:
                    await producer.stop()
                    raise
                self._producer = producer
        return self._producer

    async def stop(self) -> None:
        """Send what waits, close. Bounded: a broker that is away does not hold up the end."""
        if self._producer is not None:
            with suppress(TimeoutError, KafkaError):
                await asyncio.wait_for(self._producer.stop(), 5)
            self._producer = None

    async def publish_all(self, envelopes: Iterable[contract.Envelope]) -> None:
        """Publish in order, wait for every acknowledgement; raises KafkaError if one is missing."""
        producer = await self.start()
        waiting = []
        for envelope in envelopes:
            record = contract.encode(envelope)
            with telemetry.tracer().start_as_current_span(
                f"publish {type(envelope.message).__name__}",
                context=telemetry.context_from(envelope.traceparent),
                kind=trace.SpanKind.PRODUCER,
                attributes={
                    "messaging.system": "kafka",
                    "messaging.operation.name": "publish",
                    "messaging.operation.type": "send",
                    "messaging.destination.name": record.topic,
                    "messaging.message.id": envelope.id,
                    "sskai.tenant": contract.tenant_of(envelope.message),
                    "sskai.subject": envelope.key,
                },
            ):
                waiting.append(
                    await producer.send(record.topic, value=record.value, key=record.key, headers=record.headers)
                )
        for acknowledged in waiting:
            await acknowledged

    async def set_aside(self, incoming: Incoming, reason: str, detail: str) -> None:
        """Copy a record to its dead letter topic; its headers say where it was and why it is here."""
        producer = await self.start()
        headers = [(name, text) for name, text in incoming.headers if not name.startswith("dlq_")]
        headers += [
            ("dlq_reason", reason.encode()),
            ("dlq_detail", detail[:2000].encode()),
            ("dlq_consumer", self._client_id.encode()),
            ("dlq_partition", str(incoming.partition).encode()),
            ("dlq_offset", str(incoming.offset).encode()),
        ]
        topic = incoming.topic + contract.DEAD_LETTER_SUFFIX
        await producer.send_and_wait(topic, value=incoming.value or b"", key=incoming.key, headers=headers)
        DEAD_LETTERS.labels(topic=incoming.topic, reason=reason).inc()


class _Worker:
    """Handles one partition's records in order, until stopped."""

    def __init__(self, consumer: Consumer, partition: TopicPartition) -> None:
        self.partition = partition
        self.records: asyncio.Queue[Incoming | None] = asyncio.Queue()  # None: stop
        self.handled_up_to: int | None = None  # the offset to commit: one past the last handled
        self.stopping = asyncio.Event()
        self._consumer = consumer
        self.task = asyncio.create_task(self._run(), name=f"{partition.topic}-{partition.partition}")

    async def _run(self) -> None:
        while (incoming := await self.records.get()) is not None:
            if self.stopping.is_set():
                return
            if await self._handle(incoming):
                self.handled_up_to = incoming.offset + 1

    async def _handle(self, incoming: Incoming) -> bool:
        """True: done with it, its offset may be committed. False: stopped in the middle of retrying."""
        failures = tries = 0
        while not self.stopping.is_set():
            tries += 1
            try:
                await self._consumer.handle(incoming)
                return True
            except contract.UnknownTypeError:
                EVENTS_SKIPPED.labels(topic=incoming.topic).inc()
                return True
            except contract.UndecodableError as error:
                if await self._set_aside(incoming, "undecodable", str(error)):
                    return True
            except contract.ForeignEventError as error:
                if await self._set_aside(incoming, "foreign", str(error)):
                    return True
            except UnavailableError as error:
                log.warning("waiting for a part that is away", error=str(error), topic=incoming.topic, tries=tries)
            except Exception as error:
                failures += 1
                log.exception("handler failed", topic=incoming.topic, offset=incoming.offset, failures=failures)
                if failures >= MAX_ATTEMPTS and await self._set_aside(incoming, "handler-failed", repr(error)):
                    return True
            with suppress(TimeoutError):
                await asyncio.wait_for(self.stopping.wait(), backoff_seconds(tries))
        return False

    async def _set_aside(self, incoming: Incoming, reason: str, detail: str) -> bool:
        try:
            await self._consumer.publisher.set_aside(incoming, reason, detail)
            log.error("record set aside", topic=incoming.topic, offset=incoming.offset, reason=reason, detail=detail)
            return True
        except (KafkaError, OSError) as error:
            log.warning("cannot set aside yet", error=repr(error))
            return False

    async def stop(self, seconds: float) -> None:
        """Let the record in the making end, then stop; past `seconds` it is cancelled (its transaction rolls back)."""
        self.stopping.set()
        self.records.put_nowait(None)
        with suppress(TimeoutError, asyncio.CancelledError):
            await asyncio.wait_for(self.task, seconds)


class Consumer(ConsumerRebalanceListener):  # type: ignore[misc]
    """A member of the consumer group of one service."""

    def __init__(
        self,
        bootstrap: str,
        group: str,
        topics: Iterable[str],
        handle: Handle,
        publisher: Publisher,
        *,
        instance: str = "",
    ) -> None:
        self.handle = handle
        self.publisher = publisher
        self.ready = asyncio.Event()  # partitions were assigned at least once
        self._bootstrap = bootstrap
        self._group = group
        # A named member that was killed takes its partitions back as soon as it is up again, instead of waiting for
        # the broker to miss the dead one. Names must differ between replicas.
        self._instance = f"{group}-{instance}" if instance else None
        self._topics = sorted(set(topics))
        self._workers: dict[TopicPartition, _Worker] = {}
        self._committed: dict[TopicPartition, int] = {}
        self._consumer: AIOKafkaConsumer | None = None

    async def run(self, stopping: asyncio.Event) -> None:
        """Consume until `stopping`. A broker that is away is waited for."""
        failures = 0
        while not stopping.is_set():
            self._consumer = AIOKafkaConsumer(
                bootstrap_servers=self._bootstrap,
                group_id=self._group,
                client_id=self._group,
                group_instance_id=self._instance,
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                session_timeout_ms=10_000,
                heartbeat_interval_ms=1_000,
                max_poll_interval_ms=300_000,
                fetch_max_wait_ms=250,
                max_partition_fetch_bytes=MAX_RECORD_BYTES,
            )
            try:
                await self._consumer.start()
                self._consumer.subscribe(self._topics, listener=self)
                failures = 0
                await self._poll(self._consumer, stopping)
            except (KafkaError, OSError) as error:
                log.warning("consumer waits for the broker", error=repr(error))
                failures += 1
            finally:
                await self._drop(list(self._workers))
                with suppress(TimeoutError, KafkaError, OSError):
                    await asyncio.wait_for(self._consumer.stop(), 10)
            with suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), backoff_seconds(failures))

    async def _poll(self, consumer: AIOKafkaConsumer, stopping: asyncio.Event) -> None:
        next_commit = time.monotonic() + COMMIT_SECONDS
        while not stopping.is_set():
            batch = await consumer.getmany(timeout_ms=int(COMMIT_SECONDS * 1000), max_records=MAX_QUEUED_RECORDS)
            for partition, records in batch.items():
                worker = self._workers.get(partition)
                if worker is None:  # revoked while the fetch was on its way
                    continue
                for record in records:
                    worker.records.put_nowait(
                        Incoming(
                            record.topic,
                            record.partition,
                            record.offset,
                            record.key,
                            record.value,
                            list(record.headers),
                        )
                    )
            self._regulate(consumer)
            if time.monotonic() >= next_commit:
                await self._commit()
                next_commit = time.monotonic() + COMMIT_SECONDS

    def _regulate(self, consumer: AIOKafkaConsumer) -> None:
        """Pause partitions whose worker has enough to do, resume those that caught up; tell the lag."""
        paused = consumer.paused()
        lag: dict[str, int] = dict.fromkeys(self._topics, 0)
        for partition, worker in self._workers.items():
            queued = worker.records.qsize()
            if queued >= MAX_QUEUED_RECORDS and partition not in paused:
                consumer.pause(partition)
            elif queued < MAX_QUEUED_RECORDS // 4 and partition in paused:
                consumer.resume(partition)
            with suppress(IllegalStateError):
                end = consumer.highwater(partition)
                done = worker.handled_up_to
                lag[partition.topic] += max(0, end - done) if end is not None and done is not None else queued
        for topic, events in lag.items():
            CONSUMER_LAG.labels(topic=topic).set(events)

    async def _commit(self) -> None:
        offsets = {
            partition: worker.handled_up_to
            for partition, worker in self._workers.items()
            if worker.handled_up_to is not None and worker.handled_up_to != self._committed.get(partition)
        }
        if not offsets or self._consumer is None:
            return
        try:
            await asyncio.wait_for(self._consumer.commit(offsets), 10)
            self._committed |= offsets
        except (KafkaError, IllegalStateError, TimeoutError) as error:
            # Uncommitted records come again, to whoever has the partition then; the inbox knows them.
            log.warning("offsets not committed", error=repr(error))

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        for partition in assigned:
            self._workers[partition] = _Worker(self, partition)
        self.ready.set()

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        await self._drop([partition for partition in revoked if partition in self._workers])

    async def _drop(self, partitions: list[TopicPartition]) -> None:
        workers = [self._workers[partition] for partition in partitions]
        await asyncio.gather(*(worker.stop(REVOKE_SECONDS) for worker in workers))
        await self._commit()
        for partition in partitions:
            del self._workers[partition]
            self._committed.pop(partition, None)


async def create_topics(bootstrap: str, topics: Iterable[str], *, partitions: int = 4, replication: int = 1) -> None:
    """Create what is missing of `topics` and their dead letter topics. Raises KafkaError."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        wanted = [
            NewTopic(name, partitions if not name.endswith(contract.DEAD_LETTER_SUFFIX) else 1, replication)
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


async def read_dead_letters(bootstrap: str, topic: str, *, limit: int = 100, seconds: float = 5) -> list[Incoming]:
    """The records set aside from `topic`, oldest first, at most `limit`; reads no longer than `seconds`."""
    return await read_records(bootstrap, topic + contract.DEAD_LETTER_SUFFIX, limit=limit, seconds=seconds)


async def read_records(bootstrap: str, topic: str, *, limit: int = 100, seconds: float = 5) -> list[Incoming]:
    """What stands on a topic now, from its beginning, without joining a group."""
    consumer: Any = AIOKafkaConsumer(
        topic,
        bootstrap_servers=bootstrap,
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
    return sorted(found, key=lambda incoming: (incoming.partition, incoming.offset))[:limit]


async def redrive(bootstrap: str, topic: str, *, limit: int = 100) -> int:
    """Publish the dead letters of `topic` to it again, less their `dlq_` headers; returns how many.

    They stay in the dead letter topic (a log is not edited); receivers that handled one already know its id.
    """
    letters = await read_dead_letters(bootstrap, topic, limit=limit)
    publisher = Publisher(bootstrap, "sskai-redrive")
    try:
        producer = await publisher.start()
        for letter in letters:
            headers = [(name, text) for name, text in letter.headers if not name.startswith("dlq_")]
            await producer.send_and_wait(topic, value=letter.value, key=letter.key, headers=headers)
    finally:
        await publisher.stop()
    return len(letters)
