"""What the scheduler does about each event: load, one decision, save, facts out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.message import Message

from services.scheduler import endings, reserving, standby, transitions
from services.scheduler.domain import EndReason, Job, State
from services.scheduler.store import BudgetRow, JobRow, Store
from services.scheduler.watching import LAST_WORD_SECONDS
from sskai import telemetry
from sskai.delivery import Handlers
from sskai.events import v1 as events
from sskai.known_budgets import JOB, STOP, KnownBudgets
from sskai.money import NANO_PER_USD
from sskai.ownership import Owned


async def queue_job(event: events.JobSubmitted, store: Store, now: datetime) -> list[Message]:
    """Remember the job; its plan may have come first."""
    if await store.job(event.job_id) is not None:
        return []
    job = transitions.submitted(event, now, telemetry.current_traceparent() or "")
    await store.save(job)
    answer = await store.early_answer(event.job_id)
    if isinstance(answer, events.PlanProposed):
        return await take_plan(answer, store, now)
    if isinstance(answer, events.PlanRefused):
        return await take_refusal(answer, store, now)
    return []


async def take_plan(event: events.PlanProposed, store: Store, now: datetime) -> list[Message]:
    """The job stands in line for its place; a job that runs has its alternates."""
    if event.preview:
        return []
    job = await store.job(event.job_id)
    if job is None:
        await store.keep_early_answer(event)
        return []
    if job.state.ended or not transitions.is_answer(job, event.after_attempt):
        return []
    await store.save(transitions.planned(job, event, now))
    return []


async def take_refusal(event: events.PlanRefused, store: Store, now: datetime) -> list[Message]:
    """Nothing meets the constraints. A job that already ran goes on with its old plan, unless money is the matter."""
    if event.preview:
        return []
    job = await store.job(event.job_id)
    if job is None:
        await store.keep_early_answer(event)
        return []
    if job.state not in (State.PLANNING, State.QUEUED) or not transitions.is_answer(job, event.after_attempt):
        return []
    if job.plan is not None and event.reason != "budget":
        await store.save(transitions.planned(job, job.plan, now))
        return []
    if job.state is State.PLANNING or event.reason == "budget":
        job = replace(job.to(State.FAILED), due_at=None)
        await store.save(job)
        return [endings.fail(job, f"no-plan:{event.reason}", f"{event.detail} {event.advice}".strip(), now)]
    return []


async def cancel_job(event: events.JobCancelRequested, store: Store, now: datetime) -> list[Message]:
    """At once where nothing runs, with a grace where something does."""
    job = await store.job(event.job_id)
    if job is None or job.state.ended:
        return []
    job, told = endings.cancel(job, now)
    await store.save(job)
    return told


async def note_progress(event: events.AttemptProgressed, store: Store, now: datetime) -> list[Message]:
    """The lease is renewed."""
    job = await store.job(event.job_id)
    if job is not None and job.is_current(event.attempt):
        await store.save(transitions.progressed(job, event, now))
    elif job is not None and job.stands_by(event.attempt):
        await store.save(standby.heard(job, now))
    return []


async def note_checkpoint(event: events.CheckpointCommitted, store: Store, now: datetime) -> list[Message]:
    """Everything up to the step is safe."""
    job, told = await _writer(event, store, now)
    if job is not None:
        await store.save(transitions.checkpointed(job, event, now))
    return told


async def note_resume(event: events.AttemptResumed, store: Store, now: datetime) -> list[Message]:
    """Only a successor tells news by this: it has taken over."""
    job, told = await _writer(event, store, now)
    if job is not None:
        await store.save(job)
    return told


async def requeue_drained_job(event: events.AttemptDrained, store: Store, now: datetime) -> list[Message]:
    """The attempt saved and stopped: go on elsewhere, at once."""
    job = await store.job(event.job_id)
    if job is not None and job.stands_by(event.attempt):
        return await _end_successor(job, EndReason.SPOT_INTERRUPTED, store, now)
    if job is None or not job.is_current(event.attempt):
        return []
    job = replace(transitions.saved(job, event.step), told_at=now)
    job, told = endings.end_attempt(job, job.stop_reason or EndReason.SPOT_INTERRUPTED, now)
    await store.save(job)
    return told


async def finish_attempt(event: events.AttemptFinished, store: Store, now: datetime) -> list[Message]:
    """The trainer's last word: the job's end, or another try."""
    reason = EndReason.SUCCEEDED if event.succeeded else EndReason.of(event.reason)
    if not event.succeeded:
        job = await store.job(event.job_id)
        if job is not None and job.stands_by(event.attempt):
            return await _end_successor(job, reason, store, now)
    job, told = await _writer(event, store, now)
    if job is None:
        return told
    job, ending = endings.end_attempt(job, reason, now, finished=event)
    await store.save(job)
    return [*told, *ending]


async def drain_interrupted_job(event: events.InterruptionNoticed, store: Store, now: datetime) -> list[Message]:
    """The machine will be taken: save first. A rebalance recommendation is no notice yet."""
    if event.action == "rebalance":
        return []
    found = await store.on_machine(event.machine_id)
    if found is None:
        return []
    job, attempt = found
    at = event.terminates_at.ToDatetime(tzinfo=UTC) if event.HasField("terminates_at") else now
    stop_by = at if at > now else now + timedelta(seconds=event.notice_seconds)
    job, told = endings.noticed(job, attempt, stop_by, now)
    await store.save(job)
    return told


async def requeue_lost_job(event: events.MachineLost, store: Store, now: datetime) -> list[Message]:
    """The cloud says that the machine is no more; of a gang only the first one ends it (`machines_loop` counts others).

    A machine that ended because its pod had finished is lost, too, and the pod's last word comes by another topic: the
    attempt has as long as that takes.
    """
    found = await store.on_machine(event.machine_id)
    if found is None:
        return []
    job, attempt = found
    if job.state in (State.LAUNCHING, State.RUNNING) and not attempt.is_first(event.machine_id):
        return []
    if job.stands_by(attempt.number):
        return await _end_successor(job, EndReason.MACHINE_LOST, store, now)
    stop_by = now + timedelta(seconds=LAST_WORD_SECONDS)
    await store.save(transitions.drain(job, EndReason.MACHINE_LOST, now, stop_by))
    return []


async def keep_budget(event: events.BudgetSet, store: Store, now: datetime) -> list[Message]:
    """From now on jobs under it reserve what they spend. A job's own replaces that of its file."""
    if not await KnownBudgets(store.session, BudgetRow).keep(event) or event.scope != JOB or event.action != STOP:
        return []
    job = await store.job(event.target)
    if job is None or job.state.ended or job.tenant_id != event.tenant_id:
        return []
    spec = events.JobSpec()
    spec.CopyFrom(job.spec)
    spec.budget_usd = event.amount_nano_usd / NANO_PER_USD
    await store.save(replace(job, spec=spec, due_at=now if job.state is State.QUEUED else job.due_at))
    return []


async def drop_budget(event: events.BudgetRemoved, store: Store, _now: datetime) -> list[Message]:
    """It stops nobody any more; a job's own budget stays as it was set last."""
    await KnownBudgets(store.session, BudgetRow).drop(event)
    return []


async def spend_reserved(event: events.SpendReserved, store: Store, now: datetime) -> list[Message]:
    """The job may spend so much."""
    return await _reserve(event, store, now, reserving.reserved)


async def spend_declined(event: events.SpendReserveDeclined, store: Store, now: datetime) -> list[Message]:
    """A budget has not so much left: a job that runs stops in time."""
    return await _reserve(event, store, now, reserving.declined)


async def _reserve(
    event: Any, store: Store, now: datetime, change: Callable[[Job, Any, datetime], Job]
) -> list[Message]:
    job = await store.job(event.job_id)
    if job is not None and not job.state.ended and job.tenant_id == event.tenant_id:
        await store.save(change(job, event, now))
    return []


async def _end_successor(job: Job, reason: EndReason, store: Store, now: datetime) -> list[Message]:
    job, told = endings.end_successor(job, reason, now)
    await store.save(job)
    return told


async def _writer(event: Any, store: Store, now: datetime) -> tuple[Job | None, list[Message]]:
    """The job if the attempt that speaks may write; what a fenced attempt tells changes nothing.

    Only an attempt that raised its fence tells such a thing, so a successor that does has taken over.
    """
    job = await store.job(event.job_id)
    told: list[Message] = []
    if job is not None and job.stands_by(event.attempt):
        job, told = endings.taken_over(job, now)
        await store.save(job)
    return (job if job is not None and job.is_current(event.attempt) else None), told


HANDLERS: Handlers = {
    events.JobSubmitted: queue_job,
    events.PlanProposed: take_plan,
    events.PlanRefused: take_refusal,
    events.JobCancelRequested: cancel_job,
    events.AttemptProgressed: note_progress,
    events.CheckpointCommitted: note_checkpoint,
    events.AttemptResumed: note_resume,
    events.AttemptDrained: requeue_drained_job,
    events.AttemptFinished: finish_attempt,
    events.InterruptionNoticed: drain_interrupted_job,
    events.MachineLost: requeue_lost_job,
    events.BudgetSet: keep_budget,
    events.BudgetRemoved: drop_budget,
    events.SpendReserved: spend_reserved,
    events.SpendReserveDeclined: spend_declined,
}
HANDLERS = Owned(HANDLERS, {"job_id": [JobRow]})
