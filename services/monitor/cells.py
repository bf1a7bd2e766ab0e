"""Figures in PostgreSQL: counters that are only ever added, and summed into longer windows as time goes by.

Each batch of spans adds rows of its own, so writers never wait for each other. When the next longer window is over, its
rows are summed into one of that length (`roll_up`) and marked: whoever asks for hours sums hours, and of the shorter
windows what is not in an hour yet. So each span is in every answer exactly once, however late it came.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from services.monitor.copying import NULL_FIELD, copy_in, json_field
from services.monitor.counting import (
    FINEST_SECONDS,
    MAX_JOB_SERIES,
    MAX_SERIES,
    WINDOWS_SECONDS,
    CellKey,
    Series,
    window_start,
)
from services.monitor.sketches import MAX_EXEMPLARS, Tally

ROLL_LAG = timedelta(seconds=60)  # spans come in batches: most of them are here by then, and so are rolled only once
ROLL_LIMIT = 5_000  # rows in one transaction: some 5 MB

LABELS = ("service", "name", "model", "model_version", "endpoint_id", "job_id", "attempt")

# Held shared while spans are counted, and alone while series are deleted: none is deleted under a batch.
_SERIES_LOCK = "hashtext('monitor.series')"
_ROLL_LOCK = "hashtext('monitor.roll')"

# Series, measure, start: what a cell is of, within one length of windows.
_Place: TypeAlias = tuple[int, str, datetime]


@dataclass(frozen=True, slots=True)
class Group:
    """A row of an answer: its values of the labels asked for, a measure and the start of a window."""

    labels: tuple[str, ...]
    measure: str
    window_start: datetime


class Cells:
    """One transaction's view of the figures."""

    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def add(self, counted: Mapping[CellKey, Tally]) -> None:
        """Add what a batch of spans counted, in windows of FINEST_SECONDS."""
        await self.session.execute(text(f"SELECT pg_advisory_xact_lock_shared({_SERIES_LOCK})"))
        ids = await self._series_ids({key.series for key in counted})
        merged: dict[_Place, Tally] = {}
        for key, tally in counted.items():
            place = (ids[key.series], key.measure, key.window_start)
            if place in merged:  # several series may be counted as one
                merged[place].merge(tally)
            else:
                merged[place] = tally
        await self._insert(merged, FINEST_SECONDS, rolled=False)

    async def answer(
        self,
        tenant_id: str,
        window_seconds: int,
        since: datetime,
        until: datetime,
        *,
        group_by: Sequence[str],
        whole: bool = False,
        labels: Mapping[str, str | Sequence[str]] | None = None,
        measures: Sequence[str] | None = None,
        exemplars: bool = False,
    ) -> dict[Group, Tally]:
        """What was counted in the windows that start in [since, until), by `group_by` and window (or `whole`: in all
        of them together) and measure, of the series that have these labels (or one of several). `tenant_id` empty:
        of all tenants.

        Rows of jobs' attempts are counted apart: they answer when `job_id` or `attempt` is asked for, and only then.
        Ask within one REPEATABLE READ transaction: counts, histograms and errors are read one after the other.
        """
        labels = labels or {}
        by_job = bool({"job_id", "attempt"} & {*group_by, *labels})
        conditions = ["job_id <> ''" if by_job else "job_id = ''"]
        values: dict[str, Any] = {"window": window_seconds, "since": since, "until": until}
        for label, value in {**labels, **({"tenant_id": tenant_id} if tenant_id else {})}.items():
            conditions.append(f"{label} = {f':{label}' if isinstance(value, str) else f'ANY(:{label})'}")
            values[label] = value
        if measures is not None:
            conditions.append("measure = ANY(:measures)")
            values["measures"] = list(measures)
        start = ":since" if whole else "date_bin(make_interval(secs => :window), window_start, 'epoch')"
        # The names of labels are this module's own: FigureQuery refuses any other.
        groups = ", ".join([*group_by, "measure"])
        picked = (
            f"WITH picked AS (SELECT {groups}, CAST({start} AS timestamptz) AS start, spans, total, "  # noqa: S608
            "buckets, counts, errors, exemplar_values, exemplar_trace_ids "
            "FROM monitor.cells JOIN monitor.series USING (series_id) "
            "WHERE (window_seconds = :window OR (window_seconds < :window AND NOT rolled)) "
            f"AND window_start >= :since AND window_start < :until AND {' AND '.join(conditions)}) "
        )

        async def sums(columns: str, source: str, by: str = "") -> AsyncIterator[tuple[Group, Any]]:
            by = f"{groups}, start {by}"
            statement = f"{picked} SELECT {groups}, start, {columns} FROM picked {source} GROUP BY {by}"  # noqa: S608
            for row in await self._read(statement, values):
                end = len(group_by)
                yield Group(tuple(row[:end]), row[end], row[end + 1]), row[end + 2 :]

        found = {
            group: Tally(int(spans), float(total)) async for group, (spans, total) in sums("sum(spans), sum(total)", "")
        }
        counted = ", unnest(buckets, counts) AS counted (bucket, number)"
        async for group, (bucket, number) in sums("bucket, sum(number)", counted, ", bucket"):
            found[group].counts[bucket] = int(number)
        failed = ", jsonb_each_text(errors) AS failed (kind, number)"
        async for group, (kind, number) in sums("kind, sum(CAST(number AS bigint))", failed, ", kind"):
            found[group].merge(Tally(errors={kind: int(number)}))
        if exemplars:
            largest = ", unnest(exemplar_values, exemplar_trace_ids) AS told (value, trace_id)"
            order = f"(array_agg({{}} ORDER BY value DESC, trace_id DESC))[1:{MAX_EXEMPLARS}]"
            columns = f"{order.format('value')}, {order.format('trace_id')}"
            async for group, (sizes, trace_ids) in sums(columns, largest):
                found[group].exemplars = list(zip(sizes, trace_ids, strict=True))
        return found

    async def roll_up(self, window_seconds: int, now: datetime, retention: Mapping[int, timedelta]) -> int:
        """Sum some windows of this length, of which the next longer one is over, into that. Returns how many rows.

        Call again until it is below ROLL_LIMIT. Of several monitors one rolls at a time.
        """
        longer = WINDOWS_SECONDS[WINDOWS_SECONDS.index(window_seconds) + 1]
        if not await self.session.scalar(text(f"SELECT pg_try_advisory_xact_lock({_ROLL_LOCK})")):
            return 0
        taken = await self._take(
            "cell_id IN (SELECT cell_id FROM monitor.cells WHERE window_seconds = :window AND NOT rolled "
            "AND window_start < :until ORDER BY window_start LIMIT :limit)",
            {"window": window_seconds, "until": window_start(now - ROLL_LAG, longer), "limit": ROLL_LIMIT},
        )
        if not taken:
            return 0
        short: dict[_Place, Tally] = {}
        long: dict[_Place, Tally] = {}
        kept_from = now - retention[window_seconds]
        for (series_id, measure, start), tally in taken:
            _into(long, (series_id, measure, window_start(start, longer)), tally)
            if start >= kept_from:
                _into(short, (series_id, measure, start), tally)
        await self._join(short, window_seconds, rolled=True)
        await self._join(long, longer, rolled=False)
        return len(taken)

    async def forget(self, now: datetime, retention: Mapping[int, timedelta]) -> None:
        """Delete windows past their time, series without any, and the oldest of too many attempts of jobs."""
        for window_seconds in WINDOWS_SECONDS:
            # What is not in a longer window yet stays until it is; days go into nothing longer.
            rolled = "" if window_seconds == WINDOWS_SECONDS[-1] else "AND rolled"
            await self.session.execute(
                text(
                    f"DELETE FROM monitor.cells WHERE window_seconds = :window {rolled} "  # noqa: S608
                    "AND window_start < :until"
                ),
                {"window": window_seconds, "until": now - retention[window_seconds]},
            )
        await self.session.execute(text(f"SELECT pg_advisory_xact_lock({_SERIES_LOCK})"))
        await self.session.execute(
            text(
                "WITH surplus AS (DELETE FROM monitor.series WHERE series_id IN (SELECT series_id FROM monitor.series "
                "WHERE job_id <> '' ORDER BY series_id DESC OFFSET :jobs) RETURNING series_id) "
                "DELETE FROM monitor.cells WHERE series_id IN (SELECT series_id FROM surplus)"
            ),
            {"jobs": MAX_JOB_SERIES},
        )
        await self.session.execute(
            text(
                "DELETE FROM monitor.series WHERE NOT EXISTS "
                "(SELECT FROM monitor.cells WHERE cells.series_id = series.series_id)"
            )
        )

    async def _read(self, statement: str, values: Mapping[str, Any]) -> Iterable[Any]:
        return await self.session.execute(text(statement), values)

    async def _join(self, cells: dict[_Place, Tally], window_seconds: int, *, rolled: bool) -> None:
        """Write cells together with what there is of the same places, so that late spans leave no trail of rows."""
        if not cells:
            return
        places = list(cells)
        there = await self._take(
            "window_seconds = :window AND rolled = :rolled AND (series_id, measure, window_start) IN (SELECT * FROM "
            "unnest(CAST(:series AS bigint[]), CAST(:measures AS text[]), CAST(:starts AS timestamptz[])))",
            {
                "window": window_seconds,
                "rolled": rolled,
                "series": [place[0] for place in places],
                "measures": [place[1] for place in places],
                "starts": [place[2] for place in places],
            },
        )
        for place, tally in there:
            cells[place].merge(tally)
        await self._insert(cells, window_seconds, rolled=rolled)

    async def _take(self, condition: str, values: Mapping[str, Any]) -> list[tuple[_Place, Tally]]:
        """Delete rows and return what they counted."""
        rows = await self._read(
            f"DELETE FROM monitor.cells WHERE {condition} RETURNING series_id, measure, window_start, spans, total, "  # noqa: S608
            "buckets, counts, errors, exemplar_values, exemplar_trace_ids",
            values,
        )
        return [
            (
                (series_id, measure, start),
                Tally(
                    spans,
                    total,
                    dict(zip(buckets, counts, strict=True)),
                    errors or {},
                    list(zip(sizes, trace_ids, strict=True)),
                ),
            )
            for series_id, measure, start, spans, total, buckets, counts, errors, sizes, trace_ids in rows
        ]

    async def _insert(self, cells: Mapping[_Place, Tally], window_seconds: int, *, rolled: bool) -> None:
        await copy_in(
            self.session,
            "monitor.cells (series_id, measure, window_seconds, window_start, rolled, spans, total, buckets, counts, "
            "errors, exemplar_values, exemplar_trace_ids)",
            (_line(place, window_seconds, tally, rolled) for place, tally in cells.items()),
        )

    async def _series_ids(self, wanted: set[Series]) -> dict[Series, int]:
        """The id of each series. Beyond their limits a new one is counted with its service's other ones."""
        known = await self._find_series(wanted)
        missing = wanted - known.keys()
        if not missing:
            return known
        there = await self._read("SELECT job_id <> '', count(*) FROM monitor.series GROUP BY 1", {})
        counts: dict[bool, int] = {bool(of_job): int(number) for of_job, number in there}
        # Attempts' series are forgotten beyond their limit, but not between two turns of that loop: so twice as many.
        room = {False: MAX_SERIES - counts.get(False, 0), True: 2 * MAX_JOB_SERIES - counts.get(True, 0)}
        stands_for: dict[Series, Series] = {}
        for series in sorted(missing):
            of_job = bool(series.job_id)
            stands_for[series] = series if room[of_job] > 0 else series.collapsed
            room[of_job] -= 1
        made = sorted(set(stands_for.values()))
        await self.session.execute(
            text(
                f"INSERT INTO monitor.series ({_ALL_LABELS}) "  # noqa: S608
                f"SELECT {_ALL_LABELS} FROM {_ASKED} ON CONFLICT DO NOTHING"
            ),
            {"asked": _records(made)},
        )
        found = await self._find_series(set(made))
        return known | {series: found[stand_in] for series, stand_in in stands_for.items()}

    async def _find_series(self, wanted: set[Series]) -> dict[Series, int]:
        rows = await self.session.execute(
            text(
                f"SELECT series_id, {_ALL_LABELS} FROM monitor.series "  # noqa: S608
                f"JOIN {_ASKED} USING ({_ALL_LABELS})"
            ),
            {"asked": _records(wanted)},
        )
        return {Series(*labels): series_id for series_id, *labels in rows}


def _into(cells: dict[_Place, Tally], place: _Place, tally: Tally) -> None:
    """Add to a cell that is this dictionary's own."""
    cells.setdefault(place, Tally()).merge(tally)


def _line(place: _Place, window_seconds: int, tally: Tally, rolled: bool) -> str:
    """A row in COPY's text format. Of its parts only the errors' kinds are somebody else's words."""
    series_id, measure, start = place
    errors = json_field(tally.errors) if tally.errors else NULL_FIELD
    buckets, counts = ",".join(map(str, tally.counts)), ",".join(map(str, tally.counts.values()))
    sizes = ",".join(repr(value) for value, _ in tally.exemplars)
    trace_ids = ",".join(trace_id for _, trace_id in tally.exemplars)
    return (
        f"{series_id}\t{measure}\t{window_seconds}\t{start.isoformat()}\t{'t' if rolled else 'f'}\t{tally.spans}\t"
        f"{tally.total!r}\t{{{buckets}}}\t{{{counts}}}\t{errors}\t{{{sizes}}}\t{{{trace_ids}}}\n"
    )


_ALL_LABELS = ", ".join(("tenant_id", *LABELS))
# One JSON text: a quarter of the work of an array for each label.
_ASKED = "jsonb_to_recordset(CAST(:asked AS jsonb)) AS asked ({})".format(
    ", ".join(f"{label} text" for label in ("tenant_id", *LABELS))
)


def _records(series: Iterable[Series]) -> str:
    return json.dumps([{label: getattr(one, label) for label in ("tenant_id", *LABELS)} for one in series])
