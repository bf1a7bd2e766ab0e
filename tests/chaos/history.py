"""What is known when all is over: every record on the broker, every inbox; and how fast things went on."""

from __future__ import annotations

import bisect
import statistics
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import psycopg

from sskai import broker_admin, contract
from sskai.bus import Incoming
from sskai.database import SERVICES
from tests.chaos.faults import Kill, Outage

READ_SECONDS = 120.0
EVERYTHING = 10**9
# An event that was told by then waited for the service; of a later one the time says less than the service took.
WAITED = timedelta(seconds=0.5)


@dataclass(frozen=True)
class History:
    """`told`: every event, in the order of its time; `letters`: what was set aside; `handled`: by service, in order."""

    told: list[contract.Envelope]
    letters: list[Incoming]
    handled: dict[str, list[tuple[datetime, str]]]

    def after_kills(self, kills: Iterable[Kill]) -> list[float]:
        """Seconds from each kill to the service's next event, of those for which one waited."""
        told = self._told_at()
        found = [self._next(kill.service.removesuffix("-1"), kill.at, told) for kill in kills]
        return [seconds for seconds in found if seconds is not None]

    def after_outages(self, outages: Iterable[Outage]) -> list[float]:
        """Seconds from each return of a store until every service for which an event waited had handled one."""
        told = self._told_at()
        found = []
        for outage in outages:
            each = [self._next(service, outage.until, told) for service in SERVICES]
            waited = [seconds for seconds in each if seconds is not None]
            found += [max(waited)] if waited else []
        return found

    def _told_at(self) -> dict[str, datetime]:
        return {envelope.id: envelope.time for envelope in self.told}

    def _next(self, service: str, at: datetime, told: dict[str, datetime]) -> float | None:
        rows = self.handled[service]
        index = bisect.bisect(rows, at, key=lambda row: row[0])
        if index == len(rows):
            return None
        handled_at, event_id = rows[index]
        waited = event_id in told and told[event_id] <= at + WAITED
        return (handled_at - at).total_seconds() if waited else None


async def read(bootstrap: str, connection: psycopg.Connection[Any]) -> History:
    """Everything, from the beginning."""
    set_aside = [topic + contract.DEAD_LETTER_SUFFIX for topic in contract.TOPICS]
    read = partial(broker_admin.read_records, bootstrap, limit=EVERYTHING, seconds=READ_SECONDS)
    told, letters = [], await read(*set_aside)
    for record in await read(*contract.TOPICS):
        with suppress(contract.UndecodableError):  # poison: it must be among the letters
            told.append(contract.decode(record.value, record.headers))
    handled = {
        service: connection.execute(
            f"SELECT handled_at, event_id FROM {service}.inbox ORDER BY handled_at"  # type: ignore[arg-type]
        ).fetchall()
        for service in SERVICES
    }
    return History(sorted(told, key=lambda envelope: envelope.time), letters, handled)  # type: ignore[arg-type]


def percentiles(seconds: Sequence[float]) -> dict[str, float | int | None]:
    """How many, and the 50th and 99th percentile; None of nothing."""
    if not seconds:
        return {"count": 0, "p50": None, "p99": None, "max": None}
    ordered = sorted(seconds)
    last = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
    return {
        "count": len(ordered),
        "p50": round(statistics.median(ordered), 2),
        "p99": round(last, 2),
        "max": round(ordered[-1], 2),
    }
