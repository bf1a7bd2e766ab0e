"""What the monitor does about money beyond a job's own account: budgets, reserves, and things that are kept."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from google.protobuf.message import Message

from services.monitor import budgets, storage
from services.monitor.budget_store import BudgetStore, owner_of
from services.monitor.budgets import Account, Budget, Owner
from services.monitor.spend_store import SpendStore
from services.monitor.spend_tables import ReserveRow
from services.monitor.storage import EGRESS, Item
from services.monitor.store import Store
from sskai.contract import moment, timestamp
from sskai.delivery import Handlers
from sskai.events import v1 as events
from sskai.money import NANO_PER_USD

# The last rows of an endpoint's replicas come by another topic than its end.
ENDPOINT_ROWS_SECONDS = 60.0


# Budgets


async def set_budget(event: events.BudgetSet, store: Store, now: datetime) -> list[Message]:
    """Known from now on; what is spent already may have reached a threshold."""
    of = BudgetStore(store.session)
    known = await of.lock(event.tenant_id)
    if event.scope not in budgets.SCOPES or not await of.set(event):
        return []
    [budget] = [one for one in await of.lock(event.tenant_id) if one.budget_id == event.budget_id]
    before = next((one for one in known if one.budget_id == budget.budget_id), None)
    if before is not None and budget.amount_nano_usd > before.amount_nano_usd:
        # Of a larger amount less is spent: what is reached again may be told again.
        await of.has_told(budget, budgets.period_of(budget, now), 0.0)
    return await tell_thresholds(of, [budget], now, now)


async def remove_budget(event: events.BudgetRemoved, store: Store, _now: datetime) -> list[Message]:
    of = BudgetStore(store.session)
    await of.lock(event.tenant_id)
    await of.remove(event)
    return []


async def tell_thresholds(of: BudgetStore, touched: Iterable[Budget], at: datetime, now: datetime) -> list[Message]:
    """BudgetThresholdReached of these budgets (locked) in the period of `at`, once for each threshold."""
    told: list[Message] = []
    for budget in touched:
        period = budgets.period_of(budget, at)
        account = await of.spent_account(budget, at)
        if reached := budgets.reached(account, await of.told(budget, period)):
            await of.has_told(budget, period, reached[-1])
            told += [_threshold(account, fraction, period, now) for fraction in reached]
    return told


def _threshold(account: Account, fraction: float, period: str, now: datetime) -> events.BudgetThresholdReached:
    budget = account.budget
    return events.BudgetThresholdReached(
        job_id=budget.target if budget.scope == budgets.JOB else budget.budget_id,
        tenant_id=budget.tenant_id,
        fraction=fraction,
        spent_usd=account.spent / NANO_PER_USD,
        budget_usd=budget.amount_nano_usd / NANO_PER_USD,
        at=timestamp(now),
        budget_id=budget.budget_id,
        scope=budget.scope,
        target=budget.target,
        period=period,
        action=budget.action,
    )


async def record(event: events.SpendRecorded, store: Store, now: datetime) -> tuple[bool, list[Message]]:
    """(whether the row is new, what its budgets have to say). Budgets are locked before the row is counted."""
    of = BudgetStore(store.session)
    known = await of.lock(event.tenant_id)
    if not await of.spends.record(event):
        return False, []
    if not known:
        return True, []
    project = await of.spends.project_of(event.endpoint_id or event.job_id)
    owner = Owner(event.tenant_id, event.job_id, event.endpoint_id, project)
    return True, await tell_thresholds(of, [one for one in known if one.covers(owner)], moment(event.started_at), now)


# Reserves


async def take_request(event: events.SpendReserveRequested, store: Store, now: datetime) -> list[Message]:
    """Reserve what is asked for, or say which budget has not so much; the request then stays open."""
    of = BudgetStore(store.session)
    known = await of.lock(event.tenant_id)
    row = await of.reserve(event)
    if row.release_at is not None or event.number <= row.number or row.tenant_id != event.tenant_id:
        return []
    row.number, row.project, row.asked_at = event.number, event.project, moment(event.requested_at)
    if event.wanted_nano_usd <= event.spent_nano_usd:
        # It wants no more than it has spent: what was reserved beyond that is free.
        row.limit_nano_usd, row.wanted_nano_usd, row.minimum_nano_usd = event.wanted_nano_usd, None, None
        return [_reserved(row, now)]
    row.minimum_nano_usd, row.wanted_nano_usd = event.minimum_nano_usd, event.wanted_nano_usd
    return [await answer(of, row, known, now)]


async def answer(of: BudgetStore, row: ReserveRow, known: Iterable[Budget], now: datetime) -> Message:
    """SpendReserved or SpendReserveDeclined. `row` and the tenant's budgets are locked."""
    owner = owner_of(row)
    covering = [one for one in known if one.covers(owner)]
    accounts = [await of.account(one, now, asking=row.owner_id) for one in covering]
    ask = budgets.Ask(row.minimum_nano_usd or 0, row.wanted_nano_usd or 0)
    found = budgets.decide(ask, row.limit_nano_usd, await of.spent_by(row), accounts)
    if found.short is not None:
        return events.SpendReserveDeclined(
            job_id=row.owner_id,
            tenant_id=row.tenant_id,
            number=row.number,
            limit_nano_usd=found.limit,
            budget_id=found.short.budget.budget_id,
            detail=budgets.shortage(found.short, now),
            declined_at=timestamp(now),
        )
    row.limit_nano_usd, row.minimum_nano_usd, row.wanted_nano_usd = found.limit, None, None
    return _reserved(row, now)


def _reserved(row: ReserveRow, now: datetime) -> events.SpendReserved:
    return events.SpendReserved(
        job_id=row.owner_id,
        tenant_id=row.tenant_id,
        number=row.number,
        limit_nano_usd=row.limit_nano_usd,
        reserved_at=timestamp(now),
    )


# Owners, and what is kept


async def know_job(event: events.JobSubmitted, store: Store) -> None:
    spends = SpendStore(store.session)
    keep = event.spec.checkpoint.keep
    await spends.name_owner(event.job_id, event.tenant_id, event.spec.name, event.spec.project, keep)


async def know_endpoint(event: events.EndpointRequested, store: Store, _now: datetime) -> list[Message]:
    await SpendStore(store.session).name_owner(event.endpoint_id, event.tenant_id, event.name, event.project)
    return []


async def leave_endpoint(event: events.EndpointDeleted, store: Store, now: datetime) -> None:
    """Nothing more is reserved for it, a little after its end."""
    await BudgetStore(store.session).release(event.endpoint_id, now + timedelta(seconds=ENDPOINT_ROWS_SECONDS))


async def keep_checkpoint(event: events.CheckpointCommitted, store: Store) -> None:
    """It lies in the object store until newer ones have come, or its job has ended long ago."""
    if event.bytes:
        made = Item(event.step, moment(event.at), event.bytes, event.attempt)
        keep = storage.KEPT_CHECKPOINTS
        await SpendStore(store.session).add_item(event.job_id, event.tenant_id, made, keep=keep)


async def begin_egress(event: events.AttemptStarted, store: Store) -> None:
    """A machine in another region than the objects': what it reads and writes is metered."""
    where = event.placement
    if storage.crosses(where.region, where.cloud, store.rules.objects_region):
        since = moment(event.started_at)
        await SpendStore(store.session).begin_meter(EGRESS, event.job_id, event.tenant_id, since)


async def end_job(job_id: str, ended_at: datetime, store: Store) -> None:
    """It asks for nothing more, and its checkpoints go after a while."""
    await BudgetStore(store.session).ask_no_more(job_id)
    kept = timedelta(hours=store.rules.checkpoint_retention_hours)
    await SpendStore(store.session).gone(job_id, ended_at + kept)


async def keep_version(event: events.ModelVersionReady, store: Store) -> None:
    if event.bytes:
        made = Item(0, moment(event.ready_at), event.bytes)
        thing_id = f"{event.model_id}@{event.version}"
        await SpendStore(store.session).add_item(thing_id, event.tenant_id, made)


async def keep_dataset(event: events.DatasetValidated, store: Store) -> None:
    if event.bytes:
        made = Item(0, moment(event.validated_at), event.bytes)
        thing_id = f"{event.dataset_id}@{event.version}"
        await SpendStore(store.session).add_item(thing_id, event.tenant_id, made)


async def forget_dataset(event: events.DatasetDeleted, store: Store, _now: datetime) -> list[Message]:
    """Its owner deleted it: it is kept no longer."""
    await SpendStore(store.session).gone(f"{event.dataset_id}@{event.version}", moment(event.deleted_at))
    return []


async def forget_version(event: events.ModelDeleted, store: Store, _now: datetime) -> list[Message]:
    """Its owner deleted it: it is kept no longer."""
    await SpendStore(store.session).gone(f"{event.model_id}@{event.version}", moment(event.deleted_at))
    return []


HANDLERS: Handlers = {
    events.DatasetDeleted: forget_dataset,
    events.ModelDeleted: forget_version,
    events.BudgetSet: set_budget,
    events.BudgetRemoved: remove_budget,
    events.SpendReserveRequested: take_request,
    events.EndpointRequested: know_endpoint,
}
