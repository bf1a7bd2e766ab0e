"""Reading the cloud's messages: each is committed before its source may forget it, and one that cannot be handled holds
up no other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

import structlog
from sqlalchemy import func
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.ext.asyncio import AsyncSession

from services.monitor import notices, sources
from services.monitor.metrics import SOURCE_AGE_SECONDS, SOURCE_UP
from services.monitor.notices import Desk
from services.monitor.sources import LocalCloud, Queue, Received, SourceAwayError
from services.monitor.tables import SourceRow
from sskai.database import Database

log = structlog.get_logger()

MAX_BATCHES_PER_TURN = 50
RENEW_SECONDS = sources.HIDDEN_SECONDS / 3
# A message that was given out so often and still cannot be handled is set aside with the error.
MAX_TIMES = 5
TOLD_EVERY_SECONDS = 15.0  # how often a source that answers is written down


@dataclass
class Reader:
    """What the loops that read have in common. `lead_seconds`: how long before its end a machine's is told."""

    database: Database
    lead_seconds: float
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    _written_at: dict[str, float] = field(default_factory=dict)

    def desk(self, session: AsyncSession) -> Desk:
        return Desk(session, self.clock(), self.lead_seconds)

    async def read_local_cloud(self, cloud: LocalCloud) -> None:
        """Tell the simulated cloud's new messages. The cursor moves with what was told, or not at all."""
        async with self.database.transaction() as session:
            sequence = await notices.cursor(session, cloud.source)
        async with self._watched(cloud.name):
            messages = await cloud.after(sequence)
        if not messages:
            return
        async with self.database.transaction() as session:
            desk = self.desk(session)
            for _, raw in messages:
                await desk.take(cloud.source, raw, ours=True)
            await notices.move_cursor(session, cloud.source, max(number for number, _ in messages))

    async def read_queue(self, queue: Queue, wait_seconds: int) -> None:
        """Tell an SQS queue's messages until it is empty, and delete each once that is committed."""
        for _ in range(MAX_BATCHES_PER_TURN):
            async with self._watched(queue.name):
                messages = await asyncio.to_thread(queue.receive, wait_seconds)
            if not messages:
                return
            async with _held(queue, messages):
                handled = await self._handle(queue.source, messages)
                if handled:
                    left = await asyncio.to_thread(queue.delete, [one.handle for one in handled])
                    if left:
                        log.warning("messages were not deleted, and come again", queue=queue.name, messages=left)

    async def _handle(self, source: str, messages: list[Received]) -> list[Received]:
        """Those whose effect is committed. One that raises is taken back alone, and comes again or is set aside."""
        handled = []
        async with self.database.transaction() as session:
            desk = self.desk(session)
            for message in messages:
                try:
                    async with session.begin_nested():
                        await desk.take(source, message.raw, ours=False)
                except (OperationalError, InterfaceError):
                    raise  # the database is away, which is no fault of the message
                except Exception as error:
                    log.warning("an interruption message could not be handled", error=repr(error), times=message.times)
                    if message.times < MAX_TIMES:
                        continue
                    await desk.set_aside(source, message.raw, f"not handled {message.times} times: {error!r}"[:500])
                handled.append(message)
        return handled

    async def tell_due(self) -> None:
        """The notices whose machine's end was far when they came."""
        async with self.database.transaction() as session:
            await self.desk(session).tell_due()

    async def forget(self) -> None:
        async with self.database.transaction() as session:
            await self.desk(session).forget()

    @asynccontextmanager
    async def _watched(self, name: str) -> AsyncIterator[None]:
        """Write down that a source answers, or since when it does not and why."""
        try:
            yield
        except SourceAwayError as error:
            SOURCE_UP.labels(source=name).set(0)
            self._written_at.pop(name, None)
            await self._write(name, problem=str(error))
            raise
        SOURCE_UP.labels(source=name).set(1)
        SOURCE_AGE_SECONDS.labels(source=name).set_function(_age_since(time.monotonic()))
        if time.monotonic() - self._written_at.get(name, float("-inf")) > TOLD_EVERY_SECONDS:
            self._written_at[name] = time.monotonic()
            await self._write(name, problem=None)

    async def _write(self, name: str, problem: str | None) -> None:
        now = self.clock()
        new = upsert(SourceRow).values(
            source=name,
            answered_at=None if problem else now,
            failing_since=now if problem else None,
            problem=problem,
        )
        change = {
            "answered_at": SourceRow.answered_at if problem else now,
            "failing_since": func.coalesce(SourceRow.failing_since, now) if problem else None,
            "problem": problem,
        }
        async with self.database.transaction() as session:
            await session.execute(new.on_conflict_do_update(index_elements=["source"], set_=change))


@asynccontextmanager
async def _held(queue: Queue, messages: list[Received]) -> AsyncIterator[None]:
    """Keep messages hidden from other readers for as long as they are being handled."""
    handles = [one.handle for one in messages]

    async def renew() -> None:
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            with suppress(SourceAwayError):
                await asyncio.to_thread(queue.hold, handles)

    renewing = asyncio.create_task(renew(), name="hold messages")
    try:
        yield
    finally:
        renewing.cancel()


def _age_since(began: float) -> Callable[[], float]:
    return lambda: time.monotonic() - began
