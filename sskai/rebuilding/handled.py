"""Which records of the log are in the state that stands: what was handled by one moment, and what is still to come."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from sskai import contract
from sskai.broker_log import Log
from sskai.bus import Incoming
from sskai.rebuilding.dead import Place, set_aside
from sskai.rebuilding.states import Connection

MAX_LATE = 10_000  # records in memory that were set aside and handled all the same
NAMED = 5


class Handled:
    """By `at`. `moving`: keys of events that are told and not handled yet: of rows about them nothing can be said."""

    def __init__(self, stored: Connection, service: str, committed: Mapping[Any, int]) -> None:
        self._stored = stored
        self._service = service
        self._committed = {(at.topic, at.partition): offset for at, offset in committed.items()}
        self._left_out: set[Place] = set()
        self._late: list[Incoming] = []
        self.moving: set[str] = set()
        self.set_aside = 0
        self.not_yet = 0

    @classmethod
    async def at(cls, stored: Connection, service: str, committed: Mapping[Any, int]) -> Handled:
        """By the moment of the connection's transaction. `committed`: the group's offsets, read before it began."""
        handled = cls(stored, service, committed)
        cursor = await stored.execute(f'SELECT type, value FROM "{service}".outbox'.encode())  # noqa: S608 (ours)
        async for kind, value in cursor:
            handled.moving.add(contract.key_of(contract.MESSAGES[kind].FromString(value)))
        return handled

    async def leave_out(self, letters: Log) -> None:
        """What the service set aside where it stood."""
        self._left_out = set_aside([one async for one in letters.records()], self._service)

    async def of(self, log: Log) -> AsyncIterator[Incoming]:
        """The records that were handled."""
        async for record in log.records():
            if (record.topic, record.partition, record.offset) in self._left_out:
                self.set_aside += 1
                if len(self._late) < MAX_LATE:
                    self._late.append(record)
            elif record.offset < self._committed.get((record.topic, record.partition), 0) or await self._knows(record):
                yield record
            else:
                self.not_yet += 1
                self.moving.add((record.key or b"").decode(errors="replace"))

    async def late(self) -> list[Incoming]:
        """What was set aside, but handled after all by another member: its inbox row stands."""
        return [record for record in self._late if await self._knows(record)]

    async def _knows(self, record: Incoming) -> bool:
        try:
            event = contract.decode(record.value, record.headers)
        except (contract.UnknownTypeError, contract.UndecodableError):
            return False  # nobody remembers it
        query = f'SELECT 1 FROM "{self._service}".inbox WHERE source = %s AND event_id = %s'  # noqa: S608
        found = await self._stored.execute(query.encode(), (event.source, event.id))
        return await found.fetchone() is not None

    async def missing(self, rebuilt: Connection) -> list[str]:
        """Events that the service remembers and that the log does not have, in words; empty: none."""
        count, named = 0, list[str]()
        theirs = self._inbox(rebuilt)
        other = await anext(theirs, None)
        async for one in self._inbox(self._stored):
            while other is not None and other < one:
                other = await anext(theirs, None)
            if other != one:
                count += 1
                named += [one.decode().replace("\x00", " ")] if len(named) < NAMED else []
        if not count:
            return []
        return [f"{count} events that {self._service} handled do not stand on the log, such as {', '.join(named)}"]

    async def _inbox(self, connection: Connection) -> AsyncIterator[bytes]:
        one = "convert_to(source, 'UTF8') || '\\x00'::bytea || convert_to(event_id, 'UTF8')"
        query = f'SELECT {one} AS one FROM "{self._service}".inbox ORDER BY one'  # noqa: S608 (a name of ours)
        async with connection.cursor(name="inbox") as cursor:
            cursor.itersize = 5_000
            await cursor.execute(query.encode())
            async for (one,) in cursor:
                yield bytes(one)
