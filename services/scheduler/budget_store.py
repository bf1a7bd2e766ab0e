"""The budgets that stop what passes them, as far as the scheduler has to know: whether a job is under one."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import DateTime, Text, and_, or_, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from services.scheduler.domain import Job
from services.scheduler.store import Base
from sskai.contract import moment
from sskai.events import v1 as events

TENANT, PROJECT, JOB = "tenant", "project", "job"
STOP = "stop"


class BudgetRow(Base):
    """A budget as it was set last; `stops` false: it was removed, or only warns."""

    __tablename__ = "budgets"

    budget_id: Mapped[str] = mapped_column(Text, primary_key=True)
    tenant_id: Mapped[str] = mapped_column(Text, index=True)
    scope: Mapped[str] = mapped_column(Text)
    target: Mapped[str] = mapped_column(Text)
    stops: Mapped[bool]
    set_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


class BudgetStore:
    """Budgets as one transaction sees them."""

    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def keep(self, event: events.BudgetSet) -> bool:
        """False: a newer word on it is known."""
        values = {"scope": event.scope, "target": event.target, "stops": event.action == STOP}
        return await self._change(event, {**values, "set_at": moment(event.set_at)})

    async def drop(self, event: events.BudgetRemoved) -> bool:
        """False: a newer word on it is known."""
        values = {"scope": "", "target": "", "stops": False}
        return await self._change(event, {**values, "set_at": moment(event.removed_at)})

    async def _change(self, event: events.BudgetSet | events.BudgetRemoved, values: dict[str, Any]) -> bool:
        statement = upsert(BudgetRow).values(budget_id=event.budget_id, tenant_id=event.tenant_id, **values)
        newer = (BudgetRow.set_at <= statement.excluded.set_at) & (BudgetRow.tenant_id == event.tenant_id)
        changed = statement.on_conflict_do_update(index_elements=["budget_id"], set_=values, where=newer)
        return (await self.session.execute(changed.returning(BudgetRow.budget_id))).first() is not None

    async def covers(self, job: Job) -> bool:
        """Whether the job must reserve what it spends."""
        project = and_(BudgetRow.scope == PROJECT, BudgetRow.target == job.spec.project)
        statement = select(BudgetRow.budget_id).where(
            BudgetRow.tenant_id == job.tenant_id,
            BudgetRow.stops,
            or_(BudgetRow.scope == TENANT, project) if job.spec.project else BudgetRow.scope == TENANT,
        )
        return (await self.session.execute(statement.limit(1))).first() is not None
