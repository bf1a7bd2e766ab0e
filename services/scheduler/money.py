"""What a job's machines cost: intervals in whole nano-USD, and what has to be kept back. Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from services.scheduler.domain import SECONDS_PER_HOUR, Attempt, Job, money_left_nano_usd
from sskai.cluster.metering import interval_nano_usd
from sskai.events import v1 as events
from sskai.money import NANO_PER_USD

# SIGTERM to SIGKILL where no notice sets the limit: cancelling, budget stops, moves to on-demand. A save takes seconds.
DRAIN_SECONDS = 60.0


def price_usd_per_hour(attempt: Attempt) -> float:
    """Of all its machines together that are left."""
    return attempt.placement.price_usd_per_hour * _left(attempt)


def _left(attempt: Attempt) -> int:
    return max(1, attempt.machines - attempt.lost)


def meter(job: Job, until: datetime) -> tuple[Job, list[events.SpendRecorded]]:
    """The ledger rows from the last metered moment to `until`, of the current attempt and of one that stands by.

    Nothing for an attempt that was not launched, that has ended, or for which no time passed.
    """
    rows: list[events.SpendRecorded] = []
    for name in ("attempt", "successor"):
        attempt: Attempt | None = getattr(job, name)
        if attempt is None or attempt.ended_at or attempt.metered_until is None or until <= attempt.metered_until:
            continue
        row = _row(job, attempt, attempt.metered_until, until)
        rows.append(row)
        job = replace(
            job,
            intervals=row.interval,
            spent_nano_usd=job.spent_nano_usd + row.amount_nano_usd,
            **{name: replace(attempt, metered_until=until)},  # type: ignore[arg-type]
        )
    return job, rows


def _row(job: Job, attempt: Attempt, since: datetime, until: datetime) -> events.SpendRecorded:
    seconds = (until - since).total_seconds()
    price = price_usd_per_hour(attempt)
    return events.SpendRecorded(
        job_id=job.job_id,
        tenant_id=job.tenant_id,
        interval=job.intervals + 1,
        attempt=attempt.number,
        machine_id=attempt.machine_id,
        placement=attempt.placement,
        started_at=since,
        ended_at=until,
        price_usd_per_hour=price,
        amount_nano_usd=interval_nano_usd(price, seconds),
        on_demand_nano_usd=interval_nano_usd(attempt.placement.on_demand_price_usd_per_hour * _left(attempt), seconds),
        machines=_left(attempt),
    )


def must_stop_for_budget(job: Job, metering_seconds: float) -> bool:
    """Whether going on for one more metering interval could leave too little for the last checkpoint and the export."""
    left = money_left_nano_usd(job)
    if left is None or job.attempt is None:
        return False
    return left <= interval_nano_usd(price_usd_per_hour(job.attempt), metering_seconds + DRAIN_SECONDS)


def pays_for_both(job: Job, candidate: events.Candidate, stop_by: datetime, now: datetime, metering: float) -> bool:
    """Whether the budget bears the draining attempt to its end and beside it a successor on this candidate, which then
    must still be able to run one metering interval (seconds) and to drain."""
    left = money_left_nano_usd(job)
    if left is None or job.attempt is None:
        return True
    drain_seconds = max(0.0, (stop_by - (job.attempt.metered_until or now)).total_seconds())
    successor_price = candidate.placement.price_usd_per_hour * max(1, candidate.machine_count)
    needed = interval_nano_usd(price_usd_per_hour(job.attempt), drain_seconds + metering) + interval_nano_usd(
        successor_price, max(0.0, (stop_by - now).total_seconds()) + 2 * metering + DRAIN_SECONDS
    )
    return left > needed


def stop_within_budget(job: Job, now: datetime) -> Job:
    """The job with a drain that ends before the money does: a notice may leave more time than the budget."""
    left = money_left_nano_usd(job)
    if left is None or job.attempt is None or job.stop_by is None or job.attempt.metered_until is None:
        return job
    price = sum(price_usd_per_hour(attempt) for attempt in job.live_attempts()) or 1e-9
    paid_until = job.attempt.metered_until + timedelta(seconds=left / NANO_PER_USD / price * SECONDS_PER_HOUR)
    if paid_until >= job.stop_by:
        return job
    stop_by = max(now, paid_until)
    return replace(job, stop_by=stop_by, due_at=stop_by)


def committed_nano_usd(job: Job) -> int:
    """What the job will have cost in the end, as its newest plan expects of its cheapest way."""
    cheapest = min((one.total_usd.expected for one in job.plan.candidates), default=0.0) if job.plan else 0.0
    return job.spent_nano_usd + round(share_left(job) * cheapest * NANO_PER_USD)


def share_left(job: Job) -> float:
    """Of the work of its newest plan, by what it has saved."""
    profile = job.plan.profile if job.plan else events.WorkProfile()
    planned_steps = profile.steps_left or profile.total_steps
    return min(1.0, max(0, profile.total_steps - job.steps_saved) / planned_steps) if planned_steps else 1.0
