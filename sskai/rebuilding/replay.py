"""Events of a log, through a service's own handlers, into a database of their own. Nothing is told: no relay runs."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterable, Sequence
from dataclasses import dataclass, field

import psycopg
from google.protobuf.message import Message

from sskai import contract, delivery
from sskai.bus import MAX_TOGETHER, Incoming
from sskai.database import Database
from sskai.rebuilding.tables import Projection

MAX_PROBLEMS = 20  # that are named; the others are counted


@dataclass
class Counts:
    """What became of the records."""

    records: int = 0
    handled: int = 0
    repeated: int = 0  # the same event once more
    unread: int = 0  # of types that the service does not handle, or that this release does not know
    foreign: int = 0  # of one tenant about what another one has: refused, as by the service
    undecodable: int = 0
    failed: int = 0  # the handler raised: the service would have set it aside
    problems: list[str] = field(default_factory=list)

    def problem(self, text: str) -> None:
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(text[:500])


class Replay:
    """One rebuild. Each event is handled at the time that it says, so that the same log makes the same state."""

    def __init__(self, projection: Projection, database: Database) -> None:
        self.projection = projection
        self.database = database
        self.counts = Counts()

    async def prepare(self) -> None:
        """Once, before the first event."""
        async with self.database.pooled_connection() as connection:
            for index in self.projection.tables.unbound:
                await connection.execute(f'DROP INDEX "{self.database.schema}"."{index}"'.encode())

    async def run(self, records: AsyncIterable[Incoming]) -> None:
        """All of them, in their order."""
        waiting: list[Incoming] = []
        async for record in records:
            waiting.append(record)
            if len(waiting) == MAX_TOGETHER:
                await self.take(waiting)
                waiting = []
        await self.take(waiting)

    async def take(self, records: Sequence[Incoming]) -> None:
        """These records, together where that works, else one by one. Raises what says that the database is away."""
        self.counts.records += len(records)
        parts = deque([[event for record in records if (event := self._decode(record)) is not None]])
        while parts:
            if not (events := parts.popleft()):
                continue
            try:
                told = await self._handle_together(events)
                self._count(told)
                parts.appendleft(events[len(told) :])
            except contract.TogetherError as error:
                await self._handle_alone(events, error.index, parts)

    def _decode(self, record: Incoming) -> contract.Envelope | None:
        try:
            envelope = contract.decode(record.value, record.headers)
        except contract.UnknownTypeError:
            self.counts.unread += 1
            return None
        except contract.UndecodableError as error:
            self.counts.undecodable += 1
            self.counts.problem(f"{record.topic} {record.partition}@{record.offset}: {error}")
            return None
        if type(envelope.message) in self.projection.handlers:
            return envelope
        self.counts.unread += 1
        return None

    async def _handle_together(self, events: list[contract.Envelope]) -> Sequence[list[Message] | None]:
        of = self.projection
        return await delivery.handle_together(self.database, of.handlers, of.store, events, None)

    async def _handle_alone(
        self, events: list[contract.Envelope], index: int, parts: deque[list[contract.Envelope]]
    ) -> None:
        """What stands before the event that failed, the event by itself, and then the rest."""
        if index:
            parts.extendleft([events[index:], events[:index]])
            return
        of, event = self.projection, events[0]
        parts.appendleft(events[1:])
        try:
            self._count([await delivery.handle(self.database, of.handlers, of.store, event, None)])
        except contract.ForeignEventError:
            self.counts.foreign += 1
        except (*delivery.AWAY, psycopg.OperationalError):
            raise
        except Exception as error:
            self.counts.failed += 1
            self.counts.problem(f"{event.type} {event.key} ({event.id}): {error!r}")

    def _count(self, told: Sequence[list[Message] | None]) -> None:
        repeated = sum(answer is None for answer in told)
        self.counts.repeated += repeated
        self.counts.handled += len(told) - repeated
