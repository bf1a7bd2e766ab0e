"""Handled once, told for certain: inbox and outbox in the transaction of the state they belong to, and the relay.

A handler's effect, the inbox row that remembers its event, and the outbox rows of what it tells commit together or not
at all. The relay publishes the outbox afterwards, in order. A crash at any point repeats a delivery at worst; the inbox
of the receiver makes that harmless. No Kafka transactions are needed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

import psycopg
import structlog
from alembic.operations import Operations
from google.protobuf.message import Message
from opentelemetry import trace
from sqlalchemy import BigInteger, Column, DateTime, LargeBinary, MetaData, Table, Text, delete, func, insert, select
from sqlalchemy import text as sql
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncSession

from sskai import contract, telemetry
from sskai.metrics import EVENTS_HANDLED, EVENTS_TOLD
from sskai.ownership import Owned

if TYPE_CHECKING:
    from sskai.database import Database

log = structlog.get_logger()

S = TypeVar("S")
Handler: TypeAlias = Callable[[Any, Any, datetime], Awaitable[list[Any]]]
Handlers: TypeAlias = Mapping[type[Message], Handler]

RELAY_BATCH = 500
RELAY_POLL_SECONDS = 1.0  # only when a notification was missed
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


def _table(session: AsyncSession, name: str) -> Table:
    schema = session.info["schema"]
    return _tables(schema)[name]


_TABLES: dict[str, dict[str, Table]] = {}


def _tables(schema: str) -> dict[str, Table]:
    if schema not in _TABLES:
        metadata = MetaData(schema=schema)
        add_tables(metadata)
        _TABLES[schema] = {table.name: table for table in metadata.sorted_tables}
    return _TABLES[schema]


async def tell(session: AsyncSession, *messages: Message) -> None:
    """Put events into the outbox of the running transaction: they go out if, and only if, it commits."""
    if not messages:
        return
    now = datetime.now(UTC)
    source = session.info["schema"]
    traceparent = telemetry.current_traceparent()
    rows = []
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
    await session.execute(insert(_table(session, "outbox")), rows)


def envelope_of(session: AsyncSession) -> contract.Envelope:
    """The event that is being handled in this transaction, with what CloudEvents says around it."""
    envelope: contract.Envelope = session.info["envelope"]
    return envelope


async def remember(session: AsyncSession, envelope: contract.Envelope) -> bool:
    """Write the inbox row, and keep the event for `envelope_of`. False: this event was handled before."""
    session.info["envelope"] = envelope
    row = {"source": envelope.source, "event_id": envelope.id}
    return (await session.execute(_remember(session.info["schema"]), row)).first() is not None


@cache
def _remember(schema: str) -> Any:
    """Made once: every event that is handled begins with it."""
    inbox = _tables(schema)["inbox"]
    return upsert(inbox).on_conflict_do_nothing().returning(inbox.c.event_id)


async def handle(
    database: Database,
    handlers: Handlers,
    store: Callable[[AsyncSession], S],
    envelope: contract.Envelope,
    now: datetime,
) -> list[Message] | None:
    """One event through one transaction: inbox, handler, outbox. Returns what was told; None: handled before."""
    handler = handlers[type(envelope.message)]
    attributes = {
        "messaging.system": "kafka",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": contract.topic_of(envelope.message),
        "messaging.consumer.group.name": database.schema,
        "messaging.message.id": envelope.id,
        "sskai.tenant": contract.tenant_of(envelope.message),
        "sskai.subject": envelope.key,
    }
    with telemetry.tracer().start_as_current_span(
        f"process {type(envelope.message).__name__}",
        context=telemetry.context_from(envelope.traceparent),
        kind=trace.SpanKind.CONSUMER,
        attributes=attributes,
    ):
        async with database.transaction() as session:
            if not await remember(session, envelope):
                EVENTS_HANDLED.labels(type=envelope.type, outcome="duplicate").inc()
                return None
            if isinstance(handlers, Owned):
                await handlers.refuse_foreign(session, envelope.message)
            told: list[Message] = await handler(envelope.message, store(session), now)
            await tell(session, *told)
    EVENTS_HANDLED.labels(type=envelope.type, outcome="handled").inc()
    return told


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
        url = make_url(self.database.url).set(drivername="postgresql").render_as_string(hide_password=False)
        async with await psycopg.AsyncConnection.connect(url, autocommit=True, connect_timeout=5) as connection:
            name = f"relay:{self.database.schema}"
            while not stopping.is_set():
                cursor = await connection.execute("SELECT pg_try_advisory_lock(hashtext(%s))", (name,))
                row = await cursor.fetchone()
                if row and row[0]:
                    break
                with suppress(TimeoutError):
                    await asyncio.wait_for(stopping.wait(), RELAY_POLL_SECONDS)
            await connection.execute(f'LISTEN "{_channel(self.database.schema)}"')
            while not stopping.is_set():
                while await self.publish_batch() == RELAY_BATCH:
                    pass
                async for _ in connection.notifies(timeout=RELAY_POLL_SECONDS, stop_after=1):
                    pass

    async def publish_batch(self) -> int:
        """Publish and delete the oldest rows; returns how many. A crash in between repeats them, nothing is lost."""
        outbox = _tables(self.database.schema)["outbox"]
        async with self.database.transaction() as session:
            rows = (await session.execute(select(outbox).order_by(outbox.c.id).limit(RELAY_BATCH))).all()
        if not rows:
            return 0
        await self.publisher.publish_all(
            contract.Envelope(
                contract.MESSAGES[row.type].FromString(row.value),
                row.event_id,
                self.database.schema,
                row.told_at,
                row.traceparent,
            )
            for row in rows
        )
        async with self.database.transaction() as session:
            await session.execute(delete(outbox).where(outbox.c.id.in_([row.id for row in rows])))
        self.published += len(rows)
        return len(rows)


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
