"""Spans and figures in PostgreSQL: a batch of any size in at most nine statements, every span counted exactly once."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from services.monitor.sketches import Cell
from services.monitor.spans import (
    HOUR_SECONDS,
    MAX_SERIES,
    MINUTE_SECONDS,
    Series,
    Span,
    TraceBook,
    count,
)
from services.monitor.tables import CellRow, SeriesRow, SpanRow, TraceRow

WINDOW_RETENTION = {MINUTE_SECONDS: timedelta(days=2), HOUR_SECONDS: timedelta(days=90)}
DELETE_LIMIT = 500  # traces in one transaction: each may have thousands of spans


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a batch."""

    kept: int
    counted_only: int  # their trace had enough of their kind
    duplicates: int


class SpanStore:
    """One transaction's view of spans, traces and figures."""

    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def add(self, spans: Iterable[Span], now: datetime) -> Taken:
        """Store and count the spans that are new. A span is its (trace id, span id): the first one told stands."""
        batch = list(spans)
        if not batch:
            return Taken(0, 0, 0)
        distinct = {(span.trace_id, span.span_id): span for span in reversed(batch)}
        books = await self._lock_traces(sorted({span.trace_id for span in batch}), now)
        known = await self._known(list(distinct))
        new = [span for key, span in distinct.items() if key not in known]
        new.sort(key=lambda span: (span.started_ns, span.span_id))
        kept = [books[span.trace_id].takes(span) for span in new]
        if new:
            await self._insert_spans(new, kept)
            await self._update_traces(books, new)
            await self._count(new)
        return Taken(sum(kept), len(new) - sum(kept), len(batch) - len(new))

    async def trace(self, trace_id: str) -> tuple[list[Span], int]:
        """The kept spans of a trace, and how many more were only counted."""
        bodies = (await self.session.scalars(select(SpanRow.body).filter_by(trace_id=trace_id))).all()
        kept = [Span(**body) for body in bodies if body is not None]
        return kept, len(bodies) - len(kept)

    async def cells(
        self, tenant_id: str, window_seconds: int, since: datetime, until: datetime, **labels: str
    ) -> list[tuple[Series, datetime, int, Cell]]:
        """A tenant's counters in the windows that start in [since, until), of the series that have these labels."""
        statement = (
            select(SeriesRow, CellRow)
            .join(CellRow, CellRow.series_id == SeriesRow.series_id)
            .where(
                CellRow.window_seconds == window_seconds, CellRow.window_start >= since, CellRow.window_start < until
            )
            .filter(SeriesRow.tenant_id == tenant_id)
            .filter(*(getattr(SeriesRow, label) == value for label, value in labels.items()))
            .order_by(CellRow.window_start)
        )
        return [
            (
                Series(row.tenant_id, row.service, row.name, row.model, row.model_version, row.endpoint_id),
                cell.window_start,
                cell.bucket,
                Cell(cell.spans, cell.errors, cell.seconds),
            )
            for row, cell in await self.session.execute(statement)
        ]

    async def forget(self, now: datetime, retention: timedelta, max_spans: int) -> int:
        """Delete some traces past their time, or the oldest while there are more than `max_spans`; and old windows.

        Returns the number of traces; call again until it is below DELETE_LIMIT.
        """
        old = select(TraceRow.trace_id).where(TraceRow.last_received_at < now - retention)
        total = func.sum(TraceRow.spans).over(order_by=(TraceRow.last_received_at.desc(), TraceRow.trace_id))
        newest_first = select(TraceRow.trace_id, total.label("total")).subquery()
        too_many = select(newest_first.c.trace_id).where(newest_first.c.total > max_spans)
        doomed = old.union(too_many).limit(DELETE_LIMIT).subquery()
        # A trace that is being written to is left for the next time: so nobody waits for anybody here.
        idle = select(TraceRow.trace_id).where(TraceRow.trace_id.in_(select(doomed.c.trace_id)))
        idle = idle.with_for_update(skip_locked=True)
        gone = await self.session.execute(delete(TraceRow).where(TraceRow.trace_id.in_(idle)))
        for window_seconds, kept_for in WINDOW_RETENTION.items():
            await self.session.execute(
                delete(CellRow).filter_by(window_seconds=window_seconds).where(CellRow.window_start < now - kept_for)
            )
        return int(gone.rowcount)  # type: ignore[attr-defined]

    async def _lock_traces(self, trace_ids: Sequence[str], now: datetime) -> dict[str, TraceBook]:
        """Make or lock the traces' rows, in one order for everybody: no two batches ever wait for each other.

        One statement, so that no trace is forgotten between being found and being locked.
        """
        found = await self.session.execute(
            text(
                "INSERT INTO monitor.traces (trace_id, names, spans, last_received_at) "
                "SELECT id, '{}', 0, :now FROM unnest(CAST(:ids AS text[])) AS id ORDER BY id "
                "ON CONFLICT (trace_id) DO UPDATE SET last_received_at = excluded.last_received_at "
                "RETURNING trace_id, names"
            ),
            {"ids": list(trace_ids), "now": now},
        )
        return {trace_id: TraceBook(names) for trace_id, names in found}

    async def _known(self, keys: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
        found = await self.session.execute(
            text(
                "SELECT trace_id, span_id FROM monitor.spans "
                "JOIN unnest(CAST(:traces AS text[]), CAST(:spans AS text[])) AS asked (trace_id, span_id) "
                "USING (trace_id, span_id)"
            ),
            {"traces": [trace for trace, _ in keys], "spans": [span for _, span in keys]},
        )
        return {(trace_id, span_id) for trace_id, span_id in found}

    async def _insert_spans(self, spans: Sequence[Span], kept: Sequence[bool]) -> None:
        await self.session.execute(
            text(
                "INSERT INTO monitor.spans (trace_id, span_id, body) "
                "SELECT * FROM unnest(CAST(:traces AS text[]), CAST(:spans AS text[]), CAST(:bodies AS jsonb[]))"
            ),
            {
                "traces": [span.trace_id for span in spans],
                "spans": [span.span_id for span in spans],
                "bodies": [json.dumps(asdict(span)) if keep else None for span, keep in zip(spans, kept, strict=True)],
            },
        )

    async def _update_traces(self, books: dict[str, TraceBook], new: Sequence[Span]) -> None:
        added: dict[str, int] = {}
        for span in new:
            added[span.trace_id] = added.get(span.trace_id, 0) + 1
        await self.session.execute(
            text(
                "UPDATE monitor.traces SET names = told.names, spans = spans + told.added "
                "FROM unnest(CAST(:ids AS text[]), CAST(:names AS jsonb[]), CAST(:added AS int[])) "
                "AS told (trace_id, names, added) WHERE traces.trace_id = told.trace_id"
            ),
            {
                "ids": list(added),
                "names": [json.dumps(books[trace_id].names) for trace_id in added],
                "added": list(added.values()),
            },
        )

    async def _count(self, new: Sequence[Span]) -> None:
        cells = count(new)
        ids = await self._series_ids({key.series for key in cells})
        sums: dict[tuple[int, int, datetime, int], Cell] = {}
        for key, cell in cells.items():
            place = (ids[key.series], key.window_seconds, key.window_start, key.bucket)
            sums[place] = sums[place] + cell if place in sums else cell
        # One order for everybody here, too: two batches that meet in several counters never wait for each other.
        places = sorted(sums)
        columns: dict[str, Any] = {
            "series": [place[0] for place in places],
            "windows": [place[1] for place in places],
            "starts": [place[2] for place in places],
            "buckets": [place[3] for place in places],
            "spans": [sums[place].spans for place in places],
            "errors": [sums[place].errors for place in places],
            "seconds": [sums[place].seconds for place in places],
        }
        await self.session.execute(
            text(
                "INSERT INTO monitor.cells AS cell "
                "(series_id, window_seconds, window_start, bucket, spans, errors, seconds) SELECT * FROM unnest("
                "CAST(:series AS bigint[]), CAST(:windows AS int[]), CAST(:starts AS timestamptz[]), "
                "CAST(:buckets AS int[]), CAST(:spans AS bigint[]), CAST(:errors AS bigint[]), "
                "CAST(:seconds AS float8[])) "
                "ON CONFLICT (series_id, window_seconds, window_start, bucket) DO UPDATE SET "
                "spans = cell.spans + excluded.spans, errors = cell.errors + excluded.errors, "
                "seconds = cell.seconds + excluded.seconds"
            ),
            columns,
        )

    async def _series_ids(self, wanted: set[Series]) -> dict[Series, int]:
        """The id of each series. Beyond MAX_SERIES a new one is counted with its service's other ones."""
        known = await self._find_series(wanted)
        missing = wanted - known.keys()
        if not missing:
            return known
        room = MAX_SERIES - int(await self.session.scalar(select(func.count()).select_from(SeriesRow)) or 0)
        stands_for = {
            series: series if place < room else series.collapsed for place, series in enumerate(sorted(missing))
        }
        made = sorted(set(stands_for.values()))
        await self.session.execute(
            text(
                "INSERT INTO monitor.series (tenant_id, service, name, model, model_version, endpoint_id) "  # noqa: S608
                f"SELECT * FROM {_UNNEST_LABELS} ON CONFLICT DO NOTHING"
            ),
            _labels(made),
        )
        found = await self._find_series(set(made))
        return known | {series: found[stand_in] for series, stand_in in stands_for.items()}

    async def _find_series(self, wanted: set[Series]) -> dict[Series, int]:
        rows = await self.session.execute(
            text(
                "SELECT series_id, tenant_id, service, name, model, model_version, endpoint_id "  # noqa: S608
                f"FROM monitor.series JOIN {_UNNEST_LABELS} AS asked "
                "(tenant_id, service, name, model, model_version, endpoint_id) "
                "USING (tenant_id, service, name, model, model_version, endpoint_id)"
            ),
            _labels(sorted(wanted)),
        )
        return {Series(*labels): series_id for series_id, *labels in rows}


_UNNEST_LABELS = (
    "unnest(CAST(:tenants AS text[]), CAST(:services AS text[]), CAST(:names AS text[]), CAST(:models AS text[]), "
    "CAST(:versions AS text[]), CAST(:endpoints AS text[]))"
)


def _labels(series: Sequence[Series]) -> dict[str, list[str]]:
    return {
        "tenants": [one.tenant_id for one in series],
        "services": [one.service for one in series],
        "names": [one.name for one in series],
        "models": [one.model for one in series],
        "versions": [one.model_version for one in series],
        "endpoints": [one.endpoint_id for one in series],
    }
