"""The tenant's budgets, as they were set last. Their accounts are the monitor's."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from services.gateway.tables import BudgetRow
from sskai.contract import timestamp
from sskai.events import v1 as events

MAX_BUDGETS = 1_000


def budget_id(tenant_id: str, scope: str, target: str, period: str) -> str:
    """One budget for each scope, target and period: set again, it is changed."""
    name = "\0".join((tenant_id, scope, target, period))
    return f"budget_{hashlib.sha256(name.encode()).hexdigest()[:20]}"


class Budgets:
    """As one transaction sees them."""

    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def set(self, row: BudgetRow) -> None:
        names = [column.name for column in BudgetRow.__table__.columns]
        values = {name: getattr(row, name) for name in names}
        statement = upsert(BudgetRow).values(**values)
        await self.session.execute(statement.on_conflict_do_update(index_elements=["budget_id"], set_=values))

    async def of_tenant(self, tenant_id: str) -> Sequence[BudgetRow]:
        statement = select(BudgetRow).where(BudgetRow.tenant_id == tenant_id).order_by(BudgetRow.budget_id)
        return (await self.session.scalars(statement)).all()

    async def get(self, tenant_id: str, budget_id: str, *, lock: bool = False) -> BudgetRow | None:
        statement = select(BudgetRow).where(BudgetRow.tenant_id == tenant_id, BudgetRow.budget_id == budget_id)
        if lock:
            statement = statement.with_for_update()
        return (await self.session.scalars(statement)).first()

    async def count(self, tenant_id: str) -> int:
        counted = select(func.count()).select_from(BudgetRow).where(BudgetRow.tenant_id == tenant_id)
        return int(await self.session.scalar(counted) or 0)

    async def remove(self, tenant_id: str, budget_id: str) -> bool:
        statement = delete(BudgetRow).where(BudgetRow.tenant_id == tenant_id, BudgetRow.budget_id == budget_id)
        return (await self.session.execute(statement.returning(BudgetRow.budget_id))).first() is not None


def told(row: BudgetRow) -> events.BudgetSet:
    """The budget as the others hear of it."""
    return events.BudgetSet(
        budget_id=row.budget_id,
        tenant_id=row.tenant_id,
        scope=row.scope,
        target=row.target,
        amount_nano_usd=row.amount_nano_usd,
        period=row.period,
        thresholds=row.thresholds,
        action=row.action,
        set_at=timestamp(row.set_at),
    )


def removed(tenant_id: str, budget_id: str, now: datetime) -> events.BudgetRemoved:
    return events.BudgetRemoved(budget_id=budget_id, tenant_id=tenant_id, removed_at=timestamp(now))
