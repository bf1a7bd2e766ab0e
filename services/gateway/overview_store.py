"""What the first page asks the database: a bounded number of rows for each question, however much there is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from google.protobuf.message import Message
from sqlalchemy import Executable, Select, desc, func, select, text, union_all
from sqlalchemy.ext.asyncio import AsyncSession

from services.gateway import overview
from services.gateway.domain import JobState
from services.gateway.endpoints import EndpointState
from services.gateway.retrain_log import OF_RETRAIN
from services.gateway.tables import ACTIVE_JOBS, EndpointRow, EventRow, JobRow, ModelRow, WebhookRow
from sskai import contract

MAX_DECISIONS = 50  # of each kind
SUGGESTIONS_LAST = timedelta(days=30)  # an older one that nobody decided on has expired


class OverviewStore:
    """One transaction's view."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def jobs_in_progress(self, tenant_id: str, limit: int) -> list[JobRow]:
        """Newest first."""
        query = select(JobRow).where(JobRow.tenant_id == tenant_id, JobRow.spec.is_not(None), text(ACTIVE_JOBS))
        return list(await self._session.scalars(query.order_by(desc(JobRow.job_id)).limit(limit)))

    async def held_jobs(self, tenant_id: str) -> list[JobRow]:
        """Those that wait for money, newest first."""
        query = select(JobRow).where(JobRow.tenant_id == tenant_id, JobRow.state == JobState.HELD)
        held_by = JobRow.view["hold"]["rule"].astext.in_(overview.HELD_BY_MONEY)
        return list(
            await self._session.scalars(query.where(held_by).order_by(desc(JobRow.job_id)).limit(MAX_DECISIONS))
        )

    async def job_counts(self, tenant_id: str) -> dict[str, int]:
        """How many jobs are in each state."""
        query = select(JobRow.state, func.count()).where(JobRow.tenant_id == tenant_id, JobRow.spec.is_not(None))
        return await self._pairs(query.group_by(JobRow.state))

    async def endpoint_counts(self, tenant_id: str) -> dict[str, int]:
        """How many endpoints that are not deleted are in each state."""
        query = select(EndpointRow.state, func.count()).where(
            EndpointRow.tenant_id == tenant_id, EndpointRow.state != EndpointState.DELETED
        )
        return await self._pairs(query.group_by(EndpointRow.state))

    async def failed_endpoints(self, tenant_id: str) -> list[EndpointRow]:
        query = select(EndpointRow).where(EndpointRow.tenant_id == tenant_id, EndpointRow.state == EndpointState.FAILED)
        return list(await self._session.scalars(query.order_by(desc(EndpointRow.endpoint_id)).limit(MAX_DECISIONS)))

    async def webhooks_off(self, tenant_id: str) -> list[WebhookRow]:
        query = select(WebhookRow).where(WebhookRow.tenant_id == tenant_id, WebhookRow.disabled_at.is_not(None))
        return list(await self._session.scalars(query.limit(MAX_DECISIONS)))

    async def retrains(self, tenant_id: str, now: datetime) -> list[Message]:
        """The newest events of the tenant's retrains, oldest first."""
        found = await self._newest(tenant_id, OF_RETRAIN, 4 * MAX_DECISIONS, since=now - SUGGESTIONS_LAST)
        return [message for _, _, message in reversed(found)]

    async def activity(self, tenant_id: str, limit: int) -> list[tuple[int, datetime, Message]]:
        """Position in the log, when it was told, and the event; newest first."""
        return await self._newest(tenant_id, tuple(overview.ACTIVITY), limit)

    async def names(self, tenant_id: str, ids: Iterable[str]) -> Mapping[str, str]:
        """What jobs, endpoints and models are called."""
        wanted = list(set(ids))
        jobs = select(JobRow.job_id, JobRow.name).where(JobRow.tenant_id == tenant_id, JobRow.job_id.in_(wanted))
        endpoints = select(EndpointRow.endpoint_id, EndpointRow.name).where(
            EndpointRow.tenant_id == tenant_id, EndpointRow.endpoint_id.in_(wanted)
        )
        models = select(ModelRow.model_id, ModelRow.name).where(
            ModelRow.tenant_id == tenant_id, ModelRow.model_id.in_(wanted)
        )
        return await self._pairs(union_all(jobs, endpoints, models))

    async def _pairs(self, query: Executable) -> dict[str, Any]:
        rows = await self._session.execute(query)
        return {row[0]: row[1] for row in rows}

    async def _newest(
        self, tenant_id: str, kinds: Sequence[type[Message]], limit: int, since: datetime | None = None
    ) -> list[tuple[int, datetime, Message]]:
        # A question for each type, answered from its end of the index: how many events of other types lie in between
        # does not matter.
        newest = [_newest_of(tenant_id, kind.DESCRIPTOR.full_name, limit, since) for kind in kinds]
        ids = union_all(*newest).subquery()
        query = select(EventRow).where(EventRow.tenant_id == tenant_id, EventRow.id.in_(select(ids.c.id)))
        rows = await self._session.scalars(query.order_by(desc(EventRow.id)).limit(limit))
        return [(row.id, row.at, contract.from_cloudevent(row.event).message) for row in rows]


def _newest_of(tenant_id: str, type_: str, limit: int, since: datetime | None) -> Select[int]:
    query = select(EventRow.id).where(EventRow.tenant_id == tenant_id, EventRow.type == type_)
    if since is not None:
        query = query.where(EventRow.at >= since)
    return select(query.order_by(desc(EventRow.id)).limit(limit).subquery().c.id)
