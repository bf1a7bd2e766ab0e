"""OpenAI-shaped jobs, as one transaction sees them, and the endpoint under the name of what becomes of one."""

from __future__ import annotations

from datetime import datetime

from google.protobuf.message import Message
from sqlalchemy import Select, desc, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.gateway.store import Store
from services.gateway.tables import EventRow, FineTuneRow, JobRow
from sskai.contract import new_id, timestamp
from sskai.events import v1 as events


class FineTunes:
    """Every query names the tenant."""

    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def get(self, tenant_id: str, job_id: str) -> tuple[FineTuneRow, JobRow] | None:
        found = (await self.session.execute(_of(tenant_id).where(FineTuneRow.job_id == job_id))).first()
        return (found[0], found[1]) if found else None

    async def newest(
        self,
        tenant_id: str,
        after: str | None,
        limit: int,
        *,
        metadata: dict[str, str],
        without_metadata: bool = False,
    ) -> list[tuple[FineTuneRow, JobRow]]:
        """`metadata`: only those with all of it."""
        query = _of(tenant_id)
        if after is not None:
            query = query.where(FineTuneRow.job_id < after)
        if metadata:
            query = query.where(FineTuneRow.request["metadata"].contains(metadata))
        if without_metadata:
            query = query.where(FineTuneRow.request["metadata"].as_string().is_(None))
        rows = await self.session.execute(query.order_by(desc(FineTuneRow.job_id)).limit(limit))
        return [(tune, job) for tune, job in rows]

    async def log(
        self, tenant_id: str, job_id: str, before: int | None, types: list[str], limit: int
    ) -> list[EventRow]:
        """Of the job's log, newest first."""
        query = select(EventRow).where(EventRow.tenant_id == tenant_id, EventRow.subject == job_id)
        query = query.where(EventRow.type.in_(types))
        if before is not None:
            query = query.where(EventRow.id < before)
        return list(await self.session.scalars(query.order_by(desc(EventRow.id)).limit(limit)))

    async def refuse(self, event: events.ModelVersionRefused) -> None:
        """The result became no version."""
        row = await self._row(event.tenant_id, event.job_id)
        if row is not None:
            row.refused = f"{event.reason}. {event.advice}".strip(" .") or "the result did not verify"
            await self.session.flush()

    async def deploy(self, event: events.ModelVersionReady, now: datetime) -> list[Message]:
        """An endpoint under the name of the version that the job made: OpenAI's clients ask for it at once.

        It is serverless, so that it costs nothing while nobody asks. One, however often the version is told.
        """
        row, store = await self._row(event.tenant_id, event.job_id), Store(self.session)
        name = f"{event.name}@{event.version}"
        if row is None or not row.deploy or row.endpoint_id or await store.has_endpoint_named(event.tenant_id, name):
            return []
        job = await store.job(event.tenant_id, event.job_id)
        spec = events.JobSpec.FromString(job.spec or b"") if job else events.JobSpec()
        request = events.EndpointRequested(
            endpoint_id=new_id("endpoint"),
            tenant_id=event.tenant_id,
            name=name,
            kind="serverless",
            model_id=event.model_id,
            version=event.version,
            base_model_id=event.base_model_id,
            base_uri=event.base_uri,
            artifact_uri=event.artifact_uri,
            sample_rate=1.0,
            project=spec.project,
            requested_at=timestamp(now),
        )
        await store.add_endpoint(request, name)
        row.endpoint_id = request.endpoint_id
        await self.session.flush()
        return [request]

    async def _row(self, tenant_id: str, job_id: str) -> FineTuneRow | None:
        query = select(FineTuneRow).where(FineTuneRow.tenant_id == tenant_id, FineTuneRow.job_id == job_id)
        return await self.session.scalar(query.with_for_update())


def _of(tenant_id: str) -> Select[FineTuneRow, JobRow]:
    query = select(FineTuneRow, JobRow).join(JobRow, JobRow.job_id == FineTuneRow.job_id)
    return query.where(FineTuneRow.tenant_id == tenant_id, JobRow.tenant_id == tenant_id)
