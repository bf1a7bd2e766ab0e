"""What the monitor does about each event. The table of contents stands at the foot."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

from google.protobuf.message import Message

from services.monitor import domain, retrain_handlers, spend_handlers
from services.monitor.drift_handlers import follow_promotion, follow_rollback, take_feedback, test_for_drift
from services.monitor.objective_store import ObjectiveStore
from services.monitor.retraining import Endpoint
from services.monitor.store import Store
from services.monitor.tables import EndpointRow, JobRow, ObjectiveRow
from sskai import claims, telemetry
from sskai.contract import moment, timestamp
from sskai.delivery import Handlers
from sskai.events import v1 as events
from sskai.money import NANO_PER_USD
from sskai.ownership import Owned

# The ledger


async def open_account(event: events.JobSubmitted, store: Store, now: datetime) -> list[Message]:
    job = await store.job(event.job_id, event.tenant_id)
    job.submitted_at = moment(event.submitted_at)
    if event.spec.HasField("budget_usd"):
        job.budget_nano_usd = domain.nano_usd(event.spec.budget_usd)
    job.dataset_bytes = event.spec.dataset.bytes
    job.dataset_name, job.dataset_version = event.spec.dataset.name, event.spec.dataset.version
    job.weights_are_ours = event.spec.model.uri.startswith("s3://")
    await spend_handlers.know_job(event, store)
    if event.spec.HasField("retrain_of"):
        job.retrain_endpoint_id = event.spec.retrain_of.endpoint_id
        endpoint = await store.endpoint(job.retrain_endpoint_id)
        if endpoint is not None and endpoint.tenant_id == job.tenant_id:
            await store.save_endpoint(endpoint.retraining_by(job.job_id))
    return await _thresholds(job, store, now)


async def record_spend(event: events.SpendRecorded, store: Store, now: datetime) -> list[Message]:
    if event.machine_id:
        await store.cloud(now).is_ours([event.machine_id], event.tenant_id)
    is_new, told = await spend_handlers.record(event, store, now)
    if not is_new or event.endpoint_id or event.kind not in ("", "compute"):
        return told  # of no job's machine: there is no job's own budget
    job = await store.job(event.job_id, event.tenant_id)
    return told + await _thresholds(job, store, now)


async def _thresholds(job: JobRow, store: Store, now: datetime) -> list[Message]:
    spent = await store.spent_nano_usd(job.job_id)
    reached = domain.thresholds_reached(spent, job.budget_nano_usd, job.budget_fraction_told)
    if not reached or job.budget_nano_usd is None:
        return []
    job.budget_fraction_told = reached[-1]
    return [
        events.BudgetThresholdReached(
            job_id=job.job_id,
            tenant_id=job.tenant_id,
            fraction=fraction,
            spent_usd=spent / NANO_PER_USD,
            budget_usd=job.budget_nano_usd / NANO_PER_USD,
            at=timestamp(now),
        )
        for fraction in reached
    ]


async def note_attempt(event: events.AttemptStarted, store: Store, now: datetime) -> list[Message]:
    await store.attempt(event.job_id, event.tenant_id, event.attempt)
    machine_ids = {*event.member_ids, event.machine_id} - {""}
    await store.cloud(now).is_ours(machine_ids, event.tenant_id)
    await store.place_attempt(event)
    await spend_handlers.begin_egress(event, store)
    return []


async def note_plan(event: events.PlanProposed, store: Store, _now: datetime) -> list[Message]:
    """What somebody would have taken who does not plan: by the job's first plan."""
    if event.preview or event.after_attempt or event.cause not in {"", "submitted"}:
        return []
    job = await store.job(event.job_id, event.tenant_id)
    job.planned, job.weight_bytes = True, event.profile.weight_bytes
    if event.HasField("naive"):
        job.naive = domain.naive_choice(event.naive)
    return []


async def note_progress(event: events.AttemptProgressed, store: Store, _now: datetime) -> list[Message]:
    log = await store.attempt(event.job_id, event.tenant_id, event.attempt)
    await store.save_attempt(event.job_id, log.stepped(event.step, moment(event.at), event.step_seconds))
    return []


async def note_step(event: events.CheckpointCommitted, store: Store, _now: datetime) -> list[Message]:
    log = await store.attempt(event.job_id, event.tenant_id, event.attempt)
    await store.save_attempt(event.job_id, log.stepped(event.step, moment(event.at)))
    await spend_handlers.keep_checkpoint(event, store)
    return []


async def note_resume(event: events.AttemptResumed, store: Store, _now: datetime) -> list[Message]:
    log = await store.attempt(event.job_id, event.tenant_id, event.attempt)
    await store.save_attempt(event.job_id, log.resumed_from(event.from_step, moment(event.at)))
    return []


async def note_drain(event: events.AttemptDrained, store: Store, _now: datetime) -> list[Message]:
    log = await store.attempt(event.job_id, event.tenant_id, event.attempt)
    await store.save_attempt(event.job_id, replace(log.stepped(event.step, moment(event.at)), stopped=True))
    return []


async def note_loss(event: events.AttemptLost, store: Store, _now: datetime) -> list[Message]:
    # Its last known step is the job's as the scheduler knows it, which an earlier attempt may have made.
    log = await store.attempt(event.job_id, event.tenant_id, event.attempt)
    await store.save_attempt(event.job_id, replace(log, stopped=True))
    return []


async def note_requeue(event: events.JobRequeued, store: Store, _now: datetime) -> list[Message]:
    log = await store.attempt(event.job_id, event.tenant_id, event.attempt)
    await store.save_attempt(event.job_id, replace(log, requeued=True))
    return []


async def note_finish(event: events.AttemptFinished, store: Store, _now: datetime) -> list[Message]:
    log = await store.attempt(event.job_id, event.tenant_id, event.attempt)
    log = log.stepped(event.steps, moment(event.at), event.median_step_seconds)
    await store.save_attempt(event.job_id, replace(log, finished=True))
    return []


async def close_succeeded(event: events.JobSucceeded, store: Store, now: datetime) -> list[Message]:
    # The last word of this attempt has to be there before the receipt.
    return await _close(event, "succeeded", store, now, final_attempt=event.attempt)


async def close_failed(event: events.JobFailed, store: Store, now: datetime) -> list[Message]:
    return await _close(event, "failed", store, now)


async def close_cancelled(event: events.JobCancelled, store: Store, now: datetime) -> list[Message]:
    return await _close(event, "cancelled", store, now)


async def _close(
    event: Any, outcome: str, store: Store, now: datetime, *, final_attempt: int | None = None
) -> list[Message]:
    job = await store.job(event.job_id, event.tenant_id)
    if job.outcome is not None:
        return []  # a job has one end and one receipt
    job.outcome = outcome
    job.metered_intervals = event.metered_intervals
    job.final_attempt = final_attempt
    job.ended_at = moment(event.ended_at)
    job.closed_at = now
    job.due_at = claims.at_once()  # the receipt
    job.traceparent = telemetry.current_traceparent()
    if job.submitted_at is None and event.HasField("submitted_at"):
        job.submitted_at = moment(event.submitted_at)
    await spend_handlers.end_job(job.job_id, job.ended_at, store)
    if job.retrain_endpoint_id and (endpoint := await store.endpoint(job.retrain_endpoint_id)):
        await store.save_endpoint(endpoint.retrain_ended(job.job_id, now))
    return []


# Machines


async def note_end_of_machine(
    event: events.InterruptionNoticed | events.MachineLost, store: Store, now: datetime
) -> list[Message]:
    """The scheduler's cluster, inference's or anybody may know before us: then there is nothing left to tell."""
    await store.cloud(now).was_told(event)
    return []


# Endpoints and drift


async def take_dataset(event: events.DatasetValidated, store: Store, now: datetime) -> list[Message]:
    """It is kept, and metered; models that were trained on an older version may be trained on it."""
    await spend_handlers.keep_dataset(event, store)
    return await retrain_handlers.take_dataset(event, store, now)


async def remember_version(event: events.ModelVersionReady, store: Store, _now: datetime) -> list[Message]:
    await store.add_model_version(event)
    await spend_handlers.keep_version(event, store)
    return []


async def watch_endpoint(event: events.EndpointReady, store: Store, _now: datetime) -> list[Message]:
    endpoint = await store.endpoint(event.endpoint_id) or Endpoint(event.endpoint_id, event.tenant_id)
    endpoint = endpoint.serving(event.model_id, event.version)
    await store.save_endpoint(endpoint)
    await store.want_reference(endpoint.tenant_id, endpoint.model_id, endpoint.version)
    return []


async def leave_endpoint(event: events.EndpointDeleted, store: Store, now: datetime) -> list[Message]:
    endpoint = await store.endpoint(event.endpoint_id) or Endpoint(event.endpoint_id, event.tenant_id)
    await store.save_endpoint(replace(endpoint, deleted=True))
    await ObjectiveStore(store.session).drop(event.endpoint_id, event.tenant_id)
    await spend_handlers.leave_endpoint(event, store, now)
    return await retrain_handlers.leave_endpoint(event, store, now)


async def set_objectives(event: events.EndpointObjectivesSet, store: Store, _now: datetime) -> list[Message]:
    await ObjectiveStore(store.session).set(event)
    return []


HANDLERS: Handlers = {
    events.JobSubmitted: open_account,
    events.SpendRecorded: record_spend,
    events.PlanProposed: note_plan,
    events.AttemptStarted: note_attempt,
    events.AttemptProgressed: note_progress,
    events.CheckpointCommitted: note_step,
    events.AttemptResumed: note_resume,
    events.AttemptDrained: note_drain,
    events.AttemptLost: note_loss,
    events.AttemptFinished: note_finish,
    events.JobRequeued: note_requeue,
    events.JobSucceeded: close_succeeded,
    events.JobFailed: close_failed,
    events.JobCancelled: close_cancelled,
    events.InterruptionNoticed: note_end_of_machine,
    events.MachineLost: note_end_of_machine,
    events.DatasetValidated: take_dataset,
    events.ModelVersionReady: remember_version,
    events.EndpointReady: watch_endpoint,
    events.EndpointDeleted: leave_endpoint,
    events.EndpointObjectivesSet: set_objectives,
    events.ModelPromoted: follow_promotion,
    events.ModelRolledBack: follow_rollback,
    events.InferenceSampled: test_for_drift,
    events.FeedbackGiven: take_feedback,
    **spend_handlers.HANDLERS,
    **retrain_handlers.HANDLERS,
}
HANDLERS = Owned(HANDLERS, {"job_id": [JobRow], "endpoint_id": [EndpointRow, ObjectiveRow]})
