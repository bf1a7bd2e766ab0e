"""A connection of a service's own, outside of its pool: the relay's, which holds a lock, listens, and writes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from psycopg import errors
from sqlalchemy.util import greenlet_spawn

from simulation.loop import ACTOR

if TYPE_CHECKING:
    from simulation.postgres import Server


class _Rows:
    """What a statement gave."""

    def __init__(self, rows: list[Any]) -> None:
        self._rows = rows

    async def fetchone(self) -> Any:
        return self._rows[0] if self._rows else None

    async def fetchall(self) -> list[Any]:
        return self._rows


class OwnConnection:
    """`psycopg.AsyncConnection` with autocommit, as far as `sskai.delivery` knows it. Locks and notifications are kept
    here; every other statement is the server's."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._event = asyncio.Event()
        self._actor = ACTOR.get()
        self._channel = ""
        self._lock = ""
        self._epoch = server.epoch
        self._check()

    def _check(self) -> None:
        alive = self._actor is not None and self._actor.alive
        if self._server.weather.away or self._epoch != self._server.epoch or not alive:
            raise errors.OperationalError("the database is away (simulated)")

    async def __aenter__(self) -> OwnConnection:
        return self

    async def __aexit__(self, *_error: object) -> None:
        self._server.listeners.get(self._channel, {}).pop(self._event, None)
        if self._lock and self._server.locks.get(self._lock) is self._actor:
            del self._server.locks[self._lock]

    async def execute(self, query: str, parameters: Any = (), *, binary: bool = False) -> _Rows:  # noqa: ARG002
        self._check()
        if "pg_try_advisory_lock" in query:
            return _Rows([(self._take(parameters[0]),)])
        if query.startswith("LISTEN") and self._actor is not None:
            self._channel = self._actor.name.split("/")[0]
            self._server.listeners.setdefault(self._channel, {})[self._event] = None
            return _Rows([])
        return _Rows(await greenlet_spawn(self._ask, query, parameters))

    def _take(self, lock: str) -> bool:
        holder = self._server.locks.get(lock)
        if self._actor is None or (holder is not None and holder.alive and holder is not self._actor):
            return False
        self._lock, self._server.locks[lock] = lock, self._actor
        return True

    def _ask(self, query: str, parameters: Any) -> list[Any]:
        """On a connection of the pool, and committed."""
        borrowed = self._server.engine.raw_connection()
        try:
            cursor: Any = borrowed.cursor()
            cursor.execute(query, parameters)
            rows = cursor.fetchall()
            borrowed.commit()
        finally:
            borrowed.close()
        return list(rows)

    async def notifies(self, *, timeout: float, stop_after: int) -> AsyncIterator[None]:
        assert stop_after == 1
        self._check()
        try:
            await asyncio.wait_for(self._event.wait(), timeout)
        except TimeoutError:
            return
        self._check()
        self._event.clear()
        yield None
