"""The scheduler's tables, and the way from rows to values and back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, cast

from sqlalchemy import (
    BigInteger,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    event,
    func,
    select,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from services.scheduler import tracing
from services.scheduler.domain import Attempt, EndReason, Job, State
from sskai.claims import Claimable
from sskai.database import service_metadata
from sskai.events import v1 as events
from sskai.known_budgets import KnownBudget
from sskai.statements import Statement


class Base(DeclarativeBase):
    metadata = service_metadata("scheduler")


class BudgetRow(KnownBudget, Base):
    """What jobs spend may be under."""


class JobRow(Claimable, Base):
    __tablename__ = "jobs"

    job_id: Mapped[str] = mapped_column(Text, primary_key=True)
    tenant_id: Mapped[str] = mapped_column(Text, index=True)
    spec: Mapped[bytes] = mapped_column(LargeBinary)
    state: Mapped[str] = mapped_column(Text, index=True)
    plan: Mapped[bytes | None] = mapped_column(LargeBinary)
    attempts: Mapped[int] = mapped_column(Integer)
    current_attempt: Mapped[int | None] = mapped_column(Integer)
    successor_attempt: Mapped[int | None] = mapped_column(Integer)
    steps_saved: Mapped[int] = mapped_column(Integer)
    steps_told: Mapped[int] = mapped_column(Integer)
    told_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    checkpoint_uri: Mapped[str] = mapped_column(Text)
    spent_nano_usd: Mapped[int] = mapped_column(BigInteger)
    intervals: Mapped[int] = mapped_column(Integer)
    errors: Mapped[int] = mapped_column(Integer)
    recoveries: Mapped[list[str]] = mapped_column(JSONB)
    denials: Mapped[int] = mapped_column(Integer)
    not_before: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    outgrown_bytes: Mapped[int] = mapped_column(BigInteger)
    stop_reason: Mapped[str | None] = mapped_column(Text)
    stop_by: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    waiting_since: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    admitted: Mapped[bool]
    denied_until: Mapped[dict[str, str]] = mapped_column(JSONB)
    step_seconds: Mapped[float] = mapped_column(Float)
    submitted_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    traceparent: Mapped[str] = mapped_column(Text)
    limit_nano_usd: Mapped[int | None] = mapped_column(BigInteger)
    ask_number: Mapped[int] = mapped_column(Integer)
    asking: Mapped[bool]
    ask_detail: Mapped[str] = mapped_column(Text)


class AttemptRow(Base):
    __tablename__ = "attempts"
    __table_args__ = (Index("ix_attempts_member_ids", "member_ids", postgresql_using="gin"),)

    job_id: Mapped[str] = mapped_column(ForeignKey("scheduler.jobs.job_id"), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    placement: Mapped[bytes] = mapped_column(LargeBinary)
    planned: Mapped[bytes | None] = mapped_column(LargeBinary)
    machine_id: Mapped[str] = mapped_column(Text, index=True)
    member_ids: Mapped[list[str]] = mapped_column(ARRAY(Text))
    started_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    launched_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    metered_until: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    ended_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    end_reason: Mapped[str] = mapped_column(Text)
    first_step: Mapped[int | None] = mapped_column(Integer)
    last_step: Mapped[int] = mapped_column(Integer)
    heard_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    drain_signalled: Mapped[bool]
    pending: Mapped[str] = mapped_column(Text)
    lost: Mapped[int] = mapped_column(Integer)


class EarlyAnswerRow(Base):
    """What the optimizer said before the job was known: the topics of jobs and plans are read independently."""

    __tablename__ = "early_answers"

    job_id: Mapped[str] = mapped_column(Text, primary_key=True)
    plan: Mapped[bytes | None] = mapped_column(LargeBinary)
    refusal: Mapped[bytes | None] = mapped_column(LargeBinary)
    came_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())


_ATTEMPT_FIELDS = (
    "machine_id",
    "started_at",
    "launched_at",
    "metered_until",
    "ended_at",
    "end_reason",
    "first_step",
    "last_step",
    "heard_at",
    "drain_signalled",
    "pending",
    "lost",
)
_JOB_FIELDS = (
    "attempts",
    "steps_saved",
    "steps_told",
    "told_at",
    "checkpoint_uri",
    "spent_nano_usd",
    "intervals",
    "errors",
    "denials",
    "not_before",
    "outgrown_bytes",
    "stop_by",
    "waiting_since",
    "admitted",
    "step_seconds",
    "submitted_at",
    "traceparent",
    "due_at",
    "limit_nano_usd",
    "ask_number",
    "asking",
    "ask_detail",
)


@cache
def _upsert_of(table: type[Base], keys: tuple[str, ...], columns: tuple[str, ...]) -> Statement:
    """Every push of a job ends with it."""
    row = upsert(cast(Table, table.__table__))
    changed = {name: row.excluded[name] for name in columns if name not in keys}
    return Statement(row.on_conflict_do_update(index_elements=keys, set_=changed), columns)


@dataclass(frozen=True, slots=True)
class Live:
    """An attempt that has a machine and has not ended."""

    job_id: str
    attempt: int
    launched_at: datetime
    pending: str
    lost: int


class Store:
    """Loads jobs locked, so that whoever decides on one decides alone."""

    def __init__(self, session: AsyncSession) -> None:
        self.session = session
        self._known_ended: set[tuple[str, int]] = set()

    async def job(self, job_id: str) -> Job | None:
        """The job with its live attempts, locked until the transaction ends.

        A job that is not there is locked by its name: JobSubmitted and PlanProposed come by two topics, and each looks
        for what the other writes. Without the lock both could look before either has committed.
        """
        row = await self._locked(job_id)
        if row is None:
            lock = func.pg_advisory_xact_lock(func.hashtextextended(f"job:{job_id}", 0))
            await self.session.execute(select(lock))
            row = await self._locked(job_id)
        return await self._job(row)

    async def _locked(self, job_id: str) -> JobRow | None:
        return await self.session.get(JobRow, job_id, with_for_update=True, populate_existing=True)

    async def on_machine(self, machine_id: str) -> tuple[Job, Attempt] | None:
        """The job of which a live attempt runs on this machine, and the attempt; asked again once the lock is held."""
        of_machine = AttemptRow.member_ids.contains([machine_id]) | (AttemptRow.machine_id == machine_id)
        job_id = await self.session.scalar(
            select(AttemptRow.job_id).where(of_machine, AttemptRow.ended_at.is_(None)).limit(1)
        )
        job = await self.job(job_id) if job_id else None
        for attempt in job.live_attempts() if job else ():
            if machine_id == attempt.machine_id or machine_id in attempt.member_ids:
                return job, attempt  # type: ignore[return-value]
        return None

    async def claimed_job(self, job_id: str, token: str | None) -> Job | None:
        """The job if the claim with this token still stands; None: the lease ran out, drop the result."""
        row = await self._locked(job_id)
        return await self._job(row) if row is not None and token and row.lease_token == token else None

    async def live_attempts(self) -> dict[str, Live]:
        """By machine_id, every attempt that has a machine and has not ended."""
        rows = await self.session.execute(
            select(
                AttemptRow.machine_id,
                AttemptRow.job_id,
                AttemptRow.number,
                func.coalesce(AttemptRow.launched_at, AttemptRow.started_at),
                AttemptRow.pending,
                AttemptRow.lost,
            ).where(AttemptRow.ended_at.is_(None), AttemptRow.machine_id != "")
        )
        return {
            machine_id: Live(job_id, number, launched_at, pending, lost)
            for machine_id, job_id, number, launched_at, pending, lost in rows
        }

    async def drained_at(self, job_id: str, number: int) -> datetime | None:
        """When the attempt ended, if it had been told to save and stop."""
        return await self.session.scalar(
            select(AttemptRow.ended_at).where(
                AttemptRow.job_id == job_id, AttemptRow.number == number, AttemptRow.drain_signalled
            )
        )

    async def save(self, job: Job) -> None:
        """Write the job and its attempts. A lease stays as it is: claims end by their own statement."""
        values: dict[str, Any] = {name: getattr(job, name) for name in _JOB_FIELDS}
        values |= {
            "job_id": job.job_id,
            "tenant_id": job.tenant_id,
            "state": job.state.value,
            "spec": job.spec.SerializeToString(),
            "plan": job.plan.SerializeToString() if job.plan else None,
            "current_attempt": job.attempt.number if job.attempt else None,
            "successor_attempt": job.successor.number if job.successor else None,
            "stop_reason": job.stop_reason.word if job.stop_reason else None,
            "denied_until": {offer: at.isoformat() for offer, at in job.denied_until.items()},
            "recoveries": [at.isoformat() for at in job.recoveries],
        }
        await self._upsert(JobRow, ("job_id",), values)
        for attempt in (*job.closed, job.attempt, job.successor):
            if attempt is not None:
                await self._save_attempt(job.job_id, attempt)
                self._tell_ended(job, attempt)

    def _tell_ended(self, job: Job, attempt: Attempt) -> None:
        """The span of an attempt that ends by this transaction, once it is committed."""
        if attempt.ended_at is None or (job.job_id, attempt.number) in self._known_ended:
            return
        self._known_ended.add((job.job_id, attempt.number))
        event.listen(
            self.session.sync_session, "after_commit", lambda _session: tracing.tell_attempt(job, attempt), once=True
        )

    async def _save_attempt(self, job_id: str, attempt: Attempt) -> None:
        values = {name: getattr(attempt, name) for name in _ATTEMPT_FIELDS}
        values |= {
            "job_id": job_id,
            "number": attempt.number,
            "placement": attempt.placement.SerializeToString(),
            "planned": attempt.planned.SerializeToString() if attempt.planned else None,
            "member_ids": list(attempt.member_ids),
        }
        await self._upsert(AttemptRow, ("job_id", "number"), values)

    async def keep_early_answer(self, answer: events.PlanProposed | events.PlanRefused) -> None:
        """Keep an answer of the optimizer until its job is known."""
        column = "plan" if isinstance(answer, events.PlanProposed) else "refusal"
        values = {"job_id": answer.job_id, "plan": None, "refusal": None, column: answer.SerializeToString()}
        await self._upsert(EarlyAnswerRow, ("job_id",), values)

    async def early_answer(self, job_id: str) -> events.PlanProposed | events.PlanRefused | None:
        """What the optimizer said before the job was known."""
        row = await self.session.get(EarlyAnswerRow, job_id)
        if row is None:
            return None
        await self.session.delete(row)
        if row.plan is not None:
            return events.PlanProposed.FromString(row.plan)
        return events.PlanRefused.FromString(row.refusal or b"")

    async def _upsert(self, table: type[Base], keys: tuple[str, ...], values: dict[str, Any]) -> None:
        await _upsert_of(table, keys, tuple(values)).all(self.session, values)

    async def _attempt(self, job_id: str, number: int | None) -> Attempt | None:
        row = await self.session.get(AttemptRow, (job_id, number), populate_existing=True) if number else None
        if row is None:
            return None
        if row.ended_at is not None:
            self._known_ended.add((job_id, row.number))
        return Attempt(
            number=row.number,
            placement=events.Placement.FromString(row.placement),
            planned=events.Candidate.FromString(row.planned) if row.planned else None,
            member_ids=tuple(row.member_ids),
            **{name: getattr(row, name) for name in _ATTEMPT_FIELDS},
        )

    async def _job(self, row: JobRow | None) -> Job | None:
        if row is None:
            return None
        return Job(
            job_id=row.job_id,
            tenant_id=row.tenant_id,
            spec=events.JobSpec.FromString(row.spec),
            state=State(row.state),
            plan=events.PlanProposed.FromString(row.plan) if row.plan else None,
            attempt=await self._attempt(row.job_id, row.current_attempt),
            successor=await self._attempt(row.job_id, row.successor_attempt),
            stop_reason=EndReason.of(row.stop_reason) if row.stop_reason else None,
            denied_until={offer: datetime.fromisoformat(at) for offer, at in row.denied_until.items()},
            recoveries=tuple(datetime.fromisoformat(at) for at in row.recoveries),
            **{name: getattr(row, name) for name in _JOB_FIELDS},
        )
