"""What the monitor does about money by itself: a row a day of what is kept and moved, and answers to open requests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import select

from services.monitor import storage
from services.monitor.budget_store import BudgetStore
from services.monitor.domain import Rules
from services.monitor.spend_handlers import answer
from services.monitor.spend_store import SpendStore
from services.monitor.spend_tables import MeterRow
from services.monitor.storage import EGRESS, Fetch, Item, Meter, Row
from services.monitor.tables import AttemptRow, JobRow
from sskai import claims
from sskai.contract import timestamp
from sskai.database import Database
from sskai.delivery import tell
from sskai.events import v1 as events

THINGS_AT_A_TIME = 50
REQUESTS_AT_A_TIME = 200
# What is told late about a job that ended is made good so long; then its checkpoints are forgotten.
SETTLE = timedelta(days=2)


async def meter_things(database: Database, rules: Rules, now: datetime | None = None) -> None:
    """Tell a row for each day that is over of everything that is kept, or was moved between regions."""
    at = now or datetime.now(UTC)
    while claimed := await claims.claim(database, MeterRow, limit=THINGS_AT_A_TIME, where=MeterRow.since < at):
        for row in claimed:
            async with database.transaction() as session:
                spends = SpendStore(session)
                meter, rows = await _advance(spends, row, rules, at)
                over = row.gone_at is not None and meter.since > row.gone_at + SETTLE
                due = None if over else max(0.0, (storage.next_midnight(meter.since) - at).total_seconds())
                told = {"rows": meter.rows, "told_amount": meter.told_amount, "told_nano_usd": meter.told_nano_usd}
                if not await claims.release(session, row, due_in_seconds=due, since=meter.since, **told):
                    continue
                if over:
                    await spends.forget_items(row.thing_id)
                await tell(session, *(_spend(row, one, rules.objects_region) for one in rows))


async def forget_reserves(database: Database) -> None:
    """What was reserved for owners that have ended is of no use to anybody."""
    async with database.transaction() as session:
        await BudgetStore(session).forget(datetime.now(UTC) - SETTLE)


async def _advance(spends: SpendStore, row: MeterRow, rules: Rules, now: datetime) -> tuple[Meter, list[Row]]:
    meter = Meter(row.since, row.rows, int(row.told_amount), row.told_nano_usd)
    checkpoints = await spends.items(row.thing_id)
    moves = await _moves(spends, row.thing_id, checkpoints, rules) if row.kind == EGRESS else []
    keep = await spends.kept_by(row.thing_id) or row.keep
    rows: list[Row] = []
    for until in storage.day_ends(row.since, now):
        if row.kind == EGRESS:
            amount = storage.moved_bytes(moves, until)
            owed, unit = storage.egress_nano_usd(amount, rules.usd_per_gb_between_regions), storage.GB
        else:
            amount = storage.byte_microseconds(checkpoints, keep, until, row.gone_at)
            owed, unit = storage.storage_nano_usd(amount, rules.usd_per_gb_month), storage.GB_MONTH
        meter, one = storage.advance(meter, until, amount, owed, unit)
        rows += [one] if one else []
    return meter, rows


async def _moves(spends: SpendStore, job_id: str, checkpoints: list[Item], rules: Rules) -> list[Item]:
    job = await spends.session.get(JobRow, job_id)
    attempts = await spends.session.scalars(select(AttemptRow).filter_by(job_id=job_id))
    fetches = [
        Fetch(one.attempt, one.started_at, one.resumed_from_step)
        for one in attempts
        if one.started_at is not None and storage.crosses(one.region, one.cloud, rules.objects_region)
    ]
    weights = job.weight_bytes if job and job.weights_are_ours else 0
    return storage.moves(fetches, checkpoints, weights + (job.dataset_bytes if job else 0))


def _spend(row: MeterRow, one: Row, region: str) -> events.SpendRecorded:
    return events.SpendRecorded(
        job_id=row.thing_id,
        tenant_id=row.tenant_id,
        interval=one.interval,
        placement=events.Placement(cloud="aws" if region else "local", region=region),
        started_at=timestamp(one.started_at),
        ended_at=timestamp(one.ended_at),
        amount_nano_usd=one.amount_nano_usd,
        on_demand_nano_usd=one.amount_nano_usd,
        kind=row.kind,
        quantity=one.quantity,
        unit="GB" if row.kind == EGRESS else "GB-Months",
    )


async def answer_waiting(database: Database, now: datetime | None = None) -> None:
    """Reserve for those whose request stands open, the longest first, as soon as their budgets have so much."""
    at = now or datetime.now(UTC)
    async with database.transaction() as session:
        waiting = [(row.owner_id, row.tenant_id) for row in await BudgetStore(session).waiting(REQUESTS_AT_A_TIME)]
    for owner_id, tenant_id in waiting:
        async with database.transaction() as session:
            of = BudgetStore(session)
            known = await of.lock(tenant_id)
            row = await of.still_waiting(owner_id)
            if row is None:
                continue
            told = await answer(of, row, known, at)
            if isinstance(told, events.SpendReserved):
                await tell(session, told)
