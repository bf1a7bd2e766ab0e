"""Sampled inferences on their way to the database: answers never wait for it."""

from __future__ import annotations

import asyncio
from collections import deque

from opentelemetry import context as otel_context
from prometheus_client import Counter

from sskai.database import Database
from sskai.delivery import tell
from sskai.events import v1 as events

DROPPED = Counter("sskai_inference_samples_dropped", "Sampled inferences dropped because too many waited")
MAX_BATCH = 200


class Samples:
    """A bounded buffer. Each sample is told in the trace of its request."""

    def __init__(self, limit: int, wake: asyncio.Event) -> None:
        self._limit = limit
        self._wake = wake
        self._waiting: deque[tuple[events.InferenceSampled, otel_context.Context]] = deque()

    def add(self, sample: events.InferenceSampled, context: otel_context.Context) -> None:
        """Keep it for the next telling; the buffer's limit reached, it is dropped and counted."""
        if len(self._waiting) >= self._limit:
            DROPPED.inc()
            return
        self._waiting.append((sample, context))
        self._wake.set()

    async def tell(self, database: Database) -> int:
        """Tell what waits, in one transaction; returns how many. What raises leaves them waiting."""
        batch = list(self._waiting)[:MAX_BATCH]
        if not batch:
            return 0
        async with database.transaction() as session:
            for sample, context in batch:
                token = otel_context.attach(context)
                try:
                    await tell(session, sample)
                finally:
                    otel_context.detach(token)
        for _ in batch:
            self._waiting.popleft()
        return len(batch)
