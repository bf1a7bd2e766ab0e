"""The event log: what each tenant's streams, lists and webhooks are told, in its order."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from google.protobuf.message import Message
from sqlalchemy import DateTime, Select, bindparam, desc, func, select, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession

from services.gateway.tables import EventRow
from services.gateway.webhook_store import Webhooks
from sskai import contract
from sskai.delivery import envelope_of
from sskai.statements import Statement

# Ids are drawn here and seen at the commit: without the lock a reader could pass one that is not visible yet.
_LOG = Statement(
    text(
        """
    WITH locked AS MATERIALIZED (SELECT pg_advisory_xact_lock(hashtext(:lock))),
    logged AS (
        INSERT INTO gateway.events (tenant_id, subject, type, event, at)
        SELECT :tenant_id, :subject, :type, :event, :at FROM locked
    )
    SELECT webhook_id FROM gateway.webhooks
    WHERE tenant_id = :tenant_id AND disabled_at IS NULL
        AND (cardinality(types) = 0 OR types @> ARRAY[CAST(:type AS text)])
    """
    ).bindparams(bindparam("event", type_=JSONB), bindparam("at", type_=DateTime(timezone=True)))
)


class EventLog:
    """One transaction's view of it."""

    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def append(self, event: Message, now: datetime, traceparent: str | None) -> None:
        """Append the event that is being handled to its tenant's log."""
        tenant_id = contract.tenant_of(event)
        if not tenant_id:
            return
        envelope = replace(envelope_of(self.session), traceparent=traceparent)
        told = contract.to_cloudevent(envelope)
        row = {"tenant_id": tenant_id, "subject": envelope.key, "type": envelope.type, "event": told, "at": now}
        wanting = await _LOG.all(self.session, {**row, "lock": f"events:{tenant_id}"})
        webhooks = Webhooks(self.session)
        for (webhook_id,) in wanting:
            webhooks.add(webhook_id, tenant_id, envelope.type, told, now)
        if wanting:
            await self.session.flush()

    async def after(
        self, tenant_id: str, position: int, types: list[str], subject: str | None, limit: int
    ) -> list[EventRow]:
        """Oldest first."""
        query = _of(tenant_id, types, subject).where(EventRow.id > position).order_by(EventRow.id)
        return list(await self.session.scalars(query.limit(limit)))

    async def before(
        self, tenant_id: str, position: int | None, types: list[str], subject: str | None, limit: int
    ) -> list[EventRow]:
        """Newest first."""
        query = _of(tenant_id, types, subject).order_by(desc(EventRow.id))
        if position is not None:
            query = query.where(EventRow.id < position)
        return list(await self.session.scalars(query.limit(limit)))

    async def bounds(self, tenant_id: str) -> tuple[int, int]:
        """The oldest and the newest id that the log holds of a tenant; (0, 0): none."""
        query = select(func.min(EventRow.id), func.max(EventRow.id)).where(EventRow.tenant_id == tenant_id)
        oldest, newest = (await self.session.execute(query)).one()
        return oldest or 0, newest or 0


def _of(tenant_id: str, types: list[str], subject: str | None) -> Select[EventRow]:
    query = select(EventRow).where(EventRow.tenant_id == tenant_id)
    if types:
        query = query.where(EventRow.type.in_(types))
    return query if subject is None else query.where(EventRow.subject == subject)
