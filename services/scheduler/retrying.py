"""How long a job waits after each kind of misfortune, how often it is tried again, and when that is given up. Pure.

Waits double, with a spread that is drawn from the job's id and the attempt's number: jobs that fail together do not
come back together, and the same history gives the same decision. A newer checkpoint forgets all of it: a job that gets
on may be interrupted as often as the market likes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

from services.scheduler.domain import EndReason, Job
from sskai.events import v1 as events

# Recoveries an hour that got no step further; a job in a loop must not burn money at the speed of the loop.
MAX_FRUITLESS_RECOVERIES_PER_HOUR = 3
HOUR = timedelta(hours=1)
JITTER = 0.2  # of the wait, up or down
# Restarts after errors of the job itself, where the job file does not say.
DEFAULT_MAX_ERRORS = 3


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits of `first_seconds`, twice that, ... up to `most_seconds`. `free` tries wait for nothing."""

    first_seconds: float
    most_seconds: float
    free: int = 0

    def seconds(self, tries: int, draw: float) -> float:
        """The wait after the try with this number (1: the first that failed); `draw` in [0, 1)."""
        number = tries - self.free
        if number <= 0:
            return 0.0
        wait = min(self.most_seconds, self.first_seconds * 2.0 ** min(number - 1, 32))
        return wait * (1 - JITTER + 2 * JITTER * draw)


BACKOFF: Mapping[EndReason, Backoff] = MappingProxyType(
    {
        # An offer without a machine is left alone; the job takes an alternate at once. `first_seconds` is a setting.
        EndReason.NO_CAPACITY: Backoff(60, 600),
        # The market took the machine: that says nothing about the job, so the first return is immediate.
        EndReason.SPOT_INTERRUPTED: Backoff(5, 300, free=1),
        EndReason.MACHINE_LOST: Backoff(5, 300, free=1),
        EndReason.DEADLINE_AT_RISK: Backoff(0, 0),
        EndReason.CHEAPER_ELSEWHERE: Backoff(0, 0),
        EndReason.ERROR: Backoff(5, 300),
        EndReason.HUNG: Backoff(10, 300),
        EndReason.NEVER_STARTED: Backoff(30, 600),
        # On a larger machine, and only once. What a cluster refuses (a user's error) is never launched again.
        EndReason.OUT_OF_MEMORY: Backoff(0, 0),
    }
)


def draw(job_id: str, attempt: int) -> float:
    """A number in [0, 1) that depends on nothing else."""
    digest = hashlib.sha256(f"{job_id}/{attempt}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def is_listed(spec: events.JobSpec, reason: EndReason) -> bool:
    """Whether the job file's `retry.on_events` has the job go on after this; an absent list names every event."""
    return not spec.retry.on_events or not reason.on_event or reason.on_event in spec.retry.on_events


def max_errors(spec: events.JobSpec) -> int:
    """Restarts allowed after errors of the job itself."""
    return spec.retry.max_restarts_on_errors if spec.HasField("retry") else DEFAULT_MAX_ERRORS


def goes_on(job: Job, reason: EndReason, errors: int) -> bool:
    """Whether the job is tried again after this reason; `errors` counts this one in."""
    return reason.retries and is_listed(job.spec, reason) and errors <= max_errors(job.spec)


def counts_as_recovery(reason: EndReason) -> bool:
    """Moves that the scheduler itself wanted are none."""
    return reason not in (EndReason.DEADLINE_AT_RISK, EndReason.CHEAPER_ELSEWHERE)


def next_launch(job: Job, reason: EndReason, now: datetime) -> tuple[datetime, tuple[datetime, ...]]:
    """The earliest next launch, and the fruitless recoveries with that one, oldest first; never more than the limit.

    A deadline is not waited away: from the plan's point of no return on, only the backoff itself holds the job.
    """
    limit = MAX_FRUITLESS_RECOVERIES_PER_HOUR
    recent = tuple(at for at in job.recoveries if now - at < HOUR)
    tries = job.errors + 1 if reason.counts_as_error else len(recent) + 1
    attempt = job.attempt.number if job.attempt else 0
    at = now + timedelta(seconds=BACKOFF[reason].seconds(tries, draw(job.job_id, attempt)))
    if not counts_as_recovery(reason):
        return at, recent
    if len(recent) >= limit:
        window_opens = recent[-limit] + HOUR
        if job.plan is not None and job.plan.HasField("point_of_no_return"):
            window_opens = min(window_opens, job.plan.point_of_no_return.ToDatetime(tzinfo=UTC))
        at = max(at, window_opens)
    return at, (*recent, at)[-limit:]


def denial_seconds(job: Job, first_seconds: float) -> float:
    """How long an offer without a machine is left alone: longer with each round of denials over the whole plan."""
    offers = max(1, len(job.plan.candidates)) if job.plan else 1
    backoff = BACKOFF[EndReason.NO_CAPACITY]
    growing = Backoff(first_seconds, max(first_seconds, backoff.most_seconds))
    return growing.seconds(1 + job.denials // offers, draw(job.job_id, job.attempts))


def looks(job: Job, now: datetime) -> Job:
    """The job has its place and looks for a machine; the first look of a search begins it."""
    return job if job.waiting_since is not None else replace(job, waiting_since=now)


def has_looked_long_enough(job: Job, now: datetime) -> bool:
    """Whether `retry.duration` of the job file is over and nothing was found to run on. Each launch opens it anew; the
    time until the plan and the place were there is no search."""
    limit = job.spec.retry.duration_seconds
    return bool(limit) and job.waiting_since is not None and (now - job.waiting_since).total_seconds() > limit
