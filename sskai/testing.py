"""What the tests share: an in-memory bus, one event through the real path, waiting for a condition, fresh databases."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any, TypeVar

import psycopg
from google.protobuf.message import Message
from sqlalchemy.engine import make_url

from sskai import broker_admin, contract, delivery
from sskai.bus import Incoming
from sskai.database import Database, migrate, plain_url

T = TypeVar("T")


def envelope(message: Message, *, source: str = "test", traceparent: str | None = None) -> contract.Envelope:
    """The message as an event that nobody has seen yet."""
    return contract.Envelope(message, contract.new_id("evt"), source, datetime.now(UTC), traceparent)


def incoming(message: Message, **attributes: Any) -> Incoming:
    """The message as the bus would hand it over."""
    record = contract.encode(envelope(message, **attributes))
    return Incoming(record.topic, 0, 0, record.key, record.value, record.headers)


async def heard(kafka: str, *topics: str, seconds: float = 5) -> list[contract.Envelope]:
    """What can be decoded of what stands on `topics`: tests share a broker, and some write what nobody can decode."""
    found = []
    for record in await broker_admin.read_records(kafka, *topics, limit=10_000, seconds=seconds):
        with suppress(contract.UndecodableError):
            found.append(contract.decode(record.value, record.headers))
    return found


async def handle(
    handlers: delivery.Handlers,
    database: Database,
    store: Callable[[Any], Any],
    message: Message | contract.Envelope,
    now: datetime | None = None,
) -> list[Any]:
    """One event through inbox, handler and outbox on a real database; returns what was told. Of a repeated one, and of
    another tenant's that would be set aside: []."""
    wrapped = message if isinstance(message, contract.Envelope) else envelope(message)
    with suppress(contract.ForeignEventError):
        return await delivery.handle(database, handlers, store, wrapped, now or datetime.now(UTC)) or []
    return []


class InMemoryBus:
    """Stands in for Kafka between handlers of several services: in order, encoded and decoded for real."""

    def __init__(self) -> None:
        self.told: list[Message] = []
        self._waiting: deque[contract.Record] = deque()
        self._receivers: list[tuple[Database, delivery.Handlers, Callable[[Any], Any]]] = []

    def connect(self, database: Database, handlers: delivery.Handlers, store: Callable[[Any], Any]) -> None:
        """A service that takes part."""
        self._receivers.append((database, handlers, store))

    async def publish_all(self, envelopes: Iterable[contract.Envelope]) -> None:
        for one in envelopes:
            self.told.append(one.message)
            self._waiting.append(contract.encode(one))

    async def publish(self, *messages: Message) -> None:
        """Facts from outside."""
        await self.publish_all(envelope(message) for message in messages)

    async def settle(self, limit: int = 10_000) -> None:
        """Deliver until nobody has anything more to tell."""
        for _ in range(limit):
            for database, _handlers, _store in self._receivers:
                await delivery.Relay(database, self).publish_batch()
            if not self._waiting:
                return
            record = self._waiting.popleft()
            event = contract.decode(record.value, record.headers)
            for database, handlers, store in self._receivers:
                if type(event.message) in handlers:
                    with suppress(contract.ForeignEventError):  # a real bus sets it aside, and goes on
                        await delivery.handle(database, handlers, store, event, datetime.now(UTC))
        raise AssertionError(f"still events to deliver after {limit}: do two services answer each other for ever?")


async def wait_for(
    condition: Callable[[], T | Awaitable[T]], *, limit_seconds: float = 10, pause_seconds: float = 0.02
) -> T:
    """The first true value of `condition` (sync or async); AssertionError after the limit."""
    deadline = time.monotonic() + limit_seconds
    while True:
        value: Any = condition()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value  # type: ignore[no-any-return]
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {limit_seconds} s: {inspect.getsource(condition).strip()}")
        await asyncio.sleep(pause_seconds)


@asynccontextmanager
async def fresh_database(server_url: str, service: str) -> AsyncIterator[Database]:
    """A database of its own for one test, with the schema of one service, dropped afterwards."""
    name = contract.new_id("test")
    async with await _connect(server_url) as server:
        await server.execute(f'CREATE DATABASE "{name}" TEMPLATE "{await _template(server, server_url, service)}"')
    database = Database(_named(server_url, name), service, pool_size=5)
    try:
        yield database
    finally:
        await database.close()
        async with await _connect(server_url) as server:
            await server.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


async def _template(server: psycopg.AsyncConnection[Any], server_url: str, service: str) -> str:
    """A database in which the service's migrations have run: they take longer than to copy what they made."""
    template = f"template_{service}"
    found = await server.execute("SELECT 1 FROM pg_database WHERE datname = %s", [template])
    if await found.fetchone() is None:
        migrated = contract.new_id("test")
        await server.execute(f'CREATE DATABASE "{migrated}"')
        await asyncio.to_thread(migrate, _named(server_url, migrated), service)
        await server.execute(f'ALTER DATABASE "{migrated}" RENAME TO "{template}"')
    return template


async def _connect(server_url: str) -> psycopg.AsyncConnection[Any]:
    return await psycopg.AsyncConnection.connect(plain_url(server_url), autocommit=True)


def _named(server_url: str, database: str) -> str:
    return make_url(server_url).set(database=database).render_as_string(hide_password=False)


@asynccontextmanager
async def served(app: Any) -> AsyncIterator[str]:
    """An ASGI application on a free port of loopback; its address."""
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, lifespan="off"))
    server.config.load()
    task = asyncio.create_task(server._serve())
    try:
        await wait_for(lambda: server.started, limit_seconds=30)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await task
