"""What timelines are made of, in the database: marks of jobs, notices of machines, prices of offers. All bounded."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Select, delete, func, select, tuple_
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from services.gateway.tables import MarkRow, NoticeRow, PriceRow
from services.gateway.timeline import LANES, Mark, Notice, PricePoint
from sskai.contract import moment
from sskai.events import v1 as events

MAX_MARKS = 1_000  # of one job; the oldest go first, but what lanes are made of last
MARKS_SPARE = 50  # so that not every mark beyond the limit cuts
MAX_POINTS_READ = 5_000  # of one offer
NOTICES_OF_A_MACHINE = 10


class Timelines:
    """One transaction's view. Marks are asked for only after the job was found for its tenant."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def keep(self, tenant_id: str, job_id: str, mark: Mark) -> None:
        """Once, however often it is told."""
        values = {"job_id": job_id, "key": mark.key, "tenant_id": tenant_id, "kind": mark.kind}
        statement = upsert(MarkRow).values(**values, at=mark.at, body=mark.body).on_conflict_do_nothing()
        if await self._session.scalar(statement.returning(MarkRow.key)) is None:
            return
        count = await self._session.scalar(select(func.count()).where(MarkRow.job_id == job_id)) or 0
        if count > MAX_MARKS + MARKS_SPARE:
            least = select(MarkRow.key).where(MarkRow.job_id == job_id)
            least = least.order_by(MarkRow.kind.in_(LANES), MarkRow.at).limit(count - MAX_MARKS)
            await self._session.execute(delete(MarkRow).where(MarkRow.job_id == job_id, MarkRow.key.in_(least)))

    async def marks(self, tenant_id: str, job_id: str) -> list[Mark]:
        rows = await self._session.scalars(
            select(MarkRow).where(MarkRow.job_id == job_id, MarkRow.tenant_id == tenant_id)
        )
        return [Mark(row.key, row.kind, row.at, row.body) for row in rows]

    async def keep_notice(self, event: events.InterruptionNoticed) -> None:
        """A machine's, before or after it is known whose it is."""
        values = {
            "machine_id": event.machine_id,
            "at": moment(event.noticed_at),
            "action": event.action,
            "terminates_at": moment(event.terminates_at) if event.HasField("terminates_at") else None,
        }
        known = select(func.count()).where(NoticeRow.machine_id == event.machine_id)
        if (await self._session.scalar(known) or 0) < NOTICES_OF_A_MACHINE:
            await self._session.execute(upsert(NoticeRow).values(**values).on_conflict_do_nothing())

    async def notices(self, machine_ids: list[str]) -> list[Notice]:
        rows = await self._session.scalars(select(NoticeRow).where(NoticeRow.machine_id.in_(machine_ids)))
        return [Notice(row.machine_id, row.at, row.action, row.terminates_at) for row in rows]

    async def keep_price(self, event: events.PriceObserved) -> None:
        """Only what differs from the price before it: most of what feeds tell is that nothing has changed."""
        at = moment(event.observed_at)
        before = select(PriceRow.usd_per_hour).where(PriceRow.offer == event.offer, PriceRow.at <= at)
        newest = await self._session.scalar(before.order_by(PriceRow.at.desc()).limit(1))
        if newest == event.price_usd_per_hour:
            return
        values = {"offer": event.offer, "at": at, "usd_per_hour": event.price_usd_per_hour}
        await self._session.execute(upsert(PriceRow).values(**values).on_conflict_do_nothing())

    async def prices(self, offers: list[str], since: datetime, until: datetime) -> list[PricePoint]:
        """Of each offer the price at the beginning and every change until the end."""
        points = []
        for offer in offers:
            of_offer = select(PriceRow).where(PriceRow.offer == offer)
            before = of_offer.where(PriceRow.at < since).order_by(PriceRow.at.desc()).limit(1)
            within = of_offer.where(PriceRow.at >= since, PriceRow.at <= until).order_by(PriceRow.at.desc())
            rows = [*await self._session.scalars(before), *await self._session.scalars(within.limit(MAX_POINTS_READ))]
            points += [PricePoint(row.offer, row.at, row.usd_per_hour) for row in rows]
        return points

    async def forget(self, before: datetime, max_prices: int, limit: int) -> int:
        """Notices and prices of before, and the oldest prices beyond so many; at most `limit` of each at once."""
        past_notices = select(NoticeRow.machine_id, NoticeRow.at, NoticeRow.action).where(NoticeRow.at < before)
        notice_key = tuple_(NoticeRow.machine_id, NoticeRow.at, NoticeRow.action)
        gone = delete(NoticeRow).where(notice_key.in_(past_notices.limit(limit))).returning(NoticeRow.at)
        forgotten = len((await self._session.scalars(gone)).all())
        oldest = select(PriceRow.offer, PriceRow.at).order_by(PriceRow.at)
        forgotten += await self._forget_prices(oldest.where(PriceRow.at < before).limit(limit))
        excess = (await self._session.scalar(select(func.count()).select_from(PriceRow)) or 0) - max_prices
        if excess > 0:
            forgotten += await self._forget_prices(oldest.limit(min(excess, limit)))
        return forgotten

    async def _forget_prices(self, keys: Select[str, datetime]) -> int:
        of_keys = tuple_(PriceRow.offer, PriceRow.at).in_(keys)
        return len((await self._session.scalars(delete(PriceRow).where(of_keys).returning(PriceRow.at))).all())
