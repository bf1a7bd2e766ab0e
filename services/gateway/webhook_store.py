"""Webhooks and what is to be sent to them: which event goes where is decided where the event is logged (`store.py`)."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import delete, desc, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from services.gateway.tables import DeliveryRow, EventRow, WebhookRow
from sskai.contract import new_id

MAX_REPLAYED = 1_000  # events, by one request


class DeliveryState(StrEnum):
    """`failed`: given up, or its webhook was switched off; a dead letter."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    FAILED = "failed"


_WITH_STATE = {
    DeliveryState.WAITING: DeliveryRow.delivered_at.is_(None) & DeliveryRow.due_at.is_not(None),
    DeliveryState.DELIVERED: DeliveryRow.delivered_at.is_not(None),
    DeliveryState.FAILED: DeliveryRow.delivered_at.is_(None) & DeliveryRow.due_at.is_(None),
}


def state_of(row: DeliveryRow) -> DeliveryState:
    if row.delivered_at is not None:
        return DeliveryState.DELIVERED
    return DeliveryState.WAITING if row.due_at is not None else DeliveryState.FAILED


class Webhooks:
    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    def add(self, webhook_id: str, tenant_id: str, event_type: str, event: dict[str, Any], now: datetime) -> str:
        delivery_id = new_id("delivery")
        self.session.add(
            DeliveryRow(
                delivery_id=delivery_id,
                webhook_id=webhook_id,
                tenant_id=tenant_id,
                type=event_type,
                event=event,
                tries=0,
                told_at=now,
            )
        )
        return delivery_id

    async def of_tenant(self, tenant_id: str) -> list[WebhookRow]:
        """Newest first."""
        query = select(WebhookRow).where(WebhookRow.tenant_id == tenant_id).order_by(desc(WebhookRow.webhook_id))
        return list(await self.session.scalars(query))

    async def get(self, tenant_id: str, webhook_id: str) -> WebhookRow | None:
        row = await self.session.get(WebhookRow, webhook_id)
        return row if row is not None and row.tenant_id == tenant_id else None

    async def remove(self, tenant_id: str, webhook_id: str) -> bool:
        """With what was still to be sent to it."""
        mine = WebhookRow.webhook_id == webhook_id, WebhookRow.tenant_id == tenant_id
        if await self.session.scalar(delete(WebhookRow).where(*mine).returning(WebhookRow.webhook_id)) is None:
            return False
        await self.session.execute(delete(DeliveryRow).where(DeliveryRow.webhook_id == webhook_id))
        return True

    async def disable(self, webhook_id: str, now: datetime) -> None:
        """Nothing more is sent: it said so itself (410), or its tenant did. What waits is a dead letter."""
        await self.session.execute(
            update(WebhookRow).where(WebhookRow.webhook_id == webhook_id).values(disabled_at=now)
        )
        await self.session.execute(
            update(DeliveryRow)
            .where(DeliveryRow.webhook_id == webhook_id, DeliveryRow.delivered_at.is_(None))
            .values(due_at=None)
        )

    async def deliveries(
        self, webhook_id: str, limit: int, *, state: DeliveryState | None = None, after: str | None = None
    ) -> list[DeliveryRow]:
        """The newest; with `after` those before that one."""
        query = select(DeliveryRow).where(DeliveryRow.webhook_id == webhook_id)
        if state is not None:
            query = query.where(_WITH_STATE[state])
        if after is not None:
            query = query.where(DeliveryRow.delivery_id < after)
        return list(await self.session.scalars(query.order_by(desc(DeliveryRow.delivery_id)).limit(limit)))

    async def again(self, webhook_id: str, delivery_id: str) -> DeliveryRow | None:
        """One delivery is due now and has all its tries before it, whatever became of it. None: there is none."""
        known = DeliveryRow.webhook_id == webhook_id, DeliveryRow.delivery_id == delivery_id
        # Without its lease: a sender that has it now may not record what it did.
        fresh = {"tries": 0, "delivered_at": None, "due_at": func.now(), "lease_until": None, "lease_token": None}
        return await self.session.scalar(update(DeliveryRow).where(*known).values(**fresh).returning(DeliveryRow))

    async def replay(self, webhook: WebhookRow, after: int | datetime, now: datetime) -> tuple[int, int | None]:
        """New deliveries of what the log holds after a position or a time, as far as the webhook wants it: how many,
        and, if there are more, the position to go on from."""
        query = select(EventRow).where(EventRow.tenant_id == webhook.tenant_id)
        query = query.where(EventRow.at > after if isinstance(after, datetime) else EventRow.id > after)
        if webhook.types:
            query = query.where(EventRow.type.in_(webhook.types))
        rows = list(await self.session.scalars(query.order_by(EventRow.id).limit(MAX_REPLAYED + 1)))
        for row in rows[:MAX_REPLAYED]:
            self.add(webhook.webhook_id, webhook.tenant_id, row.type, row.event, now)
        await self.session.flush()
        return min(len(rows), MAX_REPLAYED), rows[MAX_REPLAYED - 1].id if len(rows) > MAX_REPLAYED else None

    async def forget(self, now: datetime, retention: timedelta, limit: int) -> int:
        """Delete what was told so long ago; returns how many."""
        past = select(DeliveryRow.delivery_id).where(DeliveryRow.told_at < now - retention).limit(limit)
        gone = delete(DeliveryRow).where(DeliveryRow.delivery_id.in_(past)).returning(DeliveryRow.delivery_id)
        return len((await self.session.scalars(gone)).all())
