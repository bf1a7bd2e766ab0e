"""What the queue knows of a job, from the job and from its rows. Values in, values out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from services.scheduler import money
from services.scheduler.admission import Holder, Limits, Priority, Size, Waiting
from services.scheduler.domain import Job
from services.scheduler.places import UNKNOWN, Span
from services.scheduler.queue_store import QueueRow
from services.scheduler.settings import Settings
from services.scheduler.waiting import MARKET_RULES
from sskai.cluster import offer_of
from sskai.events import v1 as events
from sskai.money import NANO_PER_USD

PRIORITIES = {events.PRIORITY_LOW: Priority.LOW, events.PRIORITY_HIGH: Priority.HIGH}
# Where a plan gives no interval: half as long to twice as long (an assumption; the calibration mends it).
USUAL_RATIOS = (0.5, 2.0)


def limits_of(settings: Settings) -> Limits:
    return Limits(
        jobs_per_tenant=settings.max_running_jobs_per_tenant,
        machines_per_tenant=settings.max_machines_per_tenant,
        machines=settings.max_machines,
        seconds_per_class=settings.priority_ageing_seconds,
        usd_per_month_and_tenant=settings.tenant_budget_usd_per_month,
        weights=settings.tenant_weights,
    )


def priority_of(job: Job) -> Priority:
    return PRIORITIES.get(job.spec.priority, Priority.NORMAL)


def kind_of(job: Job, rule: str) -> str:
    """What the job waits for, as past waits are kept: the market's by the best offer of the plan."""
    if rule not in MARKET_RULES or job.plan is None or not job.plan.candidates:
        return ""
    spot = [one.placement for one in job.plan.candidates if one.placement.capacity_type == events.CAPACITY_TYPE_SPOT]
    return offer_of(spot[0] if spot else job.plan.candidates[0].placement)


def spot_zones(job: Job) -> list[str]:
    """The zones whose spot machines the plan would take, best first; a few."""
    candidates = job.plan.candidates if job.plan else []
    spot = (one.placement for one in candidates if one.placement.capacity_type == events.CAPACITY_TYPE_SPOT)
    return list(dict.fromkeys(where.zone for where in spot if where.zone != "*"))[:3]


def month_of(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m}"


def next_month(at: datetime) -> datetime:
    first = at.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return (first + timedelta(days=32)).replace(day=1)


def measure(row: QueueRow, job: Job) -> None:
    """What the job takes, for how long and for how much, by its newest plan and what it has saved since."""
    best = job.plan.candidates[0] if job.plan and job.plan.candidates else events.Candidate()
    machines = max(1, best.machine_count)
    row.machines = machines
    row.accelerators = machines * best.placement.accelerator_count
    row.vcpus = machines * best.placement.vcpus
    hours, share = best.hours, money.share_left(job)
    row.total_steps = job.plan.profile.total_steps if job.plan else 0
    row.seconds_expected = 3600 * share * hours.expected
    row.seconds_low = 3600 * share * (hours.low or USUAL_RATIOS[0] * hours.expected)
    row.seconds_high = 3600 * share * (hours.high or USUAL_RATIOS[1] * hours.expected)
    row.committed_nano_usd = money.committed_nano_usd(job)
    row.budget_nano_usd = job.budget_nano_usd


def waiting_of(row: Any) -> Waiting:
    left = None if row.budget_nano_usd is None else (row.budget_nano_usd - row.spent_nano_usd) / NANO_PER_USD
    return Waiting(
        row.job_id,
        row.tenant_id,
        Priority(row.priority),
        row.submitted_at,
        Size(row.machines, row.accelerators, row.vcpus),
        _span(row),
        max(0, row.committed_nano_usd - row.spent_nano_usd) / NANO_PER_USD,
        left,
    )


def holder_of(row: Any, now: datetime) -> Holder:
    if row.job_id is None:
        return Holder(row.holder_id, row.holder_tenant_id)
    size = Size(row.machines, row.accelerators, row.vcpus)
    reserved = max(0, row.committed_nano_usd - row.spent_nano_usd) / NANO_PER_USD
    return Holder(row.holder_id, row.holder_tenant_id, size, _seconds_left(row, now), reserved)


def _span(row: Any) -> Span:
    if not row.seconds_expected:
        return UNKNOWN
    return Span(row.seconds_low, row.seconds_expected, row.seconds_high)


def _seconds_left(row: Any, now: datetime) -> Span:
    """By the steps that it told, or where it told none, by its plan; a plan that is over leaves a twentieth of it."""
    planned = _span(row)
    if not row.seconds_expected or row.placed_at is None:
        return planned
    if row.steps_told and row.step_seconds and row.total_steps and row.progress_at is not None:
        since = (now - row.progress_at).total_seconds()
        expected = max(1.0, (row.total_steps - row.steps_told) * row.step_seconds - since)
    else:
        expected = max(planned.expected / 20, planned.expected - (now - row.placed_at).total_seconds())
    ratio = expected / planned.expected
    return Span(planned.low * ratio, expected, planned.high * ratio)
