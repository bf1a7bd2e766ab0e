"""What the scheduler does about each event: load, one decision, save, facts out."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.message import Message

from services.scheduler import domain
from services.scheduler.domain import EndReason, Job, State
from services.scheduler.endings import cancelled, end_attempt, fail
from services.scheduler.store import Store
from sskai import telemetry
from sskai.delivery import Handlers
from sskai.events import v1 as events


async def queue_job(event: events.JobSubmitted, store: Store, now: datetime) -> list[Message]:
    """Remember the job; its plan may have come first."""
    if await store.job(event.job_id) is not None:
        return []
    job = domain.submitted(event, now, telemetry.current_traceparent() or "")
    await store.save(job)
    answer = await store.early_answer(event.job_id)
    if isinstance(answer, events.PlanProposed):
        return await take_plan(answer, store, now)
    if isinstance(answer, events.PlanRefused):
        return await take_refusal(answer, store, now)
    return []


async def take_plan(event: events.PlanProposed, store: Store, now: datetime) -> list[Message]:
    """The job stands in line for its place."""
    if event.preview:
        return []
    job = await store.job(event.job_id)
    if job is None:
        await store.keep_early_answer(event)
        return []
    if not domain.is_answer(job, event.after_attempt):
        return []
    await store.save(domain.planned(job, event, now))
    return []


async def take_refusal(event: events.PlanRefused, store: Store, now: datetime) -> list[Message]:
    """Nothing meets the constraints. A job that already ran goes on with its old plan, unless money is the matter."""
    if event.preview:
        return []
    job = await store.job(event.job_id)
    if job is None:
        await store.keep_early_answer(event)
        return []
    if not domain.is_answer(job, event.after_attempt):
        return []
    if job.plan is not None and event.reason != "budget":
        await store.save(domain.planned(job, job.plan, now))
        return []
    if job.state is State.PLANNING or event.reason == "budget":
        job = replace(job.to(State.FAILED), due_at=None)
        await store.save(job)
        return [fail(job, f"no-plan:{event.reason}", f"{event.detail} {event.advice}".strip(), now)]
    return []


async def cancel_job(event: events.JobCancelRequested, store: Store, now: datetime) -> list[Message]:
    """At once where nothing runs, with a grace where something does."""
    job = await store.job(event.job_id)
    if job is None or job.state.ended:
        return []
    job = domain.cancel(job, now)
    await store.save(job)
    return [cancelled(job, now)] if job.state is State.CANCELLED else []


async def note_progress(event: events.AttemptProgressed, store: Store, now: datetime) -> list[Message]:
    """The lease is renewed."""
    job = await _current(event, store)
    if job is not None:
        await store.save(domain.progressed(job, event, now))
    return []


async def note_checkpoint(event: events.CheckpointCommitted, store: Store, now: datetime) -> list[Message]:
    """Everything up to the step is safe."""
    job = await _current(event, store)
    if job is not None:
        await store.save(domain.checkpointed(job, event, now))
    return []


async def requeue_drained_job(event: events.AttemptDrained, store: Store, now: datetime) -> list[Message]:
    """The attempt saved and stopped: go on elsewhere, at once."""
    job = await _current(event, store)
    if job is None:
        return []
    job = replace(job, steps_saved=max(job.steps_saved, event.step), told_at=now)
    return await end_attempt(job, job.stop_reason or EndReason.SPOT_INTERRUPTED, store, now)


async def finish_attempt(event: events.AttemptFinished, store: Store, now: datetime) -> list[Message]:
    """The trainer's last word: the job's end, or another try."""
    job = await _current(event, store)
    if job is None:
        return []
    reason = EndReason.SUCCEEDED if event.succeeded else EndReason.of(event.reason)
    return await end_attempt(job, reason, store, now, finished=event)


async def drain_interrupted_job(event: events.InterruptionNoticed, store: Store, now: datetime) -> list[Message]:
    """The machine will be taken: save first. A rebalance recommendation is no notice yet."""
    if event.action == "rebalance":
        return []
    job = await store.job_on_machine(event.machine_id)
    if job is None or job.state.ended:
        return []
    stop_by = event.terminates_at.ToDatetime(tzinfo=UTC) if event.HasField("terminates_at") else now
    stop_by = max(stop_by, now + timedelta(seconds=event.notice_seconds))
    await store.save(domain.drain(job, EndReason.SPOT_INTERRUPTED, now, stop_by))
    return []


async def requeue_lost_job(event: events.MachineLost, store: Store, now: datetime) -> list[Message]:
    """The cloud says that the machine is no more."""
    job = await store.job_on_machine(event.machine_id)
    if job is None or job.state.ended:
        return []
    return await end_attempt(job, EndReason.MACHINE_LOST, store, now)


async def _current(event: Any, store: Store) -> Job | None:
    """The job if the attempt that speaks is its current one; what a fenced attempt tells changes nothing."""
    job = await store.job(event.job_id)
    return job if job is not None and job.is_current(event.attempt) else None


HANDLERS: Handlers = {
    events.JobSubmitted: queue_job,
    events.PlanProposed: take_plan,
    events.PlanRefused: take_refusal,
    events.JobCancelRequested: cancel_job,
    events.AttemptProgressed: note_progress,
    events.CheckpointCommitted: note_checkpoint,
    events.AttemptDrained: requeue_drained_job,
    events.AttemptFinished: finish_attempt,
    events.InterruptionNoticed: drain_interrupted_job,
    events.MachineLost: requeue_lost_job,
}
