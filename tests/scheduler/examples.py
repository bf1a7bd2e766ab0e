"""Jobs and plans for the scheduler's tests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from services.scheduler import transitions
from services.scheduler.domain import Job
from sskai.contract import timestamp
from sskai.events import v1 as events

# Ahead of the clock of the database: what is due there is what a stage makes due.
START = datetime(2126, 11, 24, 12, 0, tzinfo=UTC)


def placement(*, spot: bool = True, zone: str = "use1-az1", price: float = 0.36) -> events.Placement:
    return events.Placement(
        cloud="aws",
        region="us-east-1",
        zone=zone,
        instance_type="g5.xlarge",
        capacity_type=events.CAPACITY_TYPE_SPOT if spot else events.CAPACITY_TYPE_ON_DEMAND,
        price_usd_per_hour=price,
        on_demand_price_usd_per_hour=1.08,
        vcpus=4,
        memory_gib=16,
    )


def submitted(
    job_id: str = "job_1", *, budget_usd: float | None = None, deadline_hours: float | None = None
) -> events.JobSubmitted:
    spec = events.JobSpec(kind="finetune", name="bot", model=events.ModelRef(model_id="tiny", method="lora"))
    if budget_usd is not None:
        spec.budget_usd = budget_usd
    if deadline_hours is not None:
        spec.deadline.FromDatetime(START + timedelta(hours=deadline_hours))
    return events.JobSubmitted(job_id=job_id, tenant_id="tenant_a", spec=spec, submitted_at=START)


def candidate(
    where: events.Placement, *, hours: float = 1.05, step_seconds: float = 36.0, machines: int = 1, gib: int = 24
) -> events.Candidate:
    """An hour of work there; `gib` of memory are usable."""
    return events.Candidate(
        placement=where,
        step_seconds=events.Estimate(expected=step_seconds),
        hours=events.Estimate(expected=hours),
        total_usd=events.Estimate(expected=hours * where.price_usd_per_hour * machines),
        micro_batch_size=4,
        machine_count=machines,
        usable_bytes=gib * 2**30,
    )


def proposed(
    job_id: str = "job_1",
    *,
    after_attempt: int = 0,
    total_steps: int = 100,
    step_seconds: float = 36.0,
    at: datetime | None = None,
) -> events.PlanProposed:
    """An hour of work on two spot zones and on demand. Without a time `at` it is nobody's fresh plan."""
    hours = total_steps * step_seconds / 3600 + 0.05
    return events.PlanProposed(
        job_id=job_id,
        tenant_id="tenant_a",
        plan_id=f"plan_{after_attempt}",
        after_attempt=after_attempt,
        profile=events.WorkProfile(total_steps=total_steps, batch_size=8, sequence_length=128),
        candidates=[
            candidate(where, hours=hours, step_seconds=step_seconds)
            for where in (
                placement(),
                placement(zone="use1-az2", price=0.40),
                placement(spot=False, zone="*", price=1.08),
            )
        ],
        checkpoint_interval_steps=10,
        proposed_at=timestamp(at) if at is not None else None,
    )


def progressed(attempt: int, step: int, job_id: str = "job_1") -> events.AttemptProgressed:
    return events.AttemptProgressed(
        job_id=job_id, tenant_id="tenant_a", attempt=attempt, phase="training", step=step, total_steps=100
    )


def running_job(where: events.Placement | None = None, *, machines: int = 1, at: datetime = START) -> Job:
    """Its first attempt runs on machine m-1 since `at`, by a plan that is fresh then."""
    job = transitions.planned(transitions.submitted(submitted(), at, ""), proposed(at=at), at)
    job = transitions.begin_attempt(job, candidate(where or placement(), machines=machines), at)
    return transitions.launched(job, "m-1", at, at, 5)
