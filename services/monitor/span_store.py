"""Spans in PostgreSQL: a batch of any size in a few statements, every span counted exactly once."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, func, null, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from services.monitor.cells import Cells
from services.monitor.copying import NULL_FIELD, copy_in, json_field
from services.monitor.counting import count
from services.monitor.sampling import Sampling
from services.monitor.spans import MAX_SPANS_PER_TRACE, Span, TraceBook
from services.monitor.tables import SpanRow, TraceRow

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

    async def add(self, spans: Iterable[Span], now: datetime, sampling: Sampling | None = None) -> Taken:
        """Store and count the spans that are new. A span is its (trace id, span id): the first one told stands."""
        batch = list(spans)
        if not batch:
            return Taken(0, 0, 0)
        sampling = sampling or Sampling()
        distinct = {(span.trace_id, span.span_id): span for span in reversed(batch)}
        notable = {span.trace_id for span in batch if sampling.notable(span)}
        books = await self._lock_traces(sorted({span.trace_id for span in batch}), notable, now)
        known = await self._known(list(distinct))
        new = [span for key, span in distinct.items() if key not in known]
        new.sort(key=lambda span: (span.started_ns, span.span_id))
        kept = [books[span.trace_id].takes(span) for span in new]
        if new:
            await self._insert_spans(new, kept)
            await self._update_traces(books, new)
            await Cells(self.session).add(count(new))
        return Taken(sum(kept), len(new) - sum(kept), len(batch) - len(new))

    async def trace(self, trace_id: str) -> tuple[list[Span], int]:
        """The kept spans of a trace, and how many more were only counted."""
        bodies = (await self.session.scalars(select(SpanRow.body).filter_by(trace_id=trace_id))).all()
        kept = [Span(**body) for body in bodies if body is not None]
        return kept, len(bodies) - len(kept)

    async def kept_among(self, trace_ids: Sequence[str]) -> set[str]:
        """Those of the traces that can still be shown."""
        there = select(TraceRow.trace_id).where(TraceRow.trace_id.in_(trace_ids), TraceRow.kept.isnot(False))
        return set(await self.session.scalars(there))

    async def sample(self, sampling: Sampling, quiet_since: datetime) -> int:
        """Decide on traces that got nothing since then, or are as long as they may be. Returns how many.

        Of a trace that is not kept the spans' ids stay, so that none of them is counted twice.
        """
        whole = TraceRow.spans >= MAX_SPANS_PER_TRACE
        undecided = select(TraceRow).where(TraceRow.kept.is_(None), (TraceRow.last_received_at < quiet_since) | whole)
        undecided = undecided.order_by(TraceRow.last_received_at).limit(DELETE_LIMIT)
        rows = (await self.session.scalars(undecided.with_for_update(skip_locked=True))).all()
        for row in rows:
            row.kept = sampling.keeps(row.trace_id, notable=row.notable)
        dropped = [row.trace_id for row in rows if not row.kept]
        await self.session.execute(
            update(SpanRow).where(SpanRow.trace_id.in_(dropped), SpanRow.body.isnot(None)).values(body=null())
        )
        return len(rows)

    async def forget(self, now: datetime, retention: timedelta, max_spans: int) -> int:
        """Delete some traces past their time, or the oldest while there are more than `max_spans`.

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
        return int(gone.rowcount)  # type: ignore[attr-defined]

    async def _lock_traces(self, trace_ids: Sequence[str], notable: set[str], now: datetime) -> dict[str, TraceBook]:
        """Make or lock the traces' rows, in one order for everybody: no two batches ever wait for each other.

        One statement, so that no trace is forgotten between being found and being locked. A trace that was not kept
        and gets notable is kept from then on.
        """
        found = await self.session.execute(
            text(
                "INSERT INTO monitor.traces AS known (trace_id, names, spans, last_received_at, notable) "
                "SELECT id, '{}', 0, :now, notable "
                "FROM unnest(CAST(:ids AS text[]), CAST(:notable AS bool[])) AS told (id, notable) ORDER BY id "
                "ON CONFLICT (trace_id) DO UPDATE SET last_received_at = excluded.last_received_at, "
                "notable = known.notable OR excluded.notable, "
                "kept = CASE WHEN known.kept OR NOT excluded.notable THEN known.kept END "
                "RETURNING trace_id, names, kept"
            ),
            {"ids": list(trace_ids), "notable": [trace_id in notable for trace_id in trace_ids], "now": now},
        )
        return {trace_id: TraceBook(names, closed=kept is False) for trace_id, names, kept in found}

    async def _known(self, keys: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
        found = await self.session.execute(
            text(
                "SELECT trace_id, span_id FROM monitor.spans "
                "JOIN unnest(string_to_array(:traces, ','), string_to_array(:spans, ',')) AS asked (trace_id, span_id) "
                "USING (trace_id, span_id)"
            ),
            {"traces": ",".join(trace for trace, _ in keys), "spans": ",".join(span for _, span in keys)},
        )
        return {(trace_id, span_id) for trace_id, span_id in found}

    async def _insert_spans(self, spans: Sequence[Span], kept: Sequence[bool]) -> None:
        await copy_in(
            self.session,
            "monitor.spans (trace_id, span_id, body)",
            (
                f"{span.trace_id}\t{span.span_id}\t{json_field(span.body) if keep else NULL_FIELD}\n"
                for span, keep in zip(spans, kept, strict=True)
            ),
        )

    async def _update_traces(self, books: dict[str, TraceBook], new: Sequence[Span]) -> None:
        added: dict[str, int] = {}
        for span in new:
            added[span.trace_id] = added.get(span.trace_id, 0) + 1
        await self.session.execute(
            text(
                "UPDATE monitor.traces SET names = told.names, spans = spans + told.added "
                "FROM jsonb_to_recordset(CAST(:told AS jsonb)) AS told (trace_id text, names jsonb, added int) "
                "WHERE traces.trace_id = told.trace_id"
            ),
            {
                "told": json.dumps(
                    [
                        {"trace_id": trace_id, "names": books[trace_id].names, "added": number}
                        for trace_id, number in added.items()
                    ]
                )
            },
        )
