"""Budgets in their tables: accounts, reserves, what was told. Whoever changes an account locks the tenant's budgets."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from services.monitor import budgets
from services.monitor.budgets import Account, Budget, Owner
from services.monitor.spend_store import SpendStore, covered_by, joined_days, not_after
from services.monitor.spend_tables import BudgetRow, BudgetToldRow, DayRow, ReserveRow
from sskai.contract import moment
from sskai.events import v1 as events


class BudgetStore:
    """One transaction's view of budgets."""

    def __init__(self, session: AsyncSession) -> None:
        self.session = session
        self.spends = SpendStore(session)

    async def lock(self, tenant_id: str) -> list[Budget]:
        """The tenant's budgets, locked until the transaction ends: nobody else spends or reserves of them meanwhile."""
        statement = select(BudgetRow).where(BudgetRow.tenant_id == tenant_id, ~BudgetRow.removed)
        statement = statement.order_by(BudgetRow.budget_id).with_for_update()
        statement = statement.execution_options(populate_existing=True)
        return [_budget(row) for row in await self.session.scalars(statement)]

    async def of_tenant(self, tenant_id: str) -> list[Budget]:
        statement = select(BudgetRow).where(BudgetRow.tenant_id == tenant_id, ~BudgetRow.removed)
        return [_budget(row) for row in await self.session.scalars(statement.order_by(BudgetRow.budget_id))]

    async def set(self, event: events.BudgetSet) -> bool:
        """False: a newer word on this budget is known, or it is somebody else's."""
        values = {
            "tenant_id": event.tenant_id,
            "scope": event.scope,
            "target": event.target or event.tenant_id,
            "amount_nano_usd": event.amount_nano_usd,
            "period": event.period,
            "thresholds": sorted(event.thresholds) or list(budgets.THRESHOLDS),
            "action": event.action,
            "set_at": moment(event.set_at),
            "removed": False,
        }
        return await self._change(event.budget_id, event.tenant_id, values)

    async def remove(self, event: events.BudgetRemoved) -> bool:
        values = {
            "tenant_id": event.tenant_id,
            **dict.fromkeys(("scope", "target", "period", "action"), ""),
            "amount_nano_usd": 0,
            "thresholds": [],
            "set_at": moment(event.removed_at),
            "removed": True,
        }
        return await self._change(event.budget_id, event.tenant_id, values)

    async def _change(self, budget_id: str, tenant_id: str, values: dict[str, object]) -> bool:
        statement = upsert(BudgetRow).values(budget_id=budget_id, **values)
        newer = (BudgetRow.set_at <= statement.excluded.set_at) & (BudgetRow.tenant_id == tenant_id)
        changed = await self.session.execute(
            statement.on_conflict_do_update(index_elements=["budget_id"], set_=values, where=newer).returning(
                BudgetRow.budget_id
            )
        )
        return changed.first() is not None

    async def account(self, budget: Budget, at: datetime, *, asking: str = "") -> Account:
        """The budget in the period of that moment; `asking`: the owner whose own reserve is left out."""
        return Account(budget, await self._spent(budget, at), await self._reserved(budget, asking, at))

    async def spent_account(self, budget: Budget, at: datetime) -> Account:
        """The same without what is reserved, of which thresholds say nothing."""
        return Account(budget, await self._spent(budget, at), 0)

    async def _spent(self, budget: Budget, at: datetime) -> int:
        where = covered_by(budget.tenant_id, budget.scope, budget.target)
        if budget.period == budgets.MONTH:
            first, after = budgets.month_days(budgets.period_of(budget, at))
            where += [DayRow.day >= first.date(), DayRow.day < after.date()]
        return int(await self.session.scalar(joined_days().where(*where)) or 0)

    async def _reserved(self, budget: Budget, asking: str, at: datetime) -> int:
        statement = select(ReserveRow).where(
            ReserveRow.tenant_id == budget.tenant_id,
            ReserveRow.owner_id != asking,
            not_after(ReserveRow.release_at, at),
        )
        found = [row for row in await self.session.scalars(statement) if budget.covers(owner_of(row))]
        spent = await self.spends.spent_by_owner([row.owner_id for row in found])
        return budgets.outstanding([(row.limit_nano_usd, spent.get(row.owner_id, 0)) for row in found])

    async def forget(self, before: datetime) -> None:
        """Reserves whose owners have ended long ago."""
        await self.session.execute(delete(ReserveRow).where(ReserveRow.release_at < before))

    async def spent_by(self, row: ReserveRow) -> int:
        """By an owner in its whole life, as the ledger knows it."""
        return await self.spends.spent_nano_usd(row.owner_id)

    async def reserve(self, event: events.SpendReserveRequested) -> ReserveRow:
        """The owner's reserve, locked; a new one of nothing if it never asked."""
        statement = upsert(ReserveRow).values(
            owner_id=event.job_id,
            tenant_id=event.tenant_id,
            project=event.project,
            endpoint_id=event.endpoint_id,
            number=0,
            limit_nano_usd=0,
            asked_at=moment(event.requested_at),
        )
        await self.session.execute(statement.on_conflict_do_nothing())
        return (await self.session.scalars(select(ReserveRow).filter_by(owner_id=event.job_id).with_for_update())).one()

    async def waiting(self, limit: int) -> Sequence[ReserveRow]:
        """Reserves that ask for more, the longest first; not locked."""
        statement = select(ReserveRow).where(ReserveRow.wanted_nano_usd.is_not(None), ReserveRow.release_at.is_(None))
        return (await self.session.scalars(statement.order_by(ReserveRow.asked_at).limit(limit))).all()

    async def still_waiting(self, owner_id: str) -> ReserveRow | None:
        """The reserve, locked, if it still asks for more."""
        statement = select(ReserveRow).where(ReserveRow.owner_id == owner_id, ReserveRow.wanted_nano_usd.is_not(None))
        return (await self.session.scalars(statement.with_for_update(skip_locked=True))).first()

    async def ask_no_more(self, owner_id: str) -> None:
        """The owner has ended; what it may still spend stays reserved until `release`."""
        of_owner = update(ReserveRow).where(ReserveRow.owner_id == owner_id)
        await self.session.execute(of_owner.values(wanted_nano_usd=None, minimum_nano_usd=None))

    async def release(self, owner_id: str, at: datetime) -> None:
        """From then on nothing is reserved for it: all that it spent is in the ledger."""
        of_owner = update(ReserveRow).where(ReserveRow.owner_id == owner_id, ReserveRow.release_at.is_(None))
        await self.session.execute(of_owner.values(release_at=at, wanted_nano_usd=None, minimum_nano_usd=None))

    async def told(self, budget: Budget, period: str) -> float:
        """The highest threshold told in a period; 0: none. After `lock`."""
        return (
            await self.session.scalar(
                select(BudgetToldRow.fraction).filter_by(budget_id=budget.budget_id, period=period)
            )
            or 0.0
        )

    async def has_told(self, budget: Budget, period: str, fraction: float) -> None:
        statement = upsert(BudgetToldRow).values(budget_id=budget.budget_id, period=period, fraction=fraction)
        keys = ["budget_id", "period"]
        await self.session.execute(statement.on_conflict_do_update(index_elements=keys, set_={"fraction": fraction}))


def owner_of(row: ReserveRow) -> Owner:
    job_id = "" if row.endpoint_id else row.owner_id
    return Owner(row.tenant_id, job_id=job_id, endpoint_id=row.endpoint_id, project=row.project)


def _budget(row: BudgetRow) -> Budget:
    return Budget(
        row.budget_id,
        row.tenant_id,
        row.scope,
        row.target,
        row.amount_nano_usd,
        row.period,
        tuple(row.thresholds),
        row.action,
    )
