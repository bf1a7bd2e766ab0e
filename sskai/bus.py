"""Kafka as services use it: publish, consume, retry, set aside. What operators ask of it is in `broker_admin.py`.

Delivery is at least once and in order per key; the inbox makes effects happen once. Each partition has a worker of its
own, so that one that retries holds up nobody else. What waits in a partition is handled together; where that fails, the
record that failed is handled alone. An offset is committed only when its record was handled, skipped as an unknown
type, or set aside in `<topic>.dlq` with the reason in its headers.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeAlias

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaConnectionError, KafkaError
from opentelemetry import trace

from sskai import contract, failpoints, telemetry
from sskai.broker import Broker, options_of
from sskai.metrics import CONSUMER_LAG, DEAD_LETTERS, EVENTS_SKIPPED

log = structlog.get_logger()

MAX_ATTEMPTS = 5  # of a handler that raises, before its record is set aside
FIRST_BACKOFF_SECONDS = 0.1
LAST_BACKOFF_SECONDS = 5.0
MAX_QUEUED_RECORDS = 500  # per partition, in memory
MAX_TOGETHER = 100  # records of a partition in one transaction
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


def dead_letter_headers(incoming: Incoming, reason: str, detail: str, consumer: str) -> list[tuple[str, bytes]]:
    """What a record that is set aside carries: its own headers, and where it was and why it is here."""
    return [
        *((name, text) for name, text in incoming.headers if not name.startswith("dlq_")),
        ("dlq_reason", reason.encode()),
        # An error may quote the record: half of a surrogate pair has no UTF-8, and would stop the partition here.
        ("dlq_detail", detail[:2000].encode(errors="backslashreplace")),
        ("dlq_consumer", consumer.encode()),
        ("dlq_partition", str(incoming.partition).encode()),
        ("dlq_offset", str(incoming.offset).encode()),
    ]


Handle: TypeAlias = Callable[[Incoming], Awaitable[None]]
# Returns how many of the first ones are done, at least one; raises TogetherError, or anything else, if none is.
HandleTogether: TypeAlias = Callable[[Sequence[Incoming]], Awaitable[int]]


def backoff_seconds(attempt: int) -> float:
    """Exponential with full jitter on its upper half: 0.1, 0.2, ... 5 s at most."""
    ceiling: float = min(LAST_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2.0 ** min(attempt, 16))
    return ceiling * random.uniform(0.5, 1.0)


@failpoints.boundary("broker", KafkaConnectionError)
class Publisher:
    """An idempotent producer (acks=all). `publish_all` returns when the broker has every record."""

    def __init__(self, broker: Broker | str, client_id: str) -> None:
        self._options = options_of(broker)
        self._client_id = client_id
        self._producer: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()

    async def start(self) -> AIOKafkaProducer:
        """Connect if not connected; raises KafkaError while the broker is away."""
        async with self._starting:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    **self._options,
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
            # Not the current span: nothing else begins below it, and to change the context costs more than the span.
            span = telemetry.tracer().start_span(
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
            )
            try:
                waiting.append(
                    await producer.send(record.topic, value=record.value, key=record.key, headers=record.headers)
                )
            except BaseException as error:
                span.record_exception(error)
                raise
            finally:
                span.end()
        for acknowledged in waiting:
            await acknowledged

    async def set_aside(self, incoming: Incoming, reason: str, detail: str) -> None:
        """Copy a record to its dead letter topic; its headers say where it was and why it is here."""
        producer = await self.start()
        headers = dead_letter_headers(incoming, reason, detail, self._client_id)
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
        self._limit = MAX_TOGETHER
        self.task = asyncio.create_task(self._run(), name=f"{partition.topic}-{partition.partition}")

    async def _run(self) -> None:
        while (incoming := await self.records.get()) is not None:
            waiting: deque[list[Incoming]] = deque([[incoming, *self._more()]])
            while waiting:
                records = waiting.popleft()
                if records[self._limit :]:
                    waiting.appendleft(records[self._limit :])
                    records = records[: self._limit]
                done = await self._handle_together(records, waiting) if len(records) > 1 else 0
                if len(records) == 1 and await self._handle(records[0]):
                    done = 1
                if self.stopping.is_set() and not done:
                    return
                if done:
                    self.handled_up_to = records[done - 1].offset + 1
                    if records[done:]:
                        waiting.appendleft(records[done:])

    def _more(self) -> list[Incoming]:
        """What else is there already, as far as it may be handled together."""
        found: list[Incoming] = []
        while len(found) + 1 < self._limit and self._consumer.handle_together and not self.records.empty():
            incoming = self.records.get_nowait()
            if incoming is None:
                self.records.put_nowait(None)
                break
            found.append(incoming)
        return found

    async def _handle_together(self, records: list[Incoming], waiting: deque[list[Incoming]]) -> int:
        """How many are done. 0: none, and `waiting` begins with smaller parts of them, in order."""
        assert self._consumer.handle_together is not None
        try:
            # One at a time: two that lock the same rows in different orders would wait for each other.
            async with self._consumer.turn:
                if self.stopping.is_set():
                    return 0
                done = await self._consumer.handle_together(records)
            # As many as the time sufficed for, and a few more: what is not done is decoded again.
            self._limit = min(MAX_TOGETHER, self._limit + 5) if done == len(records) else max(2, done)
            return done
        except contract.TogetherError as error:
            parts = [records[: error.index], records[error.index : error.index + 1], records[error.index + 1 :]]
            waiting.extendleft(part for part in reversed(parts) if part)
        except Exception as error:
            # A lock that another process holds the other way round, or a part that is away.
            self._limit = max(2, self._limit // 2)
            log.warning("handled one by one", topic=records[0].topic, records=len(records), error=repr(error)[:500])
            waiting.extendleft([record] for record in reversed(records))
        return 0

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
        broker: Broker | str,
        group: str,
        topics: Iterable[str],
        handle: Handle,
        publisher: Publisher,
        *,
        instance: str = "",
        handle_together: HandleTogether | None = None,
    ) -> None:
        self.handle = handle
        self.handle_together = handle_together
        self.turn = asyncio.Lock()  # of the worker that handles several records together
        self.publisher = publisher
        self.ready = asyncio.Event()  # partitions were assigned at least once
        self._options = options_of(broker)
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
                **self._options,
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
