"""How an attempt ends, by whatever way: metered, closed, told; handlers and loops both come through here."""

from __future__ import annotations

from datetime import datetime

from google.protobuf.message import Message

from services.scheduler import domain
from services.scheduler.domain import EndReason, Job, State
from services.scheduler.store import Store
from sskai.events import v1 as events


async def end_attempt(
    job: Job,
    reason: EndReason,
    store: Store,
    now: datetime,
    *,
    finished: events.AttemptFinished | None = None,
    detail: str = "",
) -> list[Message]:
    """Close the current attempt: its last ledger row, the job's next state, and the events that tell both.

    `finished`: the trainer's last word; `detail`: what went wrong, where there is none.
    """
    assert job.attempt is not None
    attempt = job.attempt
    told: list[Message] = []
    job, row = domain.meter(job, now)
    if row is not None:
        told.append(row)
    if reason not in (EndReason.SUCCEEDED, EndReason.CANCELLED) and finished is None:
        told.append(
            events.AttemptLost(
                job_id=job.job_id,
                tenant_id=job.tenant_id,
                attempt=attempt.number,
                machine_id=attempt.machine_id,
                reason=reason.word,
                last_known_step=job.steps_told,
                at=now,
            )
        )
    job = domain.attempt_ended(job, reason, now)
    await store.save(job)
    if job.state is State.SUCCEEDED and finished is not None:
        told.append(_succeeded(job, finished, now))
    elif job.state is State.FAILED:
        detail = detail or (finished.detail if finished is not None else "")
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
                spent_usd=job.spent_nano_usd / domain.NANO,
                spec=job.spec,
                requeued_at=now,
            )
        )
    return told


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
