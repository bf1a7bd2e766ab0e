"""Event streams: of each tenant that somebody listens to, one reader of the log for all of its streams.

The reader is woken by the hub, reads what is new once, renders it once and wakes the streams, which take their bytes
from the ring. A stream that is behind the ring reads the log itself until it has caught up.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager, suppress

import structlog
from fastapi.sse import format_sse_event
from prometheus_client import Counter, Gauge
from sqlalchemy.exc import SQLAlchemyError

from services.gateway.event_log import EventLog
from services.gateway.hub import Hub
from services.gateway.ring import MOST_EVENTS, Cut, Entry, Ring, Wanted, entry, slice_of
from services.gateway.tables import EventRow
from sskai.database import Database

log = structlog.get_logger()

STREAMS = Gauge("sskai_gateway_event_streams", "Event streams that are open")
READS = Counter("sskai_gateway_event_log_reads", "Reads of the event log for streams", ["reader"])

EVENTS_AT_ONCE = 200  # of the reader
EVENTS_TO_CATCH_UP = 100  # of a stream that is behind
CATCHING_UP_AT_ONCE = 4  # in one process: the other connections to the database are for requests
# The reader's pause after it has woken its streams, in which events gather: a lone event is sent at once, and of many
# with many streams each stream gets one write for several of them. A write costs about 50 microseconds.
PAUSE_SECONDS, PAUSE_SECONDS_PER_STREAM, LONGEST_PAUSE_SECONDS = 0.02, 0.0001, 0.25
WOKEN_AT_ONCE = 50  # streams, before requests have their turn again
RETRY_SECONDS = 0.5
RETRY_MILLISECONDS = 1_000  # what a browser waits before it comes back


class Feed:
    """One tenant's ring and who reads it."""

    def __init__(self, database: Database, hub: Hub, tenant_id: str, ring: Ring) -> None:
        self.ring = ring
        self.readers: set[asyncio.Event] = set()
        self._database, self._hub, self._tenant_id = database, hub, tenant_id
        self.task = asyncio.create_task(self._run(), name=f"feed of {tenant_id}")

    async def _run(self) -> None:
        with self._hub.waiting(self._tenant_id) as woken:
            while True:
                woken.clear()
                try:
                    while await self._read() == EVENTS_AT_ONCE:
                        await self._wake()
                except (SQLAlchemyError, OSError) as error:
                    log.warning("the event log cannot be read", tenant=self._tenant_id, error=str(error)[:500])
                    await asyncio.sleep(RETRY_SECONDS)
                    continue
                await self._wake()
                await asyncio.sleep(
                    min(PAUSE_SECONDS + len(self.readers) * PAUSE_SECONDS_PER_STREAM, LONGEST_PAUSE_SECONDS)
                )
                await woken.wait()

    async def _read(self) -> int:
        READS.labels(reader="feed").inc()
        async with self._database.transaction() as session:
            rows = await EventLog(session).after(self._tenant_id, self.ring.newest, [], None, EVENTS_AT_ONCE)
        self.ring.append(_rendered(rows))
        return len(rows)

    async def _wake(self) -> None:
        for number, woken in enumerate(list(self.readers), start=1):
            woken.set()
            if number % WOKEN_AT_ONCE == 0:
                await asyncio.sleep(0)


class Feeds:
    """The feeds of this process: one for each tenant that has streams."""

    def __init__(self, database: Database, hub: Hub, *, most_events: int = MOST_EVENTS) -> None:
        self.hub = hub
        self._database = database
        self._most_events = most_events  # of each ring
        self._feeds: dict[str, Feed] = {}
        self._reading = asyncio.Semaphore(CATCHING_UP_AT_ONCE)

    async def bounds(self, tenant_id: str) -> tuple[int, int]:
        """The oldest and the newest position in the log; (0, 0): it is empty."""
        async with self._reading, self._database.transaction() as session:
            return await EventLog(session).bounds(tenant_id)

    @contextmanager
    def listening(self, tenant_id: str, woken: asyncio.Event, newest: int) -> Iterator[Ring]:
        """The tenant's ring, for as long as the block lasts; `woken` is set whenever there may be more in it.

        The first who listens says where the ring begins: `newest` is a position that the log had before.
        """
        feed = self._feeds.get(tenant_id)
        if feed is None:
            ring = Ring(newest, most_events=self._most_events)
            feed = self._feeds[tenant_id] = Feed(self._database, self.hub, tenant_id, ring)
        feed.readers.add(woken)
        STREAMS.inc()
        try:
            yield feed.ring
        finally:
            STREAMS.dec()
            feed.readers.discard(woken)
            if not feed.readers:
                del self._feeds[tenant_id]
                feed.task.cancel()

    async def catch_up(self, tenant_id: str, position: int, wanted: Wanted, floor: int) -> Cut:
        """What comes next in the log for a stream that is behind the ring, whose floor is `floor` now."""
        READS.labels(reader="stream").inc()
        async with self._reading, self._database.transaction() as session:
            rows = await EventLog(session).after(
                tenant_id, position, sorted(wanted.types), wanted.subject, EVENTS_TO_CATCH_UP
            )
        rendered, count = slice_of(_rendered(rows))
        if count == len(rows) < EVENTS_TO_CATCH_UP:
            # All that is up to the floor was seen: what the filters left out is not looked at again.
            return Cut(rendered, max(position, floor, rows[-1].id if rows else 0))
        return Cut(rendered, rows[count - 1].id)


class Stream:
    """What one client is sent: every event after `after` that it wants, in their order, each once."""

    def __init__(
        self, feeds: Feeds, tenant_id: str, wanted: Wanted, after: int | None, *, heartbeat_seconds: float
    ) -> None:
        self._feeds, self._tenant_id, self._wanted, self._after = feeds, tenant_id, wanted, after
        self._heartbeat_seconds = heartbeat_seconds
        self._woken = asyncio.Event()
        self._left = False

    def leave(self) -> None:
        """The client is gone."""
        self._left = True
        self._woken.set()

    async def pieces(self) -> AsyncGenerator[bytes]:
        """The bytes of one write each, until the client leaves or the process stops."""
        oldest, newest = await self._feeds.bounds(self._tenant_id)
        position = newest if self._after is None else self._after
        yield format_sse_event(comment="connected", id=str(position), retry=RETRY_MILLISECONDS)
        if 0 < position < oldest - 1:
            yield format_sse_event(comment=f"older events are no longer kept; the oldest is {oldest}")
        clock = asyncio.get_running_loop().time
        with self._feeds.listening(self._tenant_id, self._woken, newest) as ring:
            silent_since = clock()
            while not (self._left or self._feeds.hub.closing.is_set()):
                self._woken.clear()
                cut = ring.cut(position, self._wanted)
                if cut is None:
                    cut = await self._feeds.catch_up(self._tenant_id, position, self._wanted, ring.floor)
                moved, position = cut.position > position, cut.position
                if cut.rendered:
                    yield cut.rendered
                    silent_since = clock()
                elif clock() - silent_since >= self._heartbeat_seconds:
                    yield format_sse_event(comment="still here", id=str(position))
                    silent_since = clock()
                elif not moved:
                    with suppress(TimeoutError):
                        async with asyncio.timeout_at(silent_since + self._heartbeat_seconds):
                            await self._woken.wait()


def _rendered(rows: Sequence[EventRow]) -> list[Entry]:
    return [entry(row.id, row.type, row.subject, row.event) for row in rows]
