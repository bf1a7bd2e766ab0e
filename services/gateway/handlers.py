"""What the gateway does about each event: its read models follow, its log remembers, a retrain becomes a job."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from google.protobuf.message import Message

from services.gateway import retrains, timeline
from services.gateway.aliases import CHALLENGER, CHAMPION
from services.gateway.domain import JobView
from services.gateway.finetune_store import FineTunes
from services.gateway.store import Store
from services.gateway.tables import BudgetRow, EndpointRow, JobRow
from sskai import contract, telemetry
from sskai.delivery import Handlers, envelope_of
from sskai.events import v1 as events
from sskai.ownership import Owned


async def note(event: Any, store: Store, now: datetime) -> list[Message]:
    """For the log alone."""
    await store.event_log.append(event, now, telemetry.current_traceparent())
    return []


async def show_job(event: events.JobSubmitted, store: Store, now: datetime) -> list[Message]:
    """A job, whoever submitted it."""
    # The event's own: an event without a trace would get another one each time that the log is read.
    await store.add_job(event, telemetry.trace_id_of(envelope_of(store.session).traceparent), now)
    return await note(event, store, now)


async def follow_job(event: Any, store: Store, now: datetime) -> list[Message]:
    """One more fact of a job."""
    if not await store.follow_job(event, now):
        return []
    return await note(event, store, now)


async def mark_denial(event: events.CapacityDenied, store: Store, _now: datetime) -> list[Message]:
    """The market refused a machine; a job's timeline shows it."""
    tenant_id = await store.tenant_of_job(event.job_id) if event.job_id else None
    mark = timeline.mark_of(JobView(), event)
    if tenant_id is not None and mark is not None:
        await store.timelines.keep(tenant_id, event.job_id, mark)
    return []


async def keep_notice(event: events.InterruptionNoticed, store: Store, _now: datetime) -> list[Message]:
    """A machine's, whosever it is."""
    await store.timelines.keep_notice(event)
    return []


async def keep_price(event: events.PriceObserved, store: Store, _now: datetime) -> list[Message]:
    """What an offer costs from then on."""
    await store.timelines.keep_price(event)
    return []


async def keep_plan(event: events.PlanProposed | events.PlanRefused, store: Store, now: datetime) -> list[Message]:
    """The optimizer's answer, to a dry run or about a job."""
    if not await store.keep_plan(event):
        return []
    return await note(event, store, now) if event.preview else await follow_job(event, store, now)


async def keep_endpoint_plan(event: events.EndpointPlanProposed, store: Store, now: datetime) -> list[Message]:
    """The ways to serve a model that somebody thinks of."""
    if not await store.keep_endpoint_plan(event):
        return []
    return await note(event, store, now)


async def keep_replay(event: events.PlanReplayed, store: Store, now: datetime) -> list[Message]:
    """A stored decision, made again."""
    if not await store.keep_replay(event):
        return []
    return await note(event, store, now)


async def keep_model(event: events.ModelVersionReady, store: Store, now: datetime) -> list[Message]:
    """A trained version that can be served; of an OpenAI-shaped job it is, under its own name."""
    await store.library.add_trained_model(event)
    await note(event, store, now)
    return await FineTunes(store.session).deploy(event, now)


async def refuse_model(event: events.ModelVersionRefused, store: Store, now: datetime) -> list[Message]:
    """A result that is no version."""
    await FineTunes(store.session).refuse(event)
    return await note(event, store, now)


async def show_endpoint(event: events.EndpointRequested, store: Store, now: datetime) -> list[Message]:
    """An endpoint, whoever asked for it."""
    await store.know_endpoint(event)
    return await note(event, store, now)


async def follow_endpoint(event: Any, store: Store, now: datetime) -> list[Message]:
    """One more fact of an endpoint."""
    if not await store.follow_endpoint(event):
        return []
    return await note(event, store, now)


async def follow_spend(event: events.SpendRecorded, store: Store, now: datetime) -> list[Message]:
    """Machine time of a job, or of an endpoint's replica."""
    if event.kind not in ("", "compute"):
        return await note(event, store, now)  # what is kept or moved, by the day
    if not event.endpoint_id:
        return await follow_job(event, store, now)
    return await note(event, store, now) if await store.pay_for_endpoint(event) else []


async def follow_budget(event: events.BudgetThresholdReached, store: Store, now: datetime) -> list[Message]:
    """A share of a budget is spent: of a job's own, or of another."""
    return await (note if event.scope not in ("", "job") else follow_job)(event, store, now)


async def follow_ready(event: events.EndpointReady, store: Store, now: datetime) -> list[Message]:
    """An endpoint answers; the first version of a model that does is its champion."""
    name = await store.aliases.name_of(event.tenant_id, event.model_id) if event.version else None
    if name is not None:
        at = contract.moment(event.ready_at)
        await store.aliases.set_first_champion(event.tenant_id, name, event.model_id, event.version, at=at)
    return await follow_endpoint(event, store, now)


async def follow_canary(event: events.CanaryStarted, store: Store, now: datetime) -> list[Message]:
    """A version is tried: it is its model's challenger."""
    name = await store.aliases.name_of(event.tenant_id, event.model_id)
    if name is not None:
        at = contract.moment(event.started_at)
        await store.aliases.move(event.tenant_id, name, CHALLENGER, (event.model_id, event.version), at=at)
    return await follow_endpoint(event, store, now)


async def follow_promotion(event: events.ModelPromoted, store: Store, now: datetime) -> list[Message]:
    """An alias moved to a version, and an endpoint with it."""
    name = await store.aliases.name_of(event.tenant_id, event.model_id)
    at = contract.moment(event.promoted_at)
    if name is not None and event.alias in (CHAMPION, CHALLENGER):
        await store.aliases.move(event.tenant_id, name, event.alias, (event.model_id, event.version), at=at)
        if event.alias == CHAMPION:
            await store.aliases.withdraw(event.tenant_id, name, event.version, at)
    await store.follow_endpoint(event)
    return await note(event, store, now)


async def follow_rollback(event: events.ModelRolledBack, store: Store, now: datetime) -> list[Message]:
    """A version was taken back."""
    name = await store.aliases.name_of(event.tenant_id, event.model_id)
    if name is not None:
        at = contract.moment(event.rolled_back_at)
        await store.aliases.withdraw(event.tenant_id, name, event.version, at)
    await store.follow_endpoint(event)
    return await note(event, store, now)


async def keep_receipt(event: events.ReceiptIssued, store: Store, now: datetime) -> list[Message]:
    """What the job cost in the end."""
    if event.HasField("issued_at"):
        await store.keep_receipt(event)
    return await note(event, store, now)


async def keep_sample(event: events.InferenceSampled, store: Store, now: datetime) -> list[Message]:
    """Users' words, for datasets of their own tenant: never in the log."""
    await store.traffic.keep_sample(event, now)
    return []


async def keep_feedback(event: events.FeedbackGiven, store: Store, now: datetime) -> list[Message]:
    """What was said of an answer, beside it."""
    await store.traffic.keep_feedback(event, now)
    return []


async def forget_endpoint(event: events.EndpointDeleted, store: Store, now: datetime) -> list[Message]:
    """An endpoint is gone, and what it was asked with it."""
    await store.traffic.forget_endpoint(event.tenant_id, event.endpoint_id)
    return await follow_endpoint(event, store, now)


async def answer_retrain(event: events.RetrainRequested, store: Store, now: datetime) -> list[Message]:
    """The parent's job once more; at once, or when a dataset was cut for it."""
    await note(event, store, now)
    if event.data != retrains.TRAFFIC:
        return await retrains.submit(event, store, now)
    await retrains.ask_for_cut(event, store.session, now)
    return []


HANDLERS: Handlers = {
    events.DatasetValidated: note,
    events.DatasetRejected: note,
    events.DatasetDeleted: note,
    events.JobSubmitted: show_job,
    events.JobCancelRequested: follow_job,
    events.JobAdmitted: follow_job,
    events.JobHeld: follow_job,
    events.JobRequeued: follow_job,
    events.JobSucceeded: follow_job,
    events.JobFailed: follow_job,
    events.JobCancelled: follow_job,
    events.PlanRequested: note,
    events.PlanProposed: keep_plan,
    events.PlanRefused: keep_plan,
    events.PlanReplayRequested: note,
    events.PlanReplayed: keep_replay,
    events.EndpointPlanRequested: note,
    events.EndpointPlanProposed: keep_endpoint_plan,
    events.AttemptStarted: follow_job,
    events.AttemptProgressed: follow_job,
    events.CheckpointCommitted: follow_job,
    events.AttemptDrained: follow_job,
    events.AttemptLost: follow_job,
    events.AttemptResumed: follow_job,
    events.AttemptFinished: follow_job,
    events.ModelVersionReady: keep_model,
    events.ModelVersionRefused: refuse_model,
    events.ModelDeleted: note,
    events.ModelEvaluated: note,
    events.ModelPromoted: follow_promotion,
    events.ModelRolledBack: follow_rollback,
    events.EndpointRequested: show_endpoint,
    events.EndpointReady: follow_ready,
    events.EndpointTrafficRequested: note,
    events.EndpointObjectivesSet: note,
    events.EndpointScaled: follow_endpoint,
    events.CanaryStarted: follow_canary,
    events.EndpointFailed: follow_endpoint,
    events.EndpointDeletionRequested: follow_endpoint,
    events.EndpointDeleted: forget_endpoint,
    events.SpendRecorded: follow_spend,
    events.BudgetSet: note,
    events.BudgetRemoved: note,
    events.SpendReserveRequested: note,
    events.SpendReserved: note,
    events.SpendReserveDeclined: note,
    events.BudgetThresholdReached: follow_budget,
    events.ReceiptIssued: keep_receipt,
    events.DriftDetected: follow_endpoint,
    events.ObjectiveBreached: note,
    events.ObjectiveRecovered: note,
    events.RetrainRequested: answer_retrain,
    events.RetrainDeclined: note,
    events.RetrainSuggested: note,
    events.RetrainDecided: note,
    events.RetrainingPolicySet: note,
    events.RetrainingPolicyRemoved: note,
    events.InferenceSampled: keep_sample,
    events.FeedbackGiven: keep_feedback,
    events.PriceObserved: keep_price,
    events.InterruptionNoticed: keep_notice,
    events.CapacityDenied: mark_denial,
}
HANDLERS = Owned(HANDLERS, {"job_id": [JobRow], "endpoint_id": [EndpointRow], "budget_id": [BudgetRow]})
