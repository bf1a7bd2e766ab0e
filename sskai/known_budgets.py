"""The budgets that stop what passes them, as far as a service that spends has to know: who is under one.

Each such service keeps them in its own schema, by `class BudgetRow(KnownBudget, Base)`. The monitor alone keeps the
accounts.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import DateTime, Text, and_, or_, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from sskai.contract import moment
from sskai.events import v1 as events

TENANT, PROJECT, ENDPOINT, JOB = "tenant", "project", "endpoint", "job"
STOP = "stop"


class KnownBudget:
    """Columns of a budget as it was set last; `stops` false: it was removed, or only warns."""

    __tablename__ = "budgets"

    budget_id: Mapped[str] = mapped_column(Text, primary_key=True)
    tenant_id: Mapped[str] = mapped_column(Text, index=True)
    scope: Mapped[str] = mapped_column(Text)
    target: Mapped[str] = mapped_column(Text)
    stops: Mapped[bool]
    set_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class KnownBudgets:
    """Budgets as one transaction sees them. `row`: the service's own."""

    def __init__(self, session: AsyncSession, row: type[KnownBudget]) -> None:
        self.session = session
        self.row = row

    async def keep(self, event: events.BudgetSet) -> bool:
        """False: a newer word on it is known."""
        values = {"scope": event.scope, "target": event.target, "stops": event.action == STOP}
        return await self._change(event, {**values, "set_at": moment(event.set_at)})

    async def drop(self, event: events.BudgetRemoved) -> bool:
        """It stops nobody any more. False: a newer word on it is known."""
        values = {"scope": "", "target": "", "stops": False}
        return await self._change(event, {**values, "set_at": moment(event.removed_at)})

    async def _change(self, event: events.BudgetSet | events.BudgetRemoved, values: dict[str, Any]) -> bool:
        row = self.row
        statement = upsert(row).values(budget_id=event.budget_id, tenant_id=event.tenant_id, **values)
        newer = (row.set_at <= statement.excluded.set_at) & (row.tenant_id == event.tenant_id)
        changed = statement.on_conflict_do_update(index_elements=["budget_id"], set_=values, where=newer)
        return (await self.session.execute(changed.returning(row.budget_id))).first() is not None

    async def covers(self, tenant_id: str, targets: Mapping[str, str]) -> bool:
        """Whether one stops what the tenant spends on any of the targets, by scope; an empty one is under none."""
        row = self.row
        scopes = [and_(row.scope == scope, row.target == target) for scope, target in targets.items() if target]
        of_tenant = (row.tenant_id == tenant_id, row.stops)
        statement = select(row.budget_id).where(*of_tenant, or_(row.scope == TENANT, *scopes)).limit(1)
        return (await self.session.execute(statement)).first() is not None
