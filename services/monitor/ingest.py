"""Group commit: requests that arrive while a batch is being written go together into the next one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from services.monitor.metrics import INGEST_SECONDS, SPANS
from services.monitor.sampling import Sampling
from services.monitor.span_store import SpanStore, Taken
from services.monitor.spans import Span
from sskai.database import Database

MAX_WAITING_SPANS = 50_000  # some 100 MB; a sender is told to come back rather than the monitor to die
MAX_BATCH_SPANS = 5_000


class BusyError(Exception):
    """More spans wait than may: send them again later."""


@dataclass(slots=True)
class _Ticket:
    spans: Sequence[Span]
    done: bool = False
    error: Exception | None = None


@dataclass(slots=True)
class Sampler:
    """What is known now of which traces to keep; the loops learn, whoever stores spans asks. One per process."""

    sampling: Sampling = field(default_factory=Sampling)


class Ingest:
    """Writes spans in batches. One per process."""

    def __init__(self, database: Database, sampler: Sampler | None = None) -> None:
        self._database = database
        self._sampler = sampler or Sampler()
        self._lock = asyncio.Lock()
        self._waiting: list[_Ticket] = []

    async def add(self, spans: Sequence[Span]) -> None:
        """Return when the spans are committed. Raises BusyError, or what the database raised."""
        if sum(len(ticket.spans) for ticket in self._waiting) + len(spans) > MAX_WAITING_SPANS:
            raise BusyError
        ticket = _Ticket(spans)
        self._waiting.append(ticket)
        async with self._lock:
            # Whoever had the lock before may have taken these spans along.
            while not ticket.done:
                await self._write_next()
        if ticket.error is not None:
            raise ticket.error

    async def _write_next(self) -> None:
        batch = [self._waiting.pop(0)]
        size = len(batch[0].spans)
        while self._waiting and size + len(self._waiting[0].spans) <= MAX_BATCH_SPANS:
            batch.append(self._waiting.pop(0))
            size += len(batch[-1].spans)
        error: Exception | None = RuntimeError("the writer was stopped")
        try:
            async with self._database.transaction() as session:
                spans = [span for ticket in batch for span in ticket.spans]
                taken = await take(SpanStore(session), spans, self._sampler.sampling)
            count_outcomes(taken)
            error = None
        except Exception as reason:
            error = reason
        finally:
            for ticket in batch:
                ticket.done, ticket.error = True, error


async def take(store: SpanStore, spans: Sequence[Span], sampling: Sampling) -> Taken:
    """Store spans in the running transaction, timed."""
    started = time.perf_counter()
    taken = await store.add(spans, datetime.now(UTC), sampling)
    INGEST_SECONDS.observe(time.perf_counter() - started)
    return taken


def count_outcomes(taken: Taken) -> None:
    """Tell Prometheus what became of a committed batch."""
    SPANS.labels(outcome="kept").inc(taken.kept)
    SPANS.labels(outcome="counted-only").inc(taken.counted_only)
    SPANS.labels(outcome="duplicate").inc(taken.duplicates)
