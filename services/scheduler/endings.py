"""How an attempt ends, by whatever way: metered, closed, told. Values in, values and facts out; handlers and loops both
come through here and save what comes back."""

from __future__ import annotations

from datetime import datetime

from google.protobuf.message import Message

from services.scheduler import money, standby, transitions
from services.scheduler.domain import Attempt, EndReason, Job, State
from sskai.events import v1 as events
from sskai.money import NANO_PER_USD

# A shorter wait before the next launch is told to nobody.
TOLD_WAIT_SECONDS = 10.0


def end_attempt(
    job: Job,
    reason: EndReason,
    now: datetime,
    *,
    finished: events.AttemptFinished | None = None,
    detail: str = "",
) -> tuple[Job, list[Message]]:
    """Close the current attempt: its last ledger row, the job's next state, and the events that tell both.

    `finished`: the trainer's last word; `detail`: what went wrong, where there is none.
    """
    assert job.attempt is not None
    attempt, successor = job.attempt, job.successor
    told: list[Message] = []
    job, rows = money.meter(job, now)
    told += rows
    if reason not in (EndReason.SUCCEEDED, EndReason.CANCELLED) and finished is None:
        told.append(_lost(job, attempt, reason, now))
    job = transitions.attempt_ended(job, reason, now)
    told += _not_needed(job, successor, now)
    if job.state is State.SUCCEEDED and finished is not None:
        told.append(_succeeded(job, finished, now))
    elif job.state is State.FAILED:
        detail = detail or (finished.detail if finished is not None else "")
        if reason is EndReason.BUDGET_EXHAUSTED:
            detail = detail or job.ask_detail
        told.append(fail(job, reason.word, f"{detail}. {reason.advice}" if detail else reason.advice, now))
    elif job.state is State.CANCELLED:
        told.append(cancelled(job, now))
    else:
        told.append(
            events.JobRequeued(
                job_id=job.job_id,
                tenant_id=job.tenant_id,
                reason=reason.word,
                attempt=attempt.number,
                steps_done=job.steps_saved,
                spent_usd=job.spent_nano_usd / NANO_PER_USD,
                spec=job.spec,
                requeued_at=now,
            )
        )
        told += _held_back(job, now)
    return job, told


def end_successor(job: Job, reason: EndReason, now: datetime) -> tuple[Job, list[Message]]:
    """The one that stood by is dead, or will be: the attempt that drains does not notice."""
    assert job.successor is not None
    successor = job.successor
    job, rows = money.meter(job, now)
    told: list[Message] = [*rows]
    if successor.machine_id:
        told.append(_lost(job, successor, reason, now))
    return standby.lost(job, reason, now), told


def noticed(job: Job, attempt: Attempt, stop_by: datetime, now: datetime) -> tuple[Job, list[Message]]:
    """A machine of the attempt will be taken then. One that stands by has no time left to take over for long."""
    if job.stands_by(attempt.number):
        return end_successor(job, EndReason.SPOT_INTERRUPTED, now)
    return transitions.drain(job, EndReason.SPOT_INTERRUPTED, now, stop_by), []


def lost_members(job: Job, attempt: Attempt, lost: int, at: datetime, now: datetime) -> tuple[Job, list[Message]]:
    """The attempt's gang goes on with fewer machines: what they cost until then, and less from then on."""
    job, rows = money.meter(job, min(at, now))
    return transitions.lost_members(job, attempt.number, lost), [*rows]


def taken_over(job: Job, now: datetime) -> tuple[Job, list[Message]]:
    """What the successor told proves that it raised its fence: the attempt before it can write no more, whatever became
    of its own last word."""
    return end_attempt(job, job.stop_reason or EndReason.SPOT_INTERRUPTED, now)


def cancel(job: Job, now: datetime) -> tuple[Job, list[Message]]:
    """What the user asked for."""
    successor = job.successor
    job, rows = money.meter(job, now) if successor is not None else (job, [])
    job = transitions.cancel(job, now)
    told: list[Message] = [*rows, *_not_needed(job, successor, now)]
    return job, [*told, cancelled(job, now)] if job.state is State.CANCELLED else told


def _not_needed(job: Job, successor: Attempt | None, now: datetime) -> list[Message]:
    """Whoever follows attempts hears of the successor's end, where it did not become the current attempt."""
    if successor is None or not successor.machine_id or not any(one.number == successor.number for one in job.closed):
        return []
    return [_lost(job, successor, EndReason.NOT_NEEDED, now)]


def _held_back(job: Job, now: datetime) -> list[Message]:
    """A long wait is told with its reason."""
    if job.state.has_attempt or job.not_before is None:
        return []
    if (job.not_before - now).total_seconds() < TOLD_WAIT_SECONDS:
        return []
    detail = (
        f"{len(job.recoveries)} recoveries in an hour, {job.errors} errors, and no newer checkpoint: next launch at "
    )
    detail += f"{job.not_before:%H:%M:%S} UTC"
    return [held(job, "backoff", detail, now, since=now, foretold=(job.not_before,) * 3)]


def held(
    job: Job,
    rule: str,
    detail: str,
    now: datetime,
    *,
    since: datetime,
    foretold: tuple[datetime, datetime, datetime] | None = None,
    position: int = 0,
) -> events.JobHeld:
    """JobHeld; `foretold`: the earliest, the expected and the latest start, where somebody can say."""
    earliest, expected, latest = foretold or (None, None, None)
    return events.JobHeld(
        job_id=job.job_id,
        tenant_id=job.tenant_id,
        rule=rule,
        detail=detail,
        held_at=now,
        since=since,
        position=position,
        earliest_start=earliest,
        expected_start=expected,
        latest_start=latest,
    )


def _lost(job: Job, attempt: Attempt, reason: EndReason, now: datetime) -> events.AttemptLost:
    return events.AttemptLost(
        job_id=job.job_id,
        tenant_id=job.tenant_id,
        attempt=attempt.number,
        machine_id=attempt.machine_id,
        reason=reason.word,
        last_known_step=job.steps_told,
        at=now,
    )


def fail(job: Job, reason: str, advice: str, now: datetime) -> events.JobFailed:
    """JobFailed, with the newest checkpoint as what is left for the money."""
    return events.JobFailed(
        job_id=job.job_id,
        tenant_id=job.tenant_id,
        reason=reason,
        advice=advice,
        metered_intervals=job.intervals,
        artifact_uri=job.checkpoint_uri,
        submitted_at=job.submitted_at,
        ended_at=now,
    )


def cancelled(job: Job, now: datetime) -> events.JobCancelled:
    """JobCancelled."""
    return events.JobCancelled(
        job_id=job.job_id,
        tenant_id=job.tenant_id,
        metered_intervals=job.intervals,
        submitted_at=job.submitted_at,
        ended_at=now,
    )


def _succeeded(job: Job, finished: events.AttemptFinished, now: datetime) -> events.JobSucceeded:
    return events.JobSucceeded(
        job_id=job.job_id,
        tenant_id=job.tenant_id,
        attempt=finished.attempt,
        artifact_uri=finished.artifact_uri,
        model_name=job.spec.name,
        spec=job.spec,
        steps=finished.steps,
        tokens=finished.tokens,
        eval_loss_before=finished.eval_loss_before,
        eval_loss_after=finished.eval_loss_after,
        metered_intervals=job.intervals,
        submitted_at=job.submitted_at,
        ended_at=now,
    )
