"""What a cluster's answer to a launch means: started, denied or refused, for the current attempt and for one that
stands by. Values in, values and facts out."""

from __future__ import annotations

from datetime import datetime

from google.protobuf.message import Message

from services.scheduler import money, standby, transitions
from services.scheduler.domain import Attempt, EndReason, Job, State
from services.scheduler.endings import end_attempt, end_successor, fail
from services.scheduler.settings import Settings
from sskai.cluster import Machine, offer_of
from sskai.events import v1 as events


def started(job: Job, number: int, machine: Machine, now: datetime, settings: Settings) -> tuple[Job, list[Message]]:
    """The pod of attempt `number` exists. Told again, or of an attempt that may not run any more: nothing changes; such
    a pod is deleted as one that no live attempt owns."""
    attempt = _without_machine(job, number)
    if attempt is None:
        return job, []
    if job.stands_by(number):
        job = standby.launched(job, machine.machine_id, machine.launched_at, now, members=machine.member_ids)
    else:
        job = transitions.launched(
            job,
            machine.machine_id,
            machine.launched_at,
            now,
            settings.metering_seconds,
            members=machine.member_ids,
        )
    return job, [
        events.AttemptStarted(
            job_id=job.job_id,
            tenant_id=job.tenant_id,
            attempt=number,
            machine_id=machine.machine_id,
            placement=attempt.placement,
            started_at=machine.launched_at,
            member_ids=machine.member_ids,
        )
    ]


def denied(job: Job, number: int, detail: str, now: datetime, settings: Settings) -> tuple[Job, list[Message]]:
    """Attempt `number` got no machine, or waited for one too long."""
    if not job.stands_by(number) and not job.is_current(number):
        return job, []
    job, rows = money.meter(job, now)
    told: list[Message] = [*rows]
    if job.stands_by(number):
        assert job.successor is not None
        told.append(_denial(job, job.successor, detail, now))
        return standby.denied(job, now, settings.denial_seconds), told
    assert job.attempt is not None
    told.append(_denial(job, job.attempt, detail, now))
    if job.state in (State.DRAINING, State.CANCELLING):
        # Told to stop while it had no machine yet: there is no pod to wait for.
        job, ending = end_attempt(job, job.stop_reason or EndReason.NO_CAPACITY, now)
        return job, [*told, *ending]
    job = transitions.denied(job, now, settings.denial_seconds)
    if job.state is State.FAILED:
        told.append(fail(job, EndReason.NO_CAPACITY.word, f"{detail}. {EndReason.NO_CAPACITY.advice}", now))
    return job, told


def refused(job: Job, number: int, detail: str, now: datetime) -> tuple[Job, list[Message]]:
    """This pod can never be launched as it is; the detail says what the user should do."""
    if job.stands_by(number):
        return end_successor(job, EndReason.USER_ERROR, now)
    if not job.is_current(number):
        return job, []
    return end_attempt(job, EndReason.USER_ERROR, now, detail=detail)


def _without_machine(job: Job, number: int) -> Attempt | None:
    for attempt in job.live_attempts():
        if attempt.number == number and not attempt.machine_id:
            return attempt
    return None


def _denial(job: Job, attempt: Attempt, detail: str, now: datetime) -> events.CapacityDenied:
    return events.CapacityDenied(
        offer=offer_of(attempt.placement),
        placement=attempt.placement,
        job_id=job.job_id,
        detail=detail,
        denied_at=now,
    )
