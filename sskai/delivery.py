"""Handled once, told for certain: inbox and outbox in the transaction of the state they belong to, and the relay.

A handler's effect, the inbox row that remembers its event, and the outbox rows of what it tells commit together or not
at all. The relay publishes the outbox afterwards, in order. A crash at any point repeats a delivery at worst; the inbox
of the receiver makes that harmless. No Kafka transactions are needed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

import psycopg
import structlog
from alembic.operations import Operations
from google.protobuf.message import Message
from opentelemetry import trace
from sqlalchemy import BigInteger, Column, DateTime, LargeBinary, MetaData, Table, Text, func, select
from sqlalchemy import text as sql
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncSession

from sskai import contract, ownership, telemetry
from sskai.metrics import EVENTS_HANDLED, EVENTS_TOLD
from sskai.ownership import Owned
from sskai.statements import Statement

if TYPE_CHECKING:
    from sskai.database import Database

log = structlog.get_logger()

# What says that the database, or another part, is away, and nothing about the work that it stopped.
AWAY = (OperationalError, InterfaceError, PoolTimeoutError, ConnectionError)

S = TypeVar("S")
Handler: TypeAlias = Callable[[Any, Any, datetime], Awaitable[list[Any]]]
Handlers: TypeAlias = Mapping[type[Message], Handler]

RELAY_BATCH = 500
RELAY_POLL_SECONDS = 1.0  # only when a notification was missed
OUTBOX = "outbox"  # of a session's `info`: see `tell_later`
TOGETHER_SECONDS = 0.25  # locks are held no longer for events that are handled together, but for the last one
MAX_COUNTED = 10_000
INBOX_RETENTION_DAYS = 7  # longer than Kafka's default log retention of a week would redeliver


def add_tables(metadata: MetaData) -> None:
    """Put the inbox and the outbox into a service's schema."""
    Table(
        "inbox",
        metadata,
        Column("source", Text, primary_key=True),
        Column("event_id", Text, primary_key=True),
        Column("handled_at", DateTime(timezone=True), nullable=False, server_default=func.now(), index=True),
    )
    Table(
        "outbox",
        metadata,
        Column("id", BigInteger, primary_key=True, autoincrement=True),
        Column("event_id", Text, nullable=False),
        Column("type", Text, nullable=False),
        Column("value", LargeBinary, nullable=False),
        Column("traceparent", Text),
        Column("told_at", DateTime(timezone=True), nullable=False),
    )


def create_delivery_tables(op: Operations | Any, schema: str) -> None:
    """For a service's first migration: inbox, outbox, and the trigger that wakes the relay at commit."""
    metadata = MetaData(schema=schema)
    add_tables(metadata)
    for table in metadata.sorted_tables:
        op.create_table(
            table.name,
            *[column._copy() for column in table.columns],
            schema=schema,
        )
    op.execute(
        f"""
        CREATE FUNCTION "{schema}".wake_relay() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_notify('{_channel(schema)}', ''); RETURN NULL; END $$
        """
    )
    op.execute(
        f"""
        CREATE TRIGGER wake_relay AFTER INSERT ON "{schema}".outbox
        FOR EACH STATEMENT EXECUTE FUNCTION "{schema}".wake_relay()
        """
    )


def _channel(schema: str) -> str:
    return f"outbox_{schema}"


@cache
def _tables(schema: str) -> dict[str, Table]:
    metadata = MetaData(schema=schema)
    add_tables(metadata)
    return {table.name: table for table in metadata.sorted_tables}


async def tell(session: AsyncSession, *messages: Message) -> None:
    """Put events into the outbox of the running transaction: they go out if, and only if, it commits."""
    if not messages:
        return
    now = datetime.now(UTC)
    source = session.info["schema"]
    traceparent = telemetry.current_traceparent()
    rows: list[dict[str, Any]] = []
    for message in messages:
        envelope = contract.Envelope(message, contract.new_id("evt"), source, now, traceparent)
        record = contract.encode(envelope)  # refuses what Kafka would refuse, while the caller can still roll back
        rows.append(
            {
                "event_id": envelope.id,
                "type": envelope.type,
                "value": record.value,
                "traceparent": traceparent,
                "told_at": now,
            }
        )
        EVENTS_TOLD.labels(type=envelope.type).inc()
    if OUTBOX in session.info:
        session.info[OUTBOX].extend(rows)
        return
    await _add_to_outbox(session, rows)


def tell_later(session: AsyncSession) -> list[dict[str, Any]]:
    """From now on `tell` only collects the rows, here; whoever asked for it inserts them before the commit."""
    rows: list[dict[str, Any]] = session.info.setdefault(OUTBOX, [])
    return rows


def envelope_of(session: AsyncSession) -> contract.Envelope:
    """The event that is being handled in this transaction, with what CloudEvents says around it."""
    envelope: contract.Envelope = session.info["envelope"]
    return envelope


async def remember(session: AsyncSession, envelope: contract.Envelope, asked: ownership.Asked = ()) -> bool:
    """Write the inbox row, and keep the event for `envelope_of`. False: this event was handled before.

    In the same question, whose the things are that the event names: raises ForeignEventError if another tenant's.
    """
    session.info["envelope"] = envelope
    row = {"source": envelope.source, "event_id": envelope.id, **ownership.names(envelope.message, asked)}
    written = await _remember(session.info["schema"], asked).first(session, row)
    if written is None:
        return False
    ownership.refuse_foreign(envelope.message, asked, written[1:])
    return True


@cache
def _remember(schema: str, asked: ownership.Asked) -> Statement:
    inbox = _tables(schema)["inbox"]
    owners = ownership.owners(asked)
    written = upsert(inbox).on_conflict_do_nothing().returning(inbox.c.event_id, *owners)
    return Statement(written, ("source", "event_id"))


async def handle(
    database: Database,
    handlers: Handlers,
    store: Callable[[AsyncSession], S],
    envelope: contract.Envelope,
    now: datetime | None,
) -> list[Message] | None:
    """One event through one transaction: inbox, handler, outbox. Returns what was told; None: handled before.

    `now` None: at the time that the event itself says, as when a log is read again."""
    with _span(database.schema, envelope):
        async with database.transaction() as session:
            if not await remember(session, envelope, _asked(handlers, envelope)):
                EVENTS_HANDLED.labels(type=envelope.type, outcome="duplicate").inc()
                return None
            told = await _handle(session, handlers, store, envelope, now)
    EVENTS_HANDLED.labels(type=envelope.type, outcome="handled").inc()
    return told


async def handle_together(
    database: Database,
    handlers: Handlers,
    store: Callable[[AsyncSession], S],
    envelopes: Sequence[contract.Envelope],
    now: datetime | None,
) -> list[list[Message] | None]:
    """Events through one transaction, in their order; each as `handle` would say it. What is not done within
    TOGETHER_SECONDS is left to the next call, so there may be fewer answers than events, but at least one.

    Raises TogetherError: this event cannot be handled; nothing of them was done.
    """
    deadline = time.monotonic() + TOGETHER_SECONDS
    told: list[list[Message] | None] = []
    async with database.transaction() as session:
        rows = tell_later(session)
        new = await _remember_all(session, envelopes)
        for index, envelope in enumerate(envelopes):
            if index and time.monotonic() > deadline:
                break
            if _identity(envelope) not in new:
                told.append(None)
                continue
            new.remove(_identity(envelope))  # the same event may come once more
            session.info["envelope"] = envelope
            try:
                with _span(database.schema, envelope, len(envelopes)):
                    await _refuse_foreign(session, _asked(handlers, envelope), envelope.message)
                    told.append(await _handle(session, handlers, store, envelope, now))
                    if has_objects(session):
                        await session.flush()
            except AWAY:
                raise  # says nothing about this event
            except Exception as error:
                raise contract.TogetherError(index) from error
            # As if each had a session of its own: what one has read is old for the next.
            if has_objects(session):
                session.expunge_all()
        if len(told) < len(envelopes):
            await session.execute(_forget_these(database.schema), _arrays(new))
        await _add_to_outbox(session, rows)
    for envelope, answer in zip(envelopes, told, strict=False):
        EVENTS_HANDLED.labels(type=envelope.type, outcome="duplicate" if answer is None else "handled").inc()
    return told


async def _handle(
    session: AsyncSession,
    handlers: Handlers,
    store: Callable[[AsyncSession], S],
    envelope: contract.Envelope,
    now: datetime | None,
) -> list[Message]:
    handler = handlers[type(envelope.message)]
    told: list[Message] = await handler(envelope.message, store(session), now or envelope.time)
    await tell(session, *told)
    return told


def has_objects(session: AsyncSession) -> bool:
    """Whether there may be something to flush: to ask costs less than to flush nothing."""
    return bool(session.new or session.identity_map)


def _asked(handlers: Handlers, envelope: contract.Envelope) -> ownership.Asked:
    return handlers.asked(envelope.message) if isinstance(handlers, Owned) else ()


async def _refuse_foreign(session: AsyncSession, asked: ownership.Asked, event: Message) -> None:
    """As `remember` does, of an event whose inbox row was written with others'."""
    if asked:
        (found,) = await _whose(asked).all(session, ownership.names(event, asked))
        ownership.refuse_foreign(event, asked, found)


@cache
def _whose(asked: ownership.Asked) -> Statement:
    return Statement(select(*ownership.owners(asked)))


def _span(group: str, envelope: contract.Envelope, together: int = 1) -> AbstractContextManager[trace.Span]:
    attributes: dict[str, str | int] = {
        "messaging.system": "kafka",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": contract.topic_of(envelope.message),
        "messaging.consumer.group.name": group,
        "messaging.message.id": envelope.id,
        "sskai.tenant": contract.tenant_of(envelope.message),
        "sskai.subject": envelope.key,
    }
    if together > 1:
        attributes["messaging.batch.message_count"] = together
    return telemetry.tracer().start_as_current_span(
        f"process {type(envelope.message).__name__}",
        context=telemetry.context_from(envelope.traceparent),
        kind=trace.SpanKind.CONSUMER,
        attributes=attributes,
    )


def _identity(envelope: contract.Envelope) -> tuple[str, str]:
    return envelope.source, envelope.id


def _arrays(identities: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    # Always in one order: two members that insert the same ones (during a rebalance) wait, but not for each other.
    ordered = sorted(identities)
    return {"sources": [source for source, _ in ordered], "ids": [id_ for _, id_ in ordered]}


async def _remember_all(session: AsyncSession, envelopes: Sequence[contract.Envelope]) -> set[tuple[str, str]]:
    """Write the inbox rows; the identities of those that were not handled before."""
    rows = _arrays(set(map(_identity, envelopes)))
    return set(await _remember_these(session.info["schema"]).all(session, rows))


@cache
def _remember_these(schema: str) -> Statement:
    return Statement(
        sql(
            f'INSERT INTO "{schema}".inbox (source, event_id) '  # noqa: S608 (no user input)
            "SELECT * FROM unnest(CAST(:sources AS text[]), CAST(:ids AS text[])) "
            "ON CONFLICT DO NOTHING RETURNING source, event_id"
        )
    )


@cache
def _forget_these(schema: str) -> Any:
    return sql(
        f'DELETE FROM "{schema}".inbox WHERE (source, event_id) IN '  # noqa: S608 (no user input)
        "(SELECT * FROM unnest(CAST(:sources AS text[]), CAST(:ids AS text[])))"
    )


async def _add_to_outbox(session: AsyncSession, rows: Sequence[Mapping[str, Any]]) -> None:
    if rows:
        await _told(session.info["schema"]).all(session, outbox_values(rows))


@cache
def _told(schema: str) -> Statement:
    return Statement(sql(outbox_insert(schema)))


def outbox_insert(schema: str) -> str:
    """The statement that puts rows into the outbox; its parameters are `outbox_values`."""
    return (
        f'INSERT INTO "{schema}".outbox (event_id, type, value, traceparent, told_at) '  # noqa: S608 (no user input)
        "SELECT * FROM unnest(CAST(:event_id AS text[]), CAST(:type AS text[]), CAST(:value AS bytea[]), "
        "CAST(:traceparent AS text[]), CAST(:told_at AS timestamptz[]))"
    )


def outbox_values(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """For `outbox_insert`."""
    return {name: [row[name] for row in rows] for name in rows[0]}


class Publisher(Protocol):
    """What the relay needs of the bus."""

    async def publish_all(self, envelopes: Iterable[contract.Envelope]) -> None: ...


@dataclass
class Relay:
    """Publishes one service's outbox in order. Of several replicas only one relays at a time (advisory lock)."""

    database: Database
    publisher: Publisher
    published: int = field(default=0, init=False)

    async def run(self, stopping: asyncio.Event) -> None:
        """Relay until `stopping`; what goes wrong is logged and tried again, for ever, with backoff."""
        pause_seconds = 0.1
        while not stopping.is_set():
            try:
                await self._lead(stopping)
                pause_seconds = 0.1
            except asyncio.CancelledError:
                raise
            except Exception as error:
                log.warning("relay waits", error=repr(error), pause_seconds=pause_seconds)
                with suppress(TimeoutError):
                    await asyncio.wait_for(stopping.wait(), pause_seconds)
                pause_seconds = min(pause_seconds * 2, 5.0)

    async def _lead(self, stopping: asyncio.Event) -> None:
        # A deletion that a crash of the database undoes publishes its events again, which harms nothing.
        async with await self.database.own_connection(waits_for_disk=False) as connection:
            name = f"relay:{self.database.schema}"
            while not stopping.is_set():
                cursor = await connection.execute("SELECT pg_try_advisory_lock(hashtext(%s))", (name,))
                row = await cursor.fetchone()
                if row and row[0]:
                    break
                with suppress(TimeoutError):
                    await asyncio.wait_for(stopping.wait(), RELAY_POLL_SECONDS)
            await connection.execute(f'LISTEN "{_channel(self.database.schema)}"')
            published: list[int] = []
            while not stopping.is_set():
                published = await self._publish(connection, published)
                if not published:
                    async for _ in connection.notifies(timeout=RELAY_POLL_SECONDS, stop_after=1):
                        pass
            await self._next(connection, published, 0)

    async def publish_batch(self) -> int:
        """Publish and delete the oldest rows; returns how many. A crash in between repeats them, nothing is lost."""
        async with self.database.pooled_connection() as connection:
            published = await self._publish(connection, [])
            await self._next(connection, published, 0)
        return len(published)

    async def _publish(self, connection: psycopg.AsyncConnection[Any], published: list[int]) -> list[int]:
        """Delete what was published, publish the oldest of the rest; their ids."""
        rows = await self._next(connection, published, RELAY_BATCH)
        if rows:
            await self.publisher.publish_all(
                contract.Envelope(contract.MESSAGES[kind].FromString(value), event_id, self.database.schema, at, parent)
                for _, event_id, kind, value, parent, at in rows
            )
            self.published += len(rows)
        return [row[0] for row in rows]

    async def _next(self, connection: psycopg.AsyncConnection[Any], published: list[int], limit: int) -> list[Any]:
        """The oldest rows that are not among those that were published, which are deleted by the same statement."""
        outbox = f'"{self.database.schema}".outbox'
        cursor = await connection.execute(
            f"WITH gone AS (DELETE FROM {outbox} WHERE id = ANY(%(ids)s)) "  # noqa: S608
            f"SELECT id, event_id, type, value, traceparent, told_at FROM {outbox} WHERE id <> ALL(%(ids)s) "
            "ORDER BY id LIMIT %(limit)s",
            {"ids": published, "limit": limit},
            binary=True,
        )
        return await cursor.fetchall()


def backlog_query(schema: str) -> str:
    """How many events wait to be published (MAX_COUNTED at most), and for how many seconds the oldest does."""
    return (
        "SELECT count(*), greatest(0, coalesce(extract(epoch FROM clock_timestamp() - min(told_at)), 0))::float "  # noqa: S608
        f'FROM (SELECT told_at FROM "{schema}".outbox ORDER BY id LIMIT {MAX_COUNTED}) AS oldest'
    )


async def outbox_backlog(database: Database) -> tuple[int, float]:
    """As `backlog_query` says it."""
    async with database.transaction() as session:
        count, age_seconds = (await session.execute(sql(backlog_query(database.schema)))).one()
    return count, age_seconds


async def forget_old_events(database: Database) -> None:
    """Delete inbox rows past their retention, a bounded batch at a time."""
    inbox = f'"{database.schema}".inbox'
    async with database.transaction() as session:
        await session.execute(
            sql(
                f"DELETE FROM {inbox} WHERE ctid IN (SELECT ctid FROM {inbox} "  # noqa: S608 (no user input)
                f"WHERE handled_at < now() - interval '{INBOX_RETENTION_DAYS} days' LIMIT 5000)"
            )
        )
