"""Jobs and plans for the scheduler's tests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

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


def proposed(
    job_id: str = "job_1", *, after_attempt: int = 0, total_steps: int = 100, step_seconds: float = 36.0
) -> events.PlanProposed:
    """An hour of work on two spot zones and on demand."""
    hours = total_steps * step_seconds / 3600 + 0.05

    def candidate(where: events.Placement) -> events.Candidate:
        return events.Candidate(
            placement=where,
            step_seconds=events.Estimate(expected=step_seconds),
            hours=events.Estimate(expected=hours),
            total_usd=events.Estimate(expected=hours * where.price_usd_per_hour),
            micro_batch_size=4,
        )

    return events.PlanProposed(
        job_id=job_id,
        tenant_id="tenant_a",
        plan_id=f"plan_{after_attempt}",
        after_attempt=after_attempt,
        profile=events.WorkProfile(total_steps=total_steps, batch_size=8, sequence_length=128),
        candidates=[
            candidate(placement()),
            candidate(placement(zone="use1-az2", price=0.40)),
            candidate(placement(spot=False, zone="*", price=1.08)),
        ],
        checkpoint_interval_steps=10,
    )


def progressed(attempt: int, step: int, job_id: str = "job_1") -> events.AttemptProgressed:
    return events.AttemptProgressed(
        job_id=job_id, tenant_id="tenant_a", attempt=attempt, phase="training", step=step, total_steps=100
    )
