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

from sskai.database import plain_url

log = structlog.get_logger()

CHANNEL = "gateway_events"
RECONNECT_SECONDS = 0.5


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

    def streams_of(self, tenant_id: str) -> int:
        """How many of the tenant's places are held in this process."""
        return self._streams[tenant_id]

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
        self.wake_all()


@asynccontextmanager
async def listening(hub: Hub, url: str) -> AsyncIterator[None]:
    """For as long as the block lasts, the hub hears the event log of the database at `url`."""
    task = asyncio.create_task(_listen(hub, plain_url(url)), name="listen")
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _listen(hub: Hub, url: str) -> None:
    while not hub.closing.is_set():
        try:
            async with await psycopg.AsyncConnection.connect(url, autocommit=True, connect_timeout=5) as connection:
                await connection.execute(f"LISTEN {CHANNEL}")
                hub.wake_all()
                async for notification in connection.notifies():
                    hub.wake(*notification.payload.split(" ", 1))
        except psycopg.Error as error:
            log.warning("the event log is not heard", error=str(error))
            await asyncio.sleep(RECONNECT_SECONDS)
