"""What the event log holds of an endpoint's loop."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from google.protobuf.message import Message
from sqlalchemy import desc, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.gateway import retraining
from services.gateway.tables import EventRow, RetrainRow
from sskai import contract
from sskai.events import v1 as events

MAX_EVENTS = 500  # of the endpoint, of its jobs, and of its models
MAX_RETRAINS = 100
OF_RETRAIN = (events.RetrainSuggested, events.RetrainDecided, events.RetrainRequested, events.RetrainDeclined)


class RetrainLog:
    """One transaction's view. Asked only after the endpoint was found for its tenant."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def loop(self, tenant_id: str, endpoint_id: str) -> tuple[list[Message], Mapping[str, str]]:
        """The newest events of the loop, oldest first, and which retrain each of its jobs answers."""
        told = await self._told(tenant_id, [endpoint_id], retraining.OF_ENDPOINT)
        requested = [message for message in told if isinstance(message, events.RetrainRequested)][-MAX_RETRAINS:]
        ids = [message.retrain_id for message in requested]
        rows = await self._session.scalars(
            select(RetrainRow).where(RetrainRow.tenant_id == tenant_id, RetrainRow.retrain_id.in_(ids))
        )
        jobs = {row.job_id: row.retrain_id for row in rows}
        of_jobs = await self._told(tenant_id, jobs, retraining.OF_JOB)
        of_models = await self._told(tenant_id, {message.model_id for message in requested}, retraining.OF_MODEL)
        return [*told, *of_jobs, *of_models], jobs

    async def retrain(self, tenant_id: str, endpoint_id: str, retrain_id: str) -> list[Message]:
        """The events of one retrain, oldest first."""
        told = await self._told(tenant_id, [endpoint_id], OF_RETRAIN, retrain_id)
        return told if any(isinstance(message, events.RetrainSuggested) for message in told) else []

    async def _told(
        self, tenant_id: str, subjects: Iterable[str], kinds: Sequence[type[Message]], retrain_id: str | None = None
    ) -> list[Message]:
        query = select(EventRow.event).where(
            EventRow.tenant_id == tenant_id,
            EventRow.subject.in_(list(subjects)),
            EventRow.type.in_([kind.DESCRIPTOR.full_name for kind in kinds]),
        )
        if retrain_id is not None:
            query = query.where(EventRow.event["data"]["retrain_id"].astext == retrain_id)
        found = await self._session.scalars(query.order_by(desc(EventRow.id)).limit(MAX_EVENTS))
        return [contract.from_cloudevent(event).message for event in reversed(found.all())]
