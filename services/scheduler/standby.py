"""The successor: while a noticed attempt drains, the next one already loads on another machine. Pure.

Attempt n has its notice; attempt n+1 gets its number, a machine elsewhere, and `SSKAI_AWAITS`, so that it loads
libraries, model and data and then waits for n's last act, at most until n's machine is taken. Only then it raises its
fence: of the two, one may write at any time. When n has ended, n+1 is the current attempt
(`transitions.attempt_ended`). A successor that is denied or dies costs nothing but its own machine time: the job goes
the ordinary way.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from services.scheduler import money, retrying
from services.scheduler.domain import Attempt, EndReason, Job, State
from services.scheduler.transitions import avoid, on_machine, without_successor
from sskai.events import v1 as events

# With less time left the old machine is gone before another could have loaded anything.
LEAST_SECONDS = 5.0
# Launches tried for one drain: each denial costs a number and a call.
MAX_TRIES = 3
_FOR_THIS_DECISION_SECONDS = 3600.0


def is_wanted(job: Job, now: datetime) -> bool:
    """Whether a successor should be looked for now."""
    return (
        job.state is State.DRAINING
        and job.stop_reason is EndReason.SPOT_INTERRUPTED
        and job.successor is None
        and job.attempt is not None
        and bool(job.attempt.machine_id)
        and job.attempts - job.attempt.number < MAX_TRIES
        and job.stop_by is not None
        and (job.stop_by - now).total_seconds() >= LEAST_SECONDS
        and retrying.is_listed(job.spec, EndReason.SPOT_INTERRUPTED)
    )


def as_if_free(job: Job, now: datetime) -> Job:
    """The job as the policy should see it for this choice: queued, with nothing running, and without the offers that
    are being taken: the machine's own, and all spot of its zone where other zones are known."""
    assert job.attempt is not None
    taken = job.attempt.placement
    free = avoid(replace(job, state=State.QUEUED, attempt=None), taken, now, _FOR_THIS_DECISION_SECONDS)
    spot = [
        candidate.placement
        for candidate in (job.plan.candidates if job.plan else [])
        if candidate.placement.capacity_type == events.CAPACITY_TYPE_SPOT
    ]
    same_zone = [one for one in spot if (one.cloud, one.region, one.zone) == (taken.cloud, taken.region, taken.zone)]
    if len(same_zone) < len(spot):
        for placement in same_zone:
            free = avoid(free, placement, now, _FOR_THIS_DECISION_SECONDS)
    return free


def is_affordable(job: Job, candidate: events.Candidate, now: datetime, metering_seconds: float) -> bool:
    """Whether the budget bears both attempts through the drain."""
    return job.stop_by is not None and money.pays_for_both(job, candidate, job.stop_by, now, metering_seconds)


def reserved(job: Job, candidate: events.Candidate, now: datetime) -> Job:
    """The successor has its number before anything is launched, as every attempt."""
    number = job.attempts + 1
    attempt = Attempt(number, candidate.placement, started_at=now, planned=candidate)
    return replace(job, attempts=number, successor=attempt, due_at=now)


def launched(job: Job, machine_id: str, launched_at: datetime, now: datetime, *, members: Iterable[str] = ()) -> Job:
    """The successor's pod exists."""
    assert job.successor is not None
    return replace(
        job, successor=on_machine(job.successor, machine_id, members, launched_at, now), denials=0, due_at=job.stop_by
    )


def denied(job: Job, now: datetime, denial_seconds: float) -> Job:
    """The successor's offer had no machine: perhaps another one has, if there is time."""
    assert job.successor is not None
    job = avoid(job, job.successor.placement, now, retrying.denial_seconds(job, denial_seconds))
    return replace(without_successor(job, EndReason.NO_CAPACITY, now), denials=job.denials + 1, due_at=now)


def lost(job: Job, reason: EndReason, now: datetime) -> Job:
    """The successor is dead, or will be: the attempt that drains goes on draining."""
    return replace(without_successor(job, reason, now), due_at=now)


def heard(job: Job, now: datetime) -> Job:
    """The successor told that it lives."""
    assert job.successor is not None
    return replace(job, successor=replace(job.successor, heard_at=now))


def awaits(job: Job) -> str:
    """What `SSKAI_AWAITS` tells the successor: whose end it waits for, and until when at most."""
    assert job.attempt is not None
    assert job.stop_by is not None
    return json.dumps({"attempt": job.attempt.number, "until": job.stop_by.isoformat()})
