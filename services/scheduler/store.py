"""The scheduler's tables, and the way from rows to values and back."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, DateTime, Float, ForeignKey, Integer, LargeBinary, Text, func, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from services.scheduler.domain import Attempt, EndReason, Job, State
from sskai.claims import Claimable
from sskai.database import service_metadata
from sskai.events import v1 as events


class Base(DeclarativeBase):
    metadata = service_metadata("scheduler")


class JobRow(Claimable, Base):
    __tablename__ = "jobs"

    job_id: Mapped[str] = mapped_column(Text, primary_key=True)
    tenant_id: Mapped[str] = mapped_column(Text, index=True)
    spec: Mapped[bytes] = mapped_column(LargeBinary)
    state: Mapped[str] = mapped_column(Text, index=True)
    plan: Mapped[bytes | None] = mapped_column(LargeBinary)
    attempts: Mapped[int] = mapped_column(Integer)
    steps_saved: Mapped[int] = mapped_column(Integer)
    steps_told: Mapped[int] = mapped_column(Integer)
    told_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    checkpoint_uri: Mapped[str] = mapped_column(Text)
    spent_nano_usd: Mapped[int] = mapped_column(BigInteger)
    intervals: Mapped[int] = mapped_column(Integer)
    errors: Mapped[int] = mapped_column(Integer)
    stop_reason: Mapped[str | None] = mapped_column(Text)
    stop_by: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    waiting_since: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    held_rule: Mapped[str] = mapped_column(Text)
    admitted: Mapped[bool]
    denied_until: Mapped[dict[str, str]] = mapped_column(JSONB)
    step_seconds: Mapped[float] = mapped_column(Float)
    submitted_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    traceparent: Mapped[str] = mapped_column(Text)


class AttemptRow(Base):
    __tablename__ = "attempts"

    job_id: Mapped[str] = mapped_column(ForeignKey("scheduler.jobs.job_id"), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    placement: Mapped[bytes] = mapped_column(LargeBinary)
    machine_id: Mapped[str] = mapped_column(Text, index=True)
    started_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    launched_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    metered_until: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    ended_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    end_reason: Mapped[str] = mapped_column(Text)
    first_step: Mapped[int | None] = mapped_column(Integer)
    last_step: Mapped[int] = mapped_column(Integer)
    drain_signalled: Mapped[bool]


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
    "drain_signalled",
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
    "stop_by",
    "waiting_since",
    "held_rule",
    "admitted",
    "step_seconds",
    "submitted_at",
    "traceparent",
    "due_at",
)


class Store:
    """Loads jobs locked, so that whoever decides on one decides alone."""

    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def job(self, job_id: str) -> Job | None:
        """The job with its newest attempt, locked until the transaction ends.

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

    async def job_on_machine(self, machine_id: str) -> Job | None:
        """The job whose newest attempt runs on this machine; asked again once the lock is held."""
        job_id = await self.session.scalar(
            select(AttemptRow.job_id).where(AttemptRow.machine_id == machine_id, AttemptRow.ended_at.is_(None)).limit(1)
        )
        job = await self.job(job_id) if job_id else None
        return (
            job if job and job.attempt and job.attempt.machine_id == machine_id and not job.attempt.ended_at else None
        )

    async def claimed_job(self, job_id: str, token: str | None) -> Job | None:
        """The job if the claim with this token still stands; None: the lease ran out, drop the result."""
        row = await self._locked(job_id)
        return await self._job(row) if row is not None and token and row.lease_token == token else None

    async def live_attempts(self) -> dict[str, tuple[str, int]]:
        """machine_id -> (job_id, attempt) of every attempt that has not ended."""
        rows = await self.session.execute(
            select(AttemptRow.machine_id, AttemptRow.job_id, AttemptRow.number).where(
                AttemptRow.ended_at.is_(None), AttemptRow.machine_id != ""
            )
        )
        return {machine_id: (job_id, number) for machine_id, job_id, number in rows}

    async def is_live(self, job_id: str, attempt: int) -> bool:
        """Whether this attempt may run: the newest of its job, and not ended."""
        job = await self.job(job_id)
        return job is not None and job.is_current(attempt)

    async def save(self, job: Job) -> None:
        """Write the job and its newest attempt. A lease stays as it is: claims end by their own statement."""
        values: dict[str, Any] = {name: getattr(job, name) for name in _JOB_FIELDS}
        values |= {
            "job_id": job.job_id,
            "tenant_id": job.tenant_id,
            "state": job.state.value,
            "spec": job.spec.SerializeToString(),
            "plan": job.plan.SerializeToString() if job.plan else None,
            "stop_reason": job.stop_reason.word if job.stop_reason else None,
            "denied_until": {offer: at.isoformat() for offer, at in job.denied_until.items()},
        }
        await self._upsert(JobRow, ["job_id"], values)
        if job.attempt is not None:
            values = {name: getattr(job.attempt, name) for name in _ATTEMPT_FIELDS}
            values |= {
                "job_id": job.job_id,
                "number": job.attempt.number,
                "placement": job.attempt.placement.SerializeToString(),
            }
            await self._upsert(AttemptRow, ["job_id", "number"], values)

    async def keep_early_answer(self, answer: events.PlanProposed | events.PlanRefused) -> None:
        """Keep an answer of the optimizer until its job is known."""
        column = "plan" if isinstance(answer, events.PlanProposed) else "refusal"
        values = {"job_id": answer.job_id, "plan": None, "refusal": None, column: answer.SerializeToString()}
        await self._upsert(EarlyAnswerRow, ["job_id"], values)

    async def early_answer(self, job_id: str) -> events.PlanProposed | events.PlanRefused | None:
        """What the optimizer said before the job was known."""
        row = await self.session.get(EarlyAnswerRow, job_id)
        if row is None:
            return None
        await self.session.delete(row)
        if row.plan is not None:
            return events.PlanProposed.FromString(row.plan)
        return events.PlanRefused.FromString(row.refusal or b"")

    async def _upsert(self, table: Any, keys: Iterable[str], values: dict[str, Any]) -> None:
        statement = upsert(table).values(**values)
        changed = {name: statement.excluded[name] for name in values if name not in set(keys)}
        await self.session.execute(statement.on_conflict_do_update(index_elements=list(keys), set_=changed))

    async def _job(self, row: JobRow | None) -> Job | None:
        if row is None:
            return None
        attempt = None
        if row.attempts:
            last = await self.session.get(AttemptRow, (row.job_id, row.attempts), populate_existing=True)
            if last is not None:
                attempt = Attempt(
                    number=last.number,
                    placement=events.Placement.FromString(last.placement),
                    **{name: getattr(last, name) for name in _ATTEMPT_FIELDS},
                )
        return Job(
            job_id=row.job_id,
            tenant_id=row.tenant_id,
            spec=events.JobSpec.FromString(row.spec),
            state=State(row.state),
            plan=events.PlanProposed.FromString(row.plan) if row.plan else None,
            attempt=attempt,
            stop_reason=EndReason.of(row.stop_reason) if row.stop_reason else None,
            denied_until={offer: datetime.fromisoformat(at) for offer, at in row.denied_until.items()},
            **{name: getattr(row, name) for name in _JOB_FIELDS},
        )
