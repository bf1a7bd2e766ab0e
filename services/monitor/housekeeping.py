"""What the monitor does by itself with spans and figures: sum them up, sample them, forget them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from services.monitor.cells import LABELS, ROLL_LIMIT, Cells
from services.monitor.counting import DURATION, WINDOWS_SECONDS, Series
from services.monitor.drift_store import DriftStore
from services.monitor.ingest import Sampler
from services.monitor.sketches import BASE, quantile
from services.monitor.span_store import DELETE_LIMIT, SpanStore
from sskai.database import Database

SLOW_QUANTILE = 0.95
USUAL_PERIOD = timedelta(hours=1)
MIN_SPANS_TO_KNOW = 20  # of fewer a 95th percentile is the largest


async def roll_up(database: Database, retention: Mapping[int, timedelta]) -> None:
    """Sum the windows that are over into longer ones, the shortest first."""
    for window_seconds in WINDOWS_SECONDS[:-1]:
        rolled = ROLL_LIMIT
        while rolled == ROLL_LIMIT:
            async with database.transaction() as session:
                rolled = await Cells(session).roll_up(window_seconds, datetime.now(UTC), retention)


async def learn_usual_durations(database: Database, sampler: Sampler) -> None:
    """How long each series took in the last hour: what is beyond its p95 is slow."""
    now = datetime.now(UTC)
    async with database.snapshot() as session:
        found = await Cells(session).answer(
            "",
            WINDOWS_SECONDS[1],
            now - USUAL_PERIOD,
            now,
            group_by=("tenant_id", *LABELS[:-2]),
            whole=True,
            measures=(DURATION,),
        )
    usual = {
        # The bucket's upper end: of equal durations none is slow.
        Series(*group.labels): p95 * (1 + BASE) / 2
        for group, tally in found.items()
        if tally.spans >= MIN_SPANS_TO_KNOW and (p95 := quantile(tally.counts, SLOW_QUANTILE)) is not None
    }
    sampler.sampling = replace(sampler.sampling, usual_seconds=usual)


async def sample_traces(database: Database, sampler: Sampler, quiet_seconds: float) -> None:
    """Decide which of the traces that have come to rest are kept."""
    decided = DELETE_LIMIT
    while decided == DELETE_LIMIT:
        async with database.transaction() as session:
            quiet_since = datetime.now(UTC) - timedelta(seconds=quiet_seconds)
            decided = await SpanStore(session).sample(sampler.sampling, quiet_since)


async def forget(
    database: Database,
    trace_retention_days: float,
    max_stored_spans: int,
    figures_retention: Mapping[int, timedelta],
) -> None:
    """Delete traces, windows and drift tests past their time or beyond the limit."""
    now = datetime.now(UTC)
    gone = DELETE_LIMIT
    while gone == DELETE_LIMIT:
        async with database.transaction() as session:
            gone = await SpanStore(session).forget(now, timedelta(days=trace_retention_days), max_stored_spans)
    async with database.transaction() as session:
        await Cells(session).forget(now, figures_retention)
    async with database.transaction() as session:
        await DriftStore(session).forget(now)
