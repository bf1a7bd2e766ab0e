"""Who answers for an endpoint now: read from the database, and from what replicas tell of themselves.

`ready` is asked for every answer, so it looks at memory only. A loop reads it anew, and at once when a replica tells
something new to this process; who waits for a change is woken.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from urllib.parse import urlsplit

from services.inference import replica_store
from services.inference.remote_engine import Replica
from services.inference.replica_set import Reason, ReplicaState
from services.inference.replica_store import ReplicaStore
from services.inference.tables import ReplicaRow
from sskai.database import Database

# Five of its words missed: it may answer, and perhaps not.
HEARD_WITHIN_SECONDS = 10.0
MAX_DETAIL_CHARACTERS = 1000


@dataclass(frozen=True, slots=True)
class Report:
    """What a replica tells of itself. `state`: "ready" | "draining" | "failed"."""

    state: str
    url: str = ""
    load_seconds: float = 0.0
    active: int = 0
    waiting: int = 0
    tokens_per_second: float = 0.0
    reason: str = ""
    detail: str = ""


class Heard(StrEnum):
    """What becomes of a report."""

    TAKEN = "taken"
    UNKNOWN = "unknown"  # there is no such replica
    FORBIDDEN = "forbidden"  # the token is not its own
    ENDED = "ended"  # nobody wants it any more


class Replicas:
    def __init__(self, database: Database, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._database = database
        self._clock = clock
        self._ready: dict[str, list[tuple[Replica, datetime]]] = {}  # by endpoint, with the last word
        self._suspects: dict[str, datetime] = {}  # replica -> its last word when it failed to answer
        self._changed = asyncio.Condition()
        # Since when replicas could be heard here at all.
        self.listening_since = clock()

    def ready(self, endpoint_id: str) -> list[Replica]:
        """Those that answer, as far as is known. May be called from any thread."""
        now = self._clock()
        return [
            one
            for one, heard_at in self._ready.get(endpoint_id, [])
            if (now - heard_at).total_seconds() < HEARD_WITHIN_SECONDS
            and self._suspects.get(one.replica_id) != heard_at
        ]

    def report_failure(self, replica_id: str) -> None:
        """It did not answer, or not sensibly: it is left alone until its next word. May be called from any thread."""
        for ready in self._ready.values():
            for one, heard_at in ready:
                if one.replica_id == replica_id:
                    self._suspects[replica_id] = heard_at

    async def read(self) -> None:
        """By the database's word."""
        async with self._database.transaction() as session:
            rows = await ReplicaStore(session).routable()
        ready: dict[str, list[tuple[Replica, datetime]]] = {}
        for row in rows:
            if row.heard_at is not None:
                one = Replica(row.replica_id, row.url, row.token)
                ready.setdefault(row.endpoint_id, []).append((one, row.heard_at))
        known = {row.replica_id for row in rows}
        self._suspects = {name: at for name, at in self._suspects.items() if name in known}
        before, self._ready = self._ready, ready
        if _names(before) != _names(ready):
            await self.announce()

    async def announce(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def wait_for_change(self, limit_seconds: float) -> None:
        """Return when other replicas are ready than before, or after the limit."""
        async with self._changed:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), limit_seconds)

    async def hear(self, replica_id: str, token: str, report: Report) -> Heard:
        """A replica's word about itself."""
        now = self._clock()
        async with self._database.transaction() as session:
            row = await ReplicaStore(session).replica(replica_id)
            if row is None:
                return Heard.UNKNOWN
            if not hmac.compare_digest(row.token.encode(), token.encode()):
                return Heard.FORBIDDEN
            if row.state == ReplicaState.ENDED:
                return Heard.ENDED
            endpoint_id, before = row.endpoint_id, row.state
            _take(row, report, now)
            changed = row.state != before
        if changed:
            # Not in one transaction: a turn locks the set first, then its replicas.
            async with self._database.transaction() as session:
                await ReplicaStore(session).wake(endpoint_id)
            await self.read()
        return Heard.TAKEN


def _take(row: ReplicaRow, report: Report, now: datetime) -> None:
    row.heard_at = now
    row.active, row.waiting, row.tokens_per_second = report.active, report.waiting, report.tokens_per_second
    if report.state == "failed":
        detail = f"{report.reason}: {report.detail}".strip(": ")[:MAX_DETAIL_CHARACTERS]
        replica_store.end(row, Reason.NOT_LOADED, now, detail)
        return
    replica = replica_store.replica_of(row)
    if report.state == "draining":
        if replica.state is not ReplicaState.DRAINING:
            reason = Reason.INTERRUPTED if replica.terminates_at else Reason.LEFT
            state = ReplicaState.DRAINING if replica.state is not ReplicaState.REQUESTED else ReplicaState.ENDED
            replica_store.write(row, replica.to(state, reason, now))
        return
    row.url = report.url
    if replica.state in (ReplicaState.REQUESTED, ReplicaState.LAUNCHING):
        row.state, row.ready_at, row.load_seconds = ReplicaState.READY, now, report.load_seconds
        # It may be heard before the launch that made it is recorded.
        row.launched_at = row.launched_at or row.requested_at


def url_problem(url: str) -> str:
    """Why a replica cannot be asked there; empty: it can."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "is no URL"
    is_plain = not (parts.path.strip("/") or parts.query or parts.fragment or parts.username)
    if parts.scheme != "http" or not parts.hostname or not port or not is_plain:
        return "must be http://HOST:PORT"
    return ""


def _names(ready: dict[str, list[tuple[Replica, datetime]]]) -> set[tuple[str, str]]:
    return {(one.replica_id, one.url) for several in ready.values() for one, _ in several}
