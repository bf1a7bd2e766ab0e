"""What the optimizer remembers: jobs, planning requests, plans with their inputs, prices, denials, measured steps."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    Boolean,
    DateTime,
    Double,
    Integer,
    LargeBinary,
    Text,
    UniqueConstraint,
    delete,
    func,
    select,
    union_all,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from services.optimizer.prices import Observed
from services.optimizer.throughput import Measured
from services.optimizer.values import History
from sskai import telemetry
from sskai.claims import Claimable
from sskai.contract import new_id
from sskai.database import service_metadata
from sskai.events import v1 as events

# Older measurements say little: drivers, libraries and machine generations move on.
MEASURED_DAYS = 90


class Base(DeclarativeBase):
    metadata = service_metadata("optimizer")
    type_annotation_map = {datetime: DateTime(timezone=True), str: Text, float: Double, bytes: LargeBinary}  # noqa: RUF012


class JobRow(Base):
    """A job that may have to be planned again."""

    __tablename__ = "jobs"
    job_id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    spec: Mapped[bytes]
    after_attempt: Mapped[int] = mapped_column(Integer)
    steps_done: Mapped[int] = mapped_column(Integer)
    spent_usd: Mapped[float]
    ended: Mapped[bool] = mapped_column(Boolean)
    updated_at: Mapped[datetime]


class PlanningRow(Claimable, Base):
    """A decision that is asked for. One per job and cause, so that nothing is planned twice."""

    __tablename__ = "planning_requests"
    __table_args__ = (UniqueConstraint("job_id", "cause"),)
    request_id: Mapped[str] = mapped_column(primary_key=True)
    job_id: Mapped[str]
    tenant_id: Mapped[str]
    cause: Mapped[str]
    preview: Mapped[bool] = mapped_column(Boolean)
    after_attempt: Mapped[int] = mapped_column(Integer)
    spec: Mapped[bytes]
    steps_done: Mapped[int] = mapped_column(Integer)
    spent_usd: Mapped[float]
    tries: Mapped[int] = mapped_column(Integer)
    traceparent: Mapped[str | None]
    requested_at: Mapped[datetime]


class PlanRow(Base):
    """A decision with every input: `domain.plan(**snapshot.thaw(inputs, market))` decides it again."""

    __tablename__ = "plans"
    plan_id: Mapped[str] = mapped_column(primary_key=True)
    job_id: Mapped[str] = mapped_column(index=True)
    tenant_id: Mapped[str]
    preview: Mapped[bool] = mapped_column(Boolean)
    after_attempt: Mapped[int] = mapped_column(Integer)
    micro_batch_size: Mapped[int] = mapped_column(Integer)  # of the choice; 0: refused
    method: Mapped[str]
    # {instance type: [hardware, uncorrected seconds]} of the candidates, to compare measurements with
    roofline_step_seconds: Mapped[dict[str, Any]] = mapped_column(JSONB)
    inputs: Mapped[str | None]  # none where the model could not even be profiled
    market_sha256: Mapped[str | None]
    snapshot_sha256: Mapped[str | None]
    event: Mapped[bytes]
    decided_at: Mapped[datetime] = mapped_column(index=True)


class EndpointRequestRow(Claimable, Base):
    """A plan of an endpoint that is asked for, once per plan."""

    __tablename__ = "endpoint_requests"
    plan_id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    spec: Mapped[bytes]
    tries: Mapped[int] = mapped_column(Integer)
    traceparent: Mapped[str | None]
    requested_at: Mapped[datetime]


class EndpointPlanRow(Base):
    """A decision with every input: `serving.plan_endpoint(**serving_snapshot.thaw(...))` decides it again."""

    __tablename__ = "endpoint_plans"
    plan_id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    inputs: Mapped[str | None]  # none where the model could not even be profiled
    market_sha256: Mapped[str | None]
    snapshot_sha256: Mapped[str | None]
    event: Mapped[bytes]
    decided_at: Mapped[datetime] = mapped_column(index=True)


class MarketRow(Base):
    """Machines and offers of one moment, shared by the plans that were made on it."""

    __tablename__ = "markets"
    sha256: Mapped[str] = mapped_column(primary_key=True)
    text: Mapped[str]
    seen_at: Mapped[datetime]


class ProfileRow(Base):
    """What a model was found to ask for, by the hash of the question."""

    __tablename__ = "profiles"
    key: Mapped[str] = mapped_column(primary_key=True)
    answer: Mapped[dict[str, Any]] = mapped_column(JSONB)
    used_at: Mapped[datetime] = mapped_column(index=True)


class PriceRow(Base):
    __tablename__ = "prices"
    offer: Mapped[str] = mapped_column(primary_key=True)
    price_usd_per_hour: Mapped[float]
    source: Mapped[str]
    observed_at: Mapped[datetime]


class DenialRow(Base):
    """An offer that had no machine to give."""

    __tablename__ = "denials"
    offer: Mapped[str] = mapped_column(primary_key=True)
    denied_at: Mapped[datetime]


class MeasurementRow(Base):
    """The step time of one attempt beside what the roofline said."""

    __tablename__ = "measurements"
    job_id: Mapped[str] = mapped_column(primary_key=True)
    attempt: Mapped[int] = mapped_column(Integer, primary_key=True)
    tenant_id: Mapped[str]
    instance_type: Mapped[str]
    hardware: Mapped[str]
    method: Mapped[str]
    roofline_step_seconds: Mapped[float]
    step_seconds: Mapped[float | None]
    started_at: Mapped[datetime] = mapped_column(index=True)


# Whose rows rest on a market.
DECIDED = (PlanRow, EndpointPlanRow)


class Store:
    """Loads and saves within one transaction."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def job(self, tenant_id: str, job_id: str) -> JobRow | None:
        """The tenant's job, locked, so that two events about it take turns."""
        statement = select(JobRow).where(JobRow.job_id == job_id, JobRow.tenant_id == tenant_id).with_for_update()
        return (await self._session.scalars(statement)).one_or_none()

    async def job_by_id(self, job_id: str) -> JobRow | None:
        """For facts of the platform, which name no tenant."""
        return await self._session.get(JobRow, job_id, with_for_update=True)

    async def add_job(self, job_id: str, tenant_id: str, spec: events.JobSpec, now: datetime) -> JobRow:
        row = JobRow(
            job_id=job_id,
            tenant_id=tenant_id,
            spec=spec.SerializeToString(deterministic=True),
            after_attempt=0,
            steps_done=0,
            spent_usd=0.0,
            ended=False,
            updated_at=now,
        )
        self._session.add(row)
        return row

    async def ask_for_plan(self, job: JobRow, cause: str, now: datetime) -> None:
        """Have the job planned as it stands now. One and the same cause asks once."""
        await self._ask(
            now,
            job_id=job.job_id,
            tenant_id=job.tenant_id,
            cause=cause,
            preview=False,
            after_attempt=job.after_attempt,
            spec=job.spec,
            steps_done=job.steps_done,
            spent_usd=job.spent_usd,
        )

    async def ask_for_preview(self, job_id: str, tenant_id: str, spec: events.JobSpec, now: datetime) -> None:
        """Have a plan made that nothing will be launched for."""
        await self._ask(
            now,
            job_id=job_id,
            tenant_id=tenant_id,
            cause="preview",
            preview=True,
            after_attempt=0,
            spec=spec.SerializeToString(deterministic=True),
            steps_done=0,
            spent_usd=0.0,
        )

    async def ask_for_endpoint_plan(
        self, plan_id: str, tenant_id: str, spec: events.EndpointSpec, now: datetime
    ) -> None:
        """Have an endpoint planned. A plan is asked for once."""
        statement = upsert(EndpointRequestRow).values(
            plan_id=plan_id,
            tenant_id=tenant_id,
            spec=spec.SerializeToString(deterministic=True),
            tries=0,
            traceparent=telemetry.current_traceparent(),
            requested_at=now,
        )
        await self._session.execute(statement.on_conflict_do_nothing())

    async def is_being_planned(self, job: JobRow) -> bool:
        """Whether a plan is on its way that will see everything known by now.

        Its request is locked: nobody begins the plan before this transaction, and what it knows, is committed.
        """
        waiting = (PlanningRow.due_at.is_not(None), PlanningRow.lease_until.is_(None))
        statement = select(PlanningRow.request_id).where(
            PlanningRow.job_id == job.job_id, PlanningRow.tenant_id == job.tenant_id, *waiting
        )
        return (await self._session.scalars(statement.with_for_update())).first() is not None

    async def forget_requests(self, job: JobRow) -> None:
        """An ended job needs no plan."""
        await self._session.execute(
            delete(PlanningRow).where(PlanningRow.job_id == job.job_id, PlanningRow.tenant_id == job.tenant_id)
        )

    async def newest_plan(self, tenant_id: str, job_id: str) -> PlanRow | None:
        """The newest that names a placement."""
        statement = (
            select(PlanRow)
            .where(PlanRow.job_id == job_id, PlanRow.tenant_id == tenant_id, PlanRow.micro_batch_size > 0)
            .order_by(PlanRow.decided_at.desc(), PlanRow.plan_id.desc())
            .limit(1)
        )
        return (await self._session.scalars(statement)).first()

    async def history(self, request: PlanningRow, denied_since: datetime, now: datetime) -> History:
        """What the decision has to know beside the request itself."""
        first = (
            select(PlanRow.micro_batch_size)
            .where(PlanRow.job_id == request.job_id, PlanRow.tenant_id == request.tenant_id)
            .where(PlanRow.micro_batch_size > 0, PlanRow.preview.is_(False))
            .order_by(PlanRow.decided_at, PlanRow.plan_id)
            .limit(1)
        )
        denied = select(DenialRow.offer).where(DenialRow.denied_at > denied_since).order_by(DenialRow.offer)
        return History(
            steps_done=request.steps_done,
            spent_usd=request.spent_usd,
            # Before the first attempt nothing ran that a resumed run would have to be equal to.
            micro_batch_size=(await self._session.scalar(first) or 0) if request.after_attempt else 0,
            denied=tuple((await self._session.scalars(denied)).all()),
            measured=await self._measured(now),
        )

    async def _measured(self, now: datetime) -> tuple[Measured, ...]:
        row = MeasurementRow
        keys = (row.instance_type, row.hardware, row.method)
        statement = (
            select(*keys, func.count(), func.avg(func.ln(row.step_seconds / row.roofline_step_seconds)))
            .where(row.step_seconds > 0, row.started_at > now - timedelta(days=MEASURED_DAYS))
            .group_by(*keys)
            .order_by(*keys)
        )
        return tuple(Measured(*values) for values in await self._session.execute(statement))

    async def observed_prices(self) -> dict[str, Observed]:
        rows = await self._session.scalars(select(PriceRow))
        return {row.offer: Observed(row.price_usd_per_hour, row.observed_at, row.source) for row in rows}

    async def observed_price(self, offer: str) -> Observed | None:
        row = await self._session.get(PriceRow, offer, with_for_update=True)
        return None if row is None else Observed(row.price_usd_per_hour, row.observed_at, row.source)

    async def save_price(self, offer: str, observed: Observed) -> None:
        """Of two first prices of an offer that come at the same time, the newer one stands."""
        values = asdict(observed)
        statement = upsert(PriceRow).values(offer=offer, **values)
        await self._session.execute(
            statement.on_conflict_do_update(
                index_elements=["offer"],
                set_={name: statement.excluded[name] for name in values},
                where=PriceRow.observed_at < statement.excluded.observed_at,
            )
        )

    async def save_denial(self, offer: str, denied_at: datetime) -> None:
        statement = upsert(DenialRow).values(offer=offer, denied_at=denied_at)
        newest = func.greatest(DenialRow.denied_at, statement.excluded.denied_at)
        await self._session.execute(
            statement.on_conflict_do_update(index_elements=["offer"], set_={"denied_at": newest})
        )

    async def begin_measurement(self, row: MeasurementRow) -> None:
        await self._session.merge(row)

    async def measure(self, tenant_id: str, job_id: str, attempt: int, step_seconds: float) -> None:
        """The newest word on an attempt's step time; an attempt that nobody began is not measured."""
        row = MeasurementRow
        await self._session.execute(
            update(row)
            .where(row.job_id == job_id, row.attempt == attempt, row.tenant_id == tenant_id)
            .values(step_seconds=step_seconds)
        )

    async def remembered_profile(self, key: str, now: datetime) -> dict[str, Any] | None:
        statement = update(ProfileRow).where(ProfileRow.key == key).values(used_at=now).returning(ProfileRow.answer)
        answer: dict[str, Any] | None = await self._session.scalar(statement)
        return answer

    async def remember_profile(self, key: str, answer: dict[str, Any], now: datetime) -> None:
        statement = upsert(ProfileRow).values(key=key, answer=answer, used_at=now)
        await self._session.execute(statement.on_conflict_do_nothing())

    async def save_plan(self, row: PlanRow | EndpointPlanRow, market_text: str) -> None:
        """The decision, and the market it was made on unless that is known."""
        if row.market_sha256 is not None:
            market = upsert(MarketRow).values(sha256=row.market_sha256, text=market_text, seen_at=row.decided_at)
            await self._session.execute(
                market.on_conflict_do_update(index_elements=["sha256"], set_={"seen_at": row.decided_at})
            )
        self._session.add(row)

    async def forget_before(self, moment: datetime) -> None:
        """Drop what is past its retention, at most some thousands of rows at a time."""
        old_plans = select(PlanRow.plan_id).where(PlanRow.decided_at < moment).limit(5000)
        await self._session.execute(delete(PlanRow).where(PlanRow.plan_id.in_(old_plans)))
        old_endpoints = select(EndpointPlanRow.plan_id).where(EndpointPlanRow.decided_at < moment).limit(5000)
        await self._session.execute(delete(EndpointPlanRow).where(EndpointPlanRow.plan_id.in_(old_endpoints)))
        kept = union_all(*(select(row.market_sha256).where(row.market_sha256.is_not(None)) for row in DECIDED))
        await self._session.execute(delete(MarketRow).where(MarketRow.seen_at < moment, MarketRow.sha256.not_in(kept)))
        await self._session.execute(delete(ProfileRow).where(ProfileRow.used_at < moment))
        await self._session.execute(delete(MeasurementRow).where(MeasurementRow.started_at < moment))
        await self._session.execute(
            delete(PlanningRow).where(PlanningRow.requested_at < moment, PlanningRow.due_at.is_(None))
        )
        row = EndpointRequestRow
        await self._session.execute(delete(row).where(row.requested_at < moment, row.due_at.is_(None)))
        await self._session.execute(delete(JobRow).where(JobRow.updated_at < moment, JobRow.ended))

    async def _ask(self, now: datetime, **columns: Any) -> None:
        statement = upsert(PlanningRow).values(
            request_id=new_id("req"),
            tries=0,
            traceparent=telemetry.current_traceparent(),
            requested_at=now,
            **columns,
        )
        await self._session.execute(statement.on_conflict_do_nothing())
