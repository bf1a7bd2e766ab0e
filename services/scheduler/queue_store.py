"""The tables of waiting: who has a place or stands in line, what waits were like, and what was foretold.

Writes to `queue` come after `lock` in a transaction, or without it altogether: whoever wrote a row and then waited for
the lock would wait for whoever has the lock and wants the row.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    DateTime,
    Float,
    ForeignKey,
    Identity,
    Index,
    Integer,
    Text,
    Update,
    and_,
    func,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from services.scheduler.domain import State
from services.scheduler.store import AttemptRow, Base, JobRow
from services.scheduler.waiting import MARKET_RULES, NEWEST_WAITS, Calibration, PastWait

LOCK = "scheduler:admission"
ALIVE = [state.value for state in State if not state.ended]
WITH_ATTEMPT = [state.value for state in State if state.has_attempt]
STARTED = [state.value for state in State if state.has_attempt and state is not State.LAUNCHING]
ENOUGH_WAITS = 30  # of one offer; with fewer, those of other offers under the same rule count too

KEPT_WAITS = 50_000
KEPT_DAYS = 90
KEPT_MONTHS = 13


class QueueRow(Base):
    """One job that has not ended: its size, its place, and its wait. Sizes and costs are those of its newest look."""

    __tablename__ = "queue"

    job_id: Mapped[str] = mapped_column(ForeignKey("scheduler.jobs.job_id"), primary_key=True)
    tenant_id: Mapped[str] = mapped_column(Text, index=True)
    priority: Mapped[int] = mapped_column(Integer)
    submitted_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    machines: Mapped[int] = mapped_column(Integer)
    accelerators: Mapped[int] = mapped_column(Integer)
    vcpus: Mapped[int] = mapped_column(Integer)
    seconds_low: Mapped[float] = mapped_column(Float)  # of work left, from a launch on; 0: not known
    seconds_expected: Mapped[float] = mapped_column(Float)
    seconds_high: Mapped[float] = mapped_column(Float)
    total_steps: Mapped[int] = mapped_column(Integer)
    committed_nano_usd: Mapped[int] = mapped_column(BigInteger)  # what it will have cost in the end, as expected
    budget_nano_usd: Mapped[int | None] = mapped_column(BigInteger)
    placed: Mapped[bool]  # it has its place, whether it runs or not
    placed_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    month: Mapped[str] = mapped_column(Text)  # "2026-11"
    counted_nano_usd: Mapped[int] = mapped_column(BigInteger)  # spent before this month
    rule: Mapped[str] = mapped_column(Text)  # what holds it; empty: nothing
    kind: Mapped[str] = mapped_column(Text)  # what it waits for, as past waits are kept
    since: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    told_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    earliest: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    expected: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    latest: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


# What a decision needs of each row; there may be thousands.
_DECIDED_BY = (
    *(QueueRow.job_id, QueueRow.tenant_id, QueueRow.priority, QueueRow.submitted_at),
    *(QueueRow.machines, QueueRow.accelerators, QueueRow.vcpus),
    *(QueueRow.seconds_low, QueueRow.seconds_expected, QueueRow.seconds_high),
    *(QueueRow.committed_nano_usd, QueueRow.budget_nano_usd),
)


class WaitRow(Base):
    """A wait that is over; `ended` false: given up, or gone on under another rule."""

    __tablename__ = "waits"

    wait_id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    rule: Mapped[str] = mapped_column(Text)
    kind: Mapped[str] = mapped_column(Text)
    seconds: Mapped[float] = mapped_column(Float)
    ended: Mapped[bool]
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True))

    __table_args__ = (Index(None, "rule", "kind", "wait_id"),)


class PredictionRow(Base):
    """What was told about one wait (seconds from `made_at`), and what came of it."""

    __tablename__ = "wait_predictions"

    prediction_id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    job_id: Mapped[str] = mapped_column(Text, index=True)
    rule: Mapped[str] = mapped_column(Text)
    made_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    low_seconds: Mapped[float] = mapped_column(Float)
    expected_seconds: Mapped[float] = mapped_column(Float)
    high_seconds: Mapped[float] = mapped_column(Float)
    actual_seconds: Mapped[float | None] = mapped_column(Float)


class CalibrationRow(Base):
    """How far the intervals of one rule are stretched now, and how often they held."""

    __tablename__ = "wait_calibrations"

    rule: Mapped[str] = mapped_column(Text, primary_key=True)
    low: Mapped[float] = mapped_column(Float)
    high: Mapped[float] = mapped_column(Float)
    predictions: Mapped[int] = mapped_column(BigInteger)
    covered: Mapped[int] = mapped_column(BigInteger)


class TenantMonthRow(Base):
    """What ended jobs of a tenant spent in a month, and running ones in months that are over."""

    __tablename__ = "tenant_months"

    tenant_id: Mapped[str] = mapped_column(Text, primary_key=True)
    month: Mapped[str] = mapped_column(Text, primary_key=True)
    spent_nano_usd: Mapped[int] = mapped_column(BigInteger)


_INTO_MONTHS = """
INSERT INTO scheduler.tenant_months AS kept (tenant_id, month, spent_nano_usd)
SELECT tenant_id, month, sum(spent) FROM gone GROUP BY tenant_id, month
ON CONFLICT (tenant_id, month) DO UPDATE SET spent_nano_usd = kept.spent_nano_usd + excluded.spent_nano_usd
"""
_FOLD_ENDED = text(f"""
WITH gone AS (
    DELETE FROM scheduler.queue q USING scheduler.jobs j
    WHERE j.job_id = q.job_id AND j.state <> ALL(:alive)
    RETURNING q.tenant_id, q.month, j.spent_nano_usd - q.counted_nano_usd AS spent
) {_INTO_MONTHS}""")  # noqa: S608 - of constants; values are bound
_TURN_MONTH = text(f"""
WITH gone AS (
    SELECT q.job_id, q.tenant_id, q.month, j.spent_nano_usd AS total, j.spent_nano_usd - q.counted_nano_usd AS spent
    FROM scheduler.queue q JOIN scheduler.jobs j ON j.job_id = q.job_id WHERE q.month < :month FOR UPDATE OF q
), turned AS (
    UPDATE scheduler.queue q SET month = :month, counted_nano_usd = gone.total FROM gone WHERE q.job_id = gone.job_id
) {_INTO_MONTHS}""")  # noqa: S608


class QueueStore:
    """The queue as one transaction sees it."""

    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def lock(self) -> None:
        """Decide alone until the transaction ends: launches at the same time cannot pass a limit together."""
        await self.session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(LOCK, 0))))

    async def try_lock(self) -> bool:
        return bool(await self.session.scalar(select(func.pg_try_advisory_xact_lock(func.hashtextextended(LOCK, 0)))))

    async def row(self, job_id: str) -> QueueRow | None:
        return await self.session.get(QueueRow, job_id, populate_existing=True)

    async def contenders(self, asking: str) -> Sequence[Any]:
        """Rows (QueueRow columns, jobs.spent_nano_usd) of jobs that want a place now; the one that asks among them."""
        wants = or_(QueueRow.rule.not_in((*MARKET_RULES, "reserve")), QueueRow.job_id == asking)
        statement = (
            select(*_DECIDED_BY, JobRow.spent_nano_usd)
            .join(JobRow, JobRow.job_id == QueueRow.job_id)
            .where(JobRow.state == State.QUEUED.value, ~QueueRow.placed, wants)
        )
        return (await self.session.execute(statement)).all()

    async def holders(self) -> Sequence[Any]:
        """Rows of jobs that have a place: an attempt, or one to come. Of jobs older than the queue its part is null."""
        statement = (
            select(
                JobRow.job_id.label("holder_id"),
                JobRow.tenant_id.label("holder_tenant_id"),
                JobRow.spent_nano_usd,
                JobRow.steps_told,
                JobRow.step_seconds,
                JobRow.told_at.label("progress_at"),
                QueueRow.total_steps,
                QueueRow.placed_at,
                *_DECIDED_BY,
            )
            .outerjoin(QueueRow, QueueRow.job_id == JobRow.job_id)
            .where(or_(JobRow.state.in_(WITH_ATTEMPT), and_(JobRow.state.in_(ALIVE), QueueRow.placed)))
        )
        return (await self.session.execute(statement)).all()

    async def spent_nano_usd(self, month: str) -> dict[str, int]:
        """Of each tenant in this month."""
        ended = await self.session.execute(
            select(TenantMonthRow.tenant_id, TenantMonthRow.spent_nano_usd).where(TenantMonthRow.month == month)
        )
        spent: dict[str, int] = {row.tenant_id: row.spent_nano_usd for row in ended}
        alive = await self.session.execute(
            select(QueueRow.tenant_id, func.sum(JobRow.spent_nano_usd - QueueRow.counted_nano_usd))
            .join(JobRow, JobRow.job_id == QueueRow.job_id)
            .where(QueueRow.month == month)
            .group_by(QueueRow.tenant_id)
        )
        for tenant_id, amount in alive:
            spent[tenant_id] = spent.get(tenant_id, 0) + int(amount)
        return spent

    async def past_waits(self, rule: str, kind: str) -> list[PastWait]:
        """Newest first: those of this kind, and where they are few, those of other kinds as well."""

        async def waits(*where: Any) -> list[PastWait]:
            statement = select(WaitRow.seconds, WaitRow.ended).where(WaitRow.rule == rule, *where)
            newest = await self.session.execute(statement.order_by(WaitRow.wait_id.desc()).limit(NEWEST_WAITS))
            return [PastWait(seconds, ended) for seconds, ended in newest]

        own = await waits(WaitRow.kind == kind)
        return own if len(own) >= ENOUGH_WAITS else own + await waits(WaitRow.kind != kind)

    async def calibration(self, rule: str) -> Calibration:
        row = await self.session.get(CalibrationRow, rule)
        return Calibration(row.low, row.high) if row else Calibration()

    async def keep_calibration(self, rule: str, calibration: Calibration, covered: bool) -> None:
        """The rule's new factors, and one more prediction that met its outcome."""
        values = {"rule": rule, "low": calibration.low, "high": calibration.high}
        statement = upsert(CalibrationRow).values(**values, predictions=1, covered=int(covered))
        await self.session.execute(
            statement.on_conflict_do_update(
                index_elements=["rule"],
                set_={
                    "low": statement.excluded.low,
                    "high": statement.excluded.high,
                    "predictions": CalibrationRow.predictions + 1,
                    "covered": CalibrationRow.covered + int(covered),
                },
            )
        )

    async def open_predictions(self, job_id: str) -> Sequence[PredictionRow]:
        statement = select(PredictionRow).where(PredictionRow.job_id == job_id, PredictionRow.actual_seconds.is_(None))
        return (await self.session.scalars(statement.order_by(PredictionRow.prediction_id))).all()

    async def waits_that_are_over(self, limit: int) -> Sequence[Any]:
        """(QueueRow, when the attempt began that ended the wait, or None, whether the job ended)."""
        statement = (
            select(QueueRow, _began(QueueRow.job_id, QueueRow.since), JobRow.state.not_in(ALIVE))
            .join(JobRow, JobRow.job_id == QueueRow.job_id)
            .where(QueueRow.rule != "", or_(JobRow.state.in_(STARTED), JobRow.state.not_in(ALIVE)))
            .limit(limit)
            .with_for_update(of=QueueRow, skip_locked=True)
        )
        return (await self.session.execute(statement)).all()

    async def started_since(self, job_id: str, since: datetime) -> datetime | None:
        """When the first attempt after `since` began; one that got no machine is none."""
        started: datetime | None = await self.session.scalar(select(_began(job_id, since)))
        return started

    async def waiting_by_rule(self) -> dict[str, int]:
        statement = select(QueueRow.rule, func.count()).where(QueueRow.rule != "").group_by(QueueRow.rule)
        return {rule: int(count) for rule, count in await self.session.execute(statement)}

    async def place(self, job_ids: Sequence[str], now: datetime) -> None:
        """They have their places, and look at once. After `lock`.

        A job that somebody works on is not woken: whoever does will see its place.
        """
        placed: Update = update(QueueRow).where(QueueRow.job_id.in_(job_ids)).values(placed=True, placed_at=now)
        await self.session.execute(placed.execution_options(synchronize_session=False))
        free = select(JobRow.job_id).where(JobRow.job_id.in_(job_ids), JobRow.state == State.QUEUED.value)
        free = free.with_for_update(skip_locked=True)
        woken: Update = update(JobRow).where(JobRow.job_id.in_(free)).values(due_at=func.clock_timestamp())
        await self.session.execute(woken.execution_options(synchronize_session=False))

    async def close_books(self, month: str) -> None:
        """Ended jobs leave the queue, and what was spent in months that are over is kept by month. After `lock`."""
        await self.session.execute(_FOLD_ENDED, {"alive": ALIVE})
        await self.session.execute(_TURN_MONTH, {"month": month})

    async def forget(self, now: datetime, oldest_month: str) -> None:
        """The limits of what is kept: by age, and by number."""
        for table, key, at in (("waits", "wait_id", "at"), ("wait_predictions", "prediction_id", "made_at")):
            statement = text(
                f"DELETE FROM scheduler.{table} WHERE {at} < cast(:now AS timestamptz) - :days * interval '1 day' "  # noqa: S608
                f"OR {key} <= (SELECT max({key}) FROM scheduler.{table}) - :kept"
            )
            await self.session.execute(statement, {"now": now, "days": KEPT_DAYS, "kept": KEPT_WAITS})
        await self.session.execute(
            text("DELETE FROM scheduler.tenant_months WHERE month < :month"), {"month": oldest_month}
        )


def _began(job_id: Any, since: Any) -> Any:
    """By the scheduler's clock: a cluster's may be cut to whole seconds, and so lie before the wait."""
    launched = (AttemptRow.job_id == job_id, AttemptRow.started_at >= since, AttemptRow.launched_at.is_not(None))
    return select(func.min(AttemptRow.started_at)).where(*launched).scalar_subquery()
