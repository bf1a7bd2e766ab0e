"""The budgets that stop what passes them, as far as inference has to know: whether an endpoint is under one."""

from __future__ import annotations

from typing import Any

from sqlalchemy import and_, or_, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from services.inference.tables import BudgetRow
from sskai.contract import moment
from sskai.events import v1 as events

TENANT, PROJECT, ENDPOINT, STOP = "tenant", "project", "endpoint", "stop"


class BudgetStore:
    """Budgets as one transaction sees them."""

    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def keep(self, event: events.BudgetSet) -> None:
        """As it was set last; an older word changes nothing."""
        values = {"scope": event.scope, "target": event.target, "stops": event.action == STOP}
        await self._change(event, {**values, "set_at": moment(event.set_at)})

    async def drop(self, event: events.BudgetRemoved) -> None:
        """It stops nobody any more."""
        await self._change(event, {"scope": "", "target": "", "stops": False, "set_at": moment(event.removed_at)})

    async def _change(self, event: events.BudgetSet | events.BudgetRemoved, values: dict[str, Any]) -> None:
        statement = upsert(BudgetRow).values(budget_id=event.budget_id, tenant_id=event.tenant_id, **values)
        newer = (BudgetRow.set_at <= statement.excluded.set_at) & (BudgetRow.tenant_id == event.tenant_id)
        await self.session.execute(
            statement.on_conflict_do_update(index_elements=["budget_id"], set_=values, where=newer)
        )

    async def covers(self, tenant_id: str, endpoint_id: str, project: str) -> bool:
        """Whether replicas of the endpoint must reserve what they spend."""
        scopes = [
            BudgetRow.scope == TENANT,
            and_(BudgetRow.scope == ENDPOINT, BudgetRow.target == endpoint_id),
            and_(BudgetRow.scope == PROJECT, BudgetRow.target == project, BudgetRow.target != ""),
        ]
        of_tenant = (BudgetRow.tenant_id == tenant_id, BudgetRow.stops)
        statement = select(BudgetRow.budget_id).where(*of_tenant, or_(*scopes)).limit(1)
        return (await self.session.execute(statement)).first() is not None
