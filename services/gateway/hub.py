"""Who waits for events in this process, and the connection to PostgreSQL that wakes them: nobody polls.

Every event that is logged notifies at its commit. Waiters are woken by it whichever replica handled the event.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

import psycopg
import structlog
from sqlalchemy.engine import make_url

log = structlog.get_logger()

CHANNEL = "gateway_events"
LISTEN_SECONDS = 1.0  # how soon the listener notices that the service stops


class TooManyWaitersError(Exception):
    """The tenant has as many event streams open as it may."""


class Hub:
    """Wakes waiters by tenant or by subject. Spurious wakes are harmless: a waiter looks for itself."""

    def __init__(self) -> None:
        self.closing = asyncio.Event()
        self._waiters: dict[str, set[asyncio.Event]] = {}
        self._streams: Counter[str] = Counter()

    @contextmanager
    def waiting(self, name: str) -> Iterator[asyncio.Event]:
        """An event that is set whenever something about a tenant or subject `name` was logged."""
        woken = asyncio.Event()
        self._waiters.setdefault(name, set()).add(woken)
        try:
            yield woken
        finally:
            self._waiters[name].discard(woken)
            if not self._waiters[name]:
                del self._waiters[name]

    @contextmanager
    def stream_of(self, tenant_id: str, limit: int) -> Iterator[None]:
        """Holds one of a tenant's places for event streams. Raises TooManyWaitersError."""
        if self._streams[tenant_id] >= limit:
            raise TooManyWaitersError(tenant_id)
        self._streams[tenant_id] += 1
        try:
            yield
        finally:
            self._streams[tenant_id] -= 1

    async def pause(self, woken: asyncio.Event, seconds: float) -> None:
        """Until woken, or the time is over, or the process stops."""
        waits = [asyncio.ensure_future(woken.wait()), asyncio.ensure_future(self.closing.wait())]
        try:
            await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def wake(self, *names: str) -> None:
        for name in names:
            for woken in self._waiters.get(name, ()):
                woken.set()

    def wake_all(self) -> None:
        """After a connection was lost: whatever was told meanwhile is looked up."""
        self.wake(*self._waiters)

    def close(self) -> None:
        """Streams end and waits return: the process stops."""
        self.closing.set()


class Listener:
    """Hears the notifications of the event log. `turn` is a loop's body; the connection outlives it."""

    def __init__(self, hub: Hub, url: str) -> None:
        self._hub = hub
        self._url = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
        self._connection: psycopg.AsyncConnection | None = None

    async def turn(self) -> None:
        """Listen for a while; raises psycopg.OperationalError while the database is away."""
        if self._connection is None:
            self._connection = await psycopg.AsyncConnection.connect(self._url, autocommit=True, connect_timeout=5)
            await self._connection.execute(f"LISTEN {CHANNEL}")
            self._hub.wake_all()
        try:
            async for notification in self._connection.notifies(timeout=LISTEN_SECONDS):
                self._hub.wake(*notification.payload.split(" ", 1))
        except psycopg.Error:
            await self.close()
            raise

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                await connection.close()


@asynccontextmanager
async def listening(hub: Hub, url: str) -> AsyncIterator[None]:
    """A listener for as long as the block lasts."""
    listener = Listener(hub, url)

    async def listen() -> None:
        while not hub.closing.is_set():
            try:
                await listener.turn()
            except psycopg.Error as error:
                log.warning("event log is not heard", error=str(error))
                await hub.pause(asyncio.Event(), LISTEN_SECONDS)

    task = asyncio.create_task(listen(), name="listen")
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await listener.close()
