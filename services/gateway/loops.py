"""What grows is cut: the event log, prices and traffic by age and number, the others by age."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import delete, func, select

from services.gateway.sessions import Sessions
from services.gateway.settings import Settings
from services.gateway.tables import AnswerRow, CutRow, EventRow, PlanRow, PurgeRow, ReplayRow, UploadRow
from services.gateway.timelines import Timelines
from services.gateway.traffic import Traffic
from services.gateway.webhook_store import Webhooks
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
        past = (
            select(CutRow.retrain_id).where(CutRow.asked_at < oldest_plan, CutRow.due_at.is_(None)).limit(ROWS_AT_ONCE)
        )
        cuts = delete(CutRow).where(CutRow.retrain_id.in_(past)).returning(CutRow.retrain_id)
        forgotten += len((await session.scalars(cuts)).all())
        over = UploadRow.ended_at < now - timedelta(days=settings.upload_retention_days)
        past = select(UploadRow.upload_id).where(over, UploadRow.due_at.is_(None)).limit(ROWS_AT_ONCE)
        uploads = delete(UploadRow).where(UploadRow.upload_id.in_(past)).returning(UploadRow.upload_id)
        forgotten += len((await session.scalars(uploads)).all())
        purged = select(PurgeRow.key).where(PurgeRow.asked_at < oldest_plan, PurgeRow.due_at.is_(None))
        purges = delete(PurgeRow).where(PurgeRow.key.in_(purged.limit(ROWS_AT_ONCE))).returning(PurgeRow.key)
        forgotten += len((await session.scalars(purges)).all())
        forgotten += await Traffic(session).forget(
            now, settings.traffic_retention_days, settings.traffic_rows_per_endpoint, ROWS_AT_ONCE
        )
        kept_for = timedelta(days=settings.webhook_retention_days)
        forgotten += await Webhooks(session).forget(now, kept_for, ROWS_AT_ONCE)
        await Sessions(session).forget(now)
        forgotten += await Timelines(session).forget(oldest_market, settings.max_prices, ROWS_AT_ONCE)
    return forgotten


async def forget_old(database: Database, settings: Settings) -> None:
    """Everything past its time, batch after batch."""
    while await forget(database, settings) >= ROWS_AT_ONCE:
        pass
