"""What grows is cut: the event log and prices by age and number, plans, replays, notices and answers by age."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Select, delete, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from services.gateway.settings import Settings
from services.gateway.tables import AnswerRow, EventRow, NoticeRow, PlanRow, PriceRow, ReplayRow
from sskai.database import Database

ROWS_AT_ONCE = 5_000  # in one transaction, so that none takes long


async def forget(database: Database, settings: Settings) -> int:
    """Delete a batch of what is past its time; returns how many rows."""
    now = datetime.now(UTC)
    oldest_answer = now - timedelta(hours=settings.idempotency_retention_hours)
    oldest_event = now - timedelta(days=settings.event_retention_days)
    oldest_plan = now - timedelta(days=settings.plan_retention_days)
    oldest_market = now - timedelta(days=settings.market_retention_days)
    async with database.transaction() as session:
        newest = await session.scalar(select(func.max(EventRow.id))) or 0
        events = (
            select(EventRow.id)
            .where((EventRow.at < oldest_event) | (EventRow.id <= newest - settings.max_events))
            .limit(ROWS_AT_ONCE)
        )
        answers = select(AnswerRow.idempotency_key).where(AnswerRow.created_at < oldest_answer).limit(ROWS_AT_ONCE)
        gone = await session.scalars(delete(EventRow).where(EventRow.id.in_(events)).returning(EventRow.id))
        forgotten = len(gone.all())
        old = delete(AnswerRow).where(AnswerRow.created_at < oldest_answer, AnswerRow.idempotency_key.in_(answers))
        forgotten += len((await session.scalars(old.returning(AnswerRow.idempotency_key))).all())
        for row, key in ((PlanRow, PlanRow.id), (ReplayRow, ReplayRow.replay_id)):
            past = select(key).where(row.created_at < oldest_plan).limit(ROWS_AT_ONCE)
            forgotten += len((await session.scalars(delete(row).where(key.in_(past)).returning(key))).all())
        for market in (PriceRow, NoticeRow):
            place = market.__table__.primary_key.columns
            past = select(*place).where(market.at < oldest_market).limit(ROWS_AT_ONCE)
            forgotten += await _count_gone(session, market, past)
        count = await session.scalar(select(func.count()).select_from(PriceRow)) or 0
        if count > settings.max_prices:
            excess = min(count - settings.max_prices, ROWS_AT_ONCE)
            oldest = select(PriceRow.offer, PriceRow.at).order_by(PriceRow.at).limit(excess)
            forgotten += await _count_gone(session, PriceRow, oldest)
    return forgotten


async def _count_gone(session: AsyncSession, row: type[PriceRow | NoticeRow], keys: Select[Any]) -> int:
    """Delete the rows of these primary keys."""
    columns = row.__table__.primary_key.columns
    gone = delete(row).where(tuple_(*columns).in_(keys)).returning(row.at)
    return len((await session.scalars(gone)).all())


async def forget_old(database: Database, settings: Settings) -> None:
    """Everything past its time, batch after batch."""
    while await forget(database, settings) >= ROWS_AT_ONCE:
        pass
