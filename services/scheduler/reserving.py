"""Money that a job reserves before it spends it, where a budget of its tenant or project stops what passes it. Pure.

The monitor keeps those accounts, of which this job's spend is a part. Before a launch the job asks to have spent in all
what its plan expects; while it runs it asks for more in time. It spends no more than it was granted: one metering
interval and a drain before the limit it saves and stops, as it does before its own budget (`money.py`).
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from google.protobuf.message import Message

from services.scheduler import money
from services.scheduler.domain import Job, State
from sskai.cluster.metering import interval_nano_usd
from sskai.events import v1 as events

RULE = "reserve"
# An answer takes a second; a broker that is away for a minute stops nobody.
ANSWER_SECONDS = 60.0
# What a running job asks for at once, so that it asks seldom and does not keep much from others.
STRETCH_SECONDS = 600.0


def free(job: Job) -> Job:
    """Under no such budget: nothing limits it but its own."""
    if job.limit_nano_usd is None and not job.asking:
        return job
    return replace(job, limit_nano_usd=None, asking=False, ask_detail="")


def ask_to_launch(
    job: Job, metering_seconds: float, now: datetime, candidate: events.Candidate | None = None
) -> tuple[Job, list[Message]] | None:
    """None: enough is reserved to launch on the candidate, or on the plan's best. Else the job that waits for it, and
    the request if it was not told yet."""
    best = candidate or (job.plan.candidates[0] if job.plan and job.plan.candidates else events.Candidate())
    first = _first_stretch(_price(best), metering_seconds)
    if job.limit_nano_usd is not None and job.limit_nano_usd >= job.spent_nano_usd + first:
        return None
    expected = max(money.committed_nano_usd(job) + first, job.spent_nano_usd + 2 * first)
    # A job that has run already needs no more than its next stretch to be worth going on with.
    minimum = expected if job.limit_nano_usd is None else job.spent_nano_usd + first
    return _ask(job, minimum, expected, now)


def ask_while_running(job: Job, metering_seconds: float, now: datetime) -> tuple[Job, list[Message]]:
    """Ask for more before what is reserved is spent."""
    if job.attempt is None:
        return job, []
    price = money.price_usd_per_hour(job.attempt)
    first = _first_stretch(price, metering_seconds)
    limit = job.limit_nano_usd
    if limit is None:  # the budget was set while it ran
        return _ask(
            job, job.spent_nano_usd + first, max(money.committed_nano_usd(job), job.spent_nano_usd) + first, now
        )
    if limit - job.spent_nano_usd > first + interval_nano_usd(price, 2 * metering_seconds):
        return job, []
    stretch = interval_nano_usd(price, STRETCH_SECONDS)
    return _ask(job, limit + interval_nano_usd(price, ANSWER_SECONDS), limit + stretch, now)


def reserved(job: Job, event: events.SpendReserved, now: datetime) -> Job:
    """It may have spent so much in all."""
    limit = max(event.limit_nano_usd, job.limit_nano_usd or 0)
    if event.number != job.ask_number:
        return replace(job, limit_nano_usd=limit)
    job = replace(job, limit_nano_usd=limit, asking=False, ask_detail="")
    return replace(job, due_at=now) if job.state is State.QUEUED else job


def declined(job: Job, event: events.SpendReserveDeclined, now: datetime) -> Job:
    """A budget has not so much left. Its request stays open: a running job stops in time, a waiting one waits on."""
    if event.number != job.ask_number or not job.asking:
        return job
    limit = max(event.limit_nano_usd, job.limit_nano_usd or 0) if job.state.has_attempt else job.limit_nano_usd
    job = replace(job, limit_nano_usd=limit, ask_detail=event.detail)
    return replace(job, due_at=now) if job.state is State.QUEUED else job


def _ask(job: Job, minimum: int, wanted: int, now: datetime) -> tuple[Job, list[Message]]:
    if job.asking:
        return job, []
    if (budget := job.budget_nano_usd) is not None:
        minimum, wanted = min(minimum, budget), min(wanted, budget)  # its own budget is as hard
    if wanted <= (job.limit_nano_usd or 0):
        return job, []
    job = replace(job, ask_number=job.ask_number + 1, asking=True, ask_detail="")
    request = events.SpendReserveRequested(
        job_id=job.job_id,
        tenant_id=job.tenant_id,
        number=job.ask_number,
        project=job.spec.project,
        spent_nano_usd=job.spent_nano_usd,
        minimum_nano_usd=minimum,
        wanted_nano_usd=wanted,
        requested_at=now,
    )
    return job, [request]


def _first_stretch(price_usd_per_hour: float, metering_seconds: float) -> int:
    """What may be spent until an answer has come, and the drain after it."""
    return interval_nano_usd(price_usd_per_hour, 2 * metering_seconds + money.DRAIN_SECONDS + ANSWER_SECONDS)


def _price(candidate: events.Candidate) -> float:
    return candidate.placement.price_usd_per_hour * max(1, candidate.machine_count)
