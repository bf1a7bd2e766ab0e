"""A dataset's next version: all rows of the newest one, and rows made of what an endpoint was asked.

The version before streams by, from the object store into the spool; in memory are only the requests that may teach
something, of which there is a limit. Nothing here is visible until a row in the library names it: as with uploads, the
object is named by its content, and a crash leaves at worst one that nobody names.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, Any

from services.gateway import trafficrows
from services.gateway.datareport import Summary
from services.gateway.datasets import MAX_ROWS, Scan
from services.gateway.library import Library, validated
from services.gateway.plain import plain
from services.gateway.settings import Settings
from services.gateway.store import Store
from services.gateway.trafficrows import Candidate, Counts, Exchange
from services.gateway.values import Dataset
from sskai.contract import timestamp
from sskai.database import Database
from sskai.events import v1 as events
from sskai.objects import Objects


class SupersededError(Exception):
    """Somebody uploaded a newer version than the one that was cut from: cut again, or their rows would be lost."""


@dataclass(frozen=True, slots=True)
class Order:
    """What to cut: the newest version of whose dataset, and what was asked of which of its owner's endpoints."""

    parent: Dataset
    endpoint_id: str
    until: datetime
    minimum_rows: int
    since: datetime | None = None
    retrain_id: str = ""


@dataclass(frozen=True, slots=True)
class Cut:
    """What came of it. `refusal`: why it is no new version; empty: `summary` and `uri` are there."""

    order: Order
    counts: Counts
    rows: list[Candidate]
    refusal: str = ""
    summary: Summary | None = None
    uri: str = ""

    @property
    def lineage(self) -> dict[str, Any]:
        """As the library keeps it."""
        order = self.order
        event = events.DatasetLineage(
            parent_dataset_id=order.parent.dataset_id,
            parent_version=order.parent.version,
            endpoint_id=order.endpoint_id,
            retrain_id=order.retrain_id,
            until=timestamp(order.until),
        )
        for name, number in self.counts.as_dict().items():
            setattr(event, name, number)
        if order.since is not None:
            event.since.CopyFrom(timestamp(order.since))
        return plain(event)


@dataclass(frozen=True)
class Cutter:
    """Reads what there is, and writes objects; what becomes of a cut is for its caller's transaction."""

    database: Database
    objects: Objects
    settings: Settings

    async def look(self, order: Order) -> Cut:
        """What would come of it; nothing is written."""
        exchanges = await self._exchanges(order)
        return await asyncio.to_thread(self._cut, order, exchanges, None)

    async def make(self, order: Order) -> Cut:
        """Cut, and put the object there, unless there is a `refusal`. Raises ObjectsUnavailableError."""
        exchanges = await self._exchanges(order)
        with NamedTemporaryFile(dir=self.settings.spool_dir, prefix="sskai-cut-") as spool:
            cut = await asyncio.to_thread(self._cut, order, exchanges, spool)
            if cut.summary is None:
                return cut
            parent = order.parent
            key = f"tenants/{parent.tenant_id}/datasets/{parent.name}/{cut.summary.sha256}.jsonl"
            await asyncio.to_thread(self.objects.put_file, key, Path(spool.name))
        return Cut(order, cut.counts, cut.rows, summary=cut.summary, uri=self.objects.uri(key))

    async def _exchanges(self, order: Order) -> list[Exchange]:
        if order.parent.format not in trafficrows.FORMATS:
            return []
        async with self.database.transaction() as session:
            return await Store(session).traffic.exchanges(
                order.parent.tenant_id,
                order.endpoint_id,
                since=order.since,
                until=order.until,
                inputs=order.parent.format == "text",
                limit=self.settings.traffic_rows_per_endpoint,
            )

    def _cut(self, order: Order, exchanges: Iterable[Exchange], spool: IO[bytes] | None) -> Cut:
        parent, settings = order.parent, self.settings
        if parent.format not in trafficrows.FORMATS:
            known = ", ".join(trafficrows.FORMATS)
            refusal = f"rows of {parent.format!r} cannot be made of requests, only {known}"
            return Cut(order, Counts(), [], refusal)
        candidates, counts = trafficrows.made(exchanges, parent.format)
        if len(candidates) < order.minimum_rows:
            rows, counts = trafficrows.chosen(candidates.values(), counts, max_rows=MAX_ROWS, max_bytes=1 << 62)
            return Cut(order, counts, rows, _too_few(counts, order))
        scan = Scan(spool.write if spool is not None else None)
        seen = _Seen(parent.format, candidates)
        for line in trafficrows.lines(self.objects.open(self.objects.key(parent.uri))):
            scan.feed(line)
            seen.take(line)
        room = min(trafficrows.max_new_rows(parent.rows, settings.traffic_share), MAX_ROWS - parent.rows)
        rows, counts = trafficrows.chosen(
            seen.fresh(),
            Counts(duplicates=counts.duplicates + seen.duplicates, too_long=counts.too_long),
            max_rows=room,
            max_bytes=settings.max_dataset_bytes - seen.bytes,
        )
        if len(rows) < order.minimum_rows:
            return Cut(order, counts, rows, _too_few(counts, order))
        for candidate in rows:
            scan.feed(candidate.line)
        summary = scan.summary()
        if spool is not None:
            spool.flush()
        return Cut(order, counts, rows, summary=summary)


async def keep(cut: Cut, library: Library, now: datetime) -> tuple[Dataset, list[events.DatasetValidated]]:
    """Make a cut visible, in the caller's transaction; nothing is told of content that is a version already.

    Raises SupersededError.
    """
    parent = cut.order.parent
    assert cut.summary is not None, "a refused cut is not kept"
    await library.lock_versions(parent.tenant_id, parent.name)
    newest = await library.dataset(parent.tenant_id, parent.name)
    if newest is None or newest.version != parent.version:
        raise SupersededError(f"{parent.name}@{parent.version}")
    dataset, new = await library.add_dataset(
        parent.tenant_id, parent.name, cut.uri, cut.summary, now, lineage=cut.lineage
    )
    return dataset, [validated(dataset)] if new else []


class _Seen:
    """The rows of the version before as they pass: which candidates they are, and what all of them begin with."""

    def __init__(self, dataset_format: str, candidates: dict[str, Candidate]) -> None:
        self.bytes = 0
        self.duplicates = 0
        self._format = dataset_format
        self._candidates = dict(candidates)
        self._system: str | None = None  # None: no row was seen yet

    def take(self, line: bytes) -> None:
        row = json.loads(line)
        self.bytes += len(line)
        if self._candidates.pop(trafficrows.fingerprint(row, self._format), None) is not None:
            self.duplicates += 1
        system = trafficrows.system_of(row)
        self._system = system if self._system in (None, system) else ""

    def fresh(self) -> list[Candidate]:
        """What no row said. A system message that all rows begin with stands before the new ones too.

        Who asks sends it, but of a request only the last message is told.
        """
        fresh = list(self._candidates.values())
        return [trafficrows.under(self._system, each) for each in fresh] if self._system else fresh


def _too_few(counts: Counts, order: Order) -> str:
    said = f"{counts.rows} new rows could be made of requests, and {order.minimum_rows} are the least"
    left = [
        f"{number} {why}"
        for number, why in (
            (counts.duplicates, "were there already"),
            (counts.too_long, "were cut short"),
            (counts.over_limit, "were beyond the share or the size allowed"),
        )
        if number
    ]
    return said + (f" ({', '.join(left)})" if left else "")
