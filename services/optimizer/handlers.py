"""What the optimizer does about each fact. Deciding takes a while: handlers ask for a plan, `loops.py` decides."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

from prometheus_client import Counter

from services.optimizer import prices, replaying
from services.optimizer.messages import CAPACITY_TYPES
from services.optimizer.prices import Observed, OfferKey
from services.optimizer.store import Store
from services.optimizer.tables import EndpointPlanRow, JobRow, MeasurementRow, PlanRow
from sskai.contract import moment
from sskai.delivery import Handlers
from sskai.events import v1 as events
from sskai.ownership import Owned

PRICES = Counter("sskai_optimizer_prices", "Observed prices, by what became of them", ["outcome"])

Told = list[Any]
# A step that is told to take longer than a day is a broken clock.
MAX_STEP_SECONDS = 86_400.0
# Reasons of a requeue that the market, or the cloud, is to blame for.
INTERRUPTIONS = {"spot-interrupted", "machine-lost"}


async def plan_job(event: events.JobSubmitted, store: Store, now: datetime) -> Told:
    if await store.job(event.tenant_id, event.job_id) is None:
        job = await store.add_job(event.job_id, event.tenant_id, event.spec, now)
        await store.ask_for_plan(job, "submitted", now)
    return []


async def preview_plan(event: events.PlanRequested, store: Store, now: datetime) -> Told:
    await store.ask_for_preview(event.job_id, event.tenant_id, event.spec, now)
    return []


async def plan_endpoint(event: events.EndpointPlanRequested, store: Store, now: datetime) -> Told:
    await store.ask_for_endpoint_plan(event.plan_id, event.tenant_id, event.spec, now)
    return []


async def plan_what_is_left(event: events.JobRequeued, store: Store, now: datetime) -> Told:
    job = await store.job(event.tenant_id, event.job_id)
    if job is None:
        job = await store.add_job(event.job_id, event.tenant_id, event.spec, now)
    if job.ended or event.attempt <= job.after_attempt:
        return []
    job.after_attempt = event.attempt
    job.steps_done = event.steps_done
    job.spent_usd = event.spent_usd
    job.updated_at = now
    await store.end_attempts(
        event.tenant_id, event.job_id, now, attempt=event.attempt, interrupted=event.reason in INTERRUPTIONS
    )
    await store.ask_for_plan(job, f"attempt {event.attempt}", now)
    return []


async def plan_around_denial(event: events.CapacityDenied, store: Store, now: datetime) -> Told:
    """Leave the offer out for a while, and look for another one. A plan that still waits will see the denial itself."""
    key = OfferKey.parse(event.offer)
    if key is None or await _reference(store, key) is None:
        return []
    denied_at = min(moment(event.denied_at), now)
    await store.save_denial(event.offer, denied_at)
    job = await store.job_by_id(event.job_id) if event.job_id else None
    if job is None or job.ended or await store.is_being_planned(job):
        return []
    await store.ask_for_plan(job, f"denied {event.offer} {denied_at.isoformat()}", now)
    return []


async def note_price(event: events.PriceObserved, store: Store, now: datetime) -> Told:
    capacity_type = next((name for name, number in CAPACITY_TYPES.items() if number == event.capacity_type), "")
    key = OfferKey(event.cloud, event.region, event.zone, event.instance_type, capacity_type)
    reference = await _reference(store, key)
    observed = Observed(event.price_usd_per_hour, moment(event.observed_at), event.source or "unnamed price feed")
    newest = await store.observed_price(key.text) if reference is not None else None
    outcome = prices.verdict(reference, observed, newest, now)
    PRICES.labels(outcome=outcome).inc()
    if outcome == "accepted":
        await store.save_price(key.text, observed)
    return []


async def _reference(store: Store, key: OfferKey) -> float | None:
    """The on-demand price behind an offer of the snapshot, of live feeds or of this computer; None: no such offer."""
    real = key.played
    told, described = await store.newest_price(real.of_region.text), await store.is_described(real.instance_type)
    return prices.reference_usd_per_hour(key, told=told, described=described)


async def begin_measuring(event: events.AttemptStarted, store: Store, now: datetime) -> Told:
    plan = await store.newest_plan_on(event.placement.instance_type, event.tenant_id, event.job_id)
    if plan is None:
        return []
    expected = plan.expected_steps[event.placement.instance_type]
    job = await store.job(event.tenant_id, event.job_id)
    # Its end comes by another topic, which may have been read further.
    over = job is not None and (job.ended or job.after_attempt >= event.attempt)
    await store.begin_measurement(
        MeasurementRow(
            job_id=event.job_id,
            attempt=event.attempt,
            tenant_id=event.tenant_id,
            region=event.placement.region,
            instance_type=event.placement.instance_type,
            spot=event.placement.capacity_type == events.CAPACITY_TYPE_SPOT,
            family=expected["family"],
            hardware=expected["hardware"],
            method=plan.method,
            roofline_step_seconds=expected["seconds"],
            tokens_per_micro_batch=expected["tokens"],
            step_seconds=None,
            save_seconds=None,
            stall_seconds=None,
            started_at=now,
            ended_at=now if over else None,
            interrupted=False,
        )
    )
    return []


async def note_step_time(event: events.AttemptProgressed, store: Store, _now: datetime) -> Told:
    if event.phase == "training":
        await _measure(store, event.tenant_id, event.job_id, event.attempt, event.step_seconds)
    return []


async def note_final_step_time(event: events.AttemptFinished, store: Store, now: datetime) -> Told:
    await _measure(store, event.tenant_id, event.job_id, event.attempt, event.median_step_seconds)
    await store.end_attempts(event.tenant_id, event.job_id, now, attempt=event.attempt)
    return []


async def note_checkpoint(event: events.CheckpointCommitted, store: Store, now: datetime) -> Told:
    """What a save takes sets the next plan's interval; what is saved need not be planned for again."""
    if _is_a_duration(event.save_seconds) and 0 <= event.stall_seconds < MAX_STEP_SECONDS:
        await store.measure_saving(
            event.tenant_id,
            event.job_id,
            event.attempt,
            save_seconds=event.save_seconds,
            stall_seconds=event.stall_seconds,
        )
    job = await store.job(event.tenant_id, event.job_id)
    if job is not None and event.step > job.steps_done:
        job.steps_done = event.step
        job.updated_at = now
    return []


async def replay_plan(event: events.PlanReplayRequested, store: Store, now: datetime) -> Told:
    of_job = await store.stored_plan(event.tenant_id, event.plan_id, PlanRow)
    of_endpoint = await store.stored_plan(event.tenant_id, event.plan_id, EndpointPlanRow)
    return [replaying.replayed(event, of_job or of_endpoint, now)]


async def forget_job(
    event: events.JobSucceeded | events.JobFailed | events.JobCancelled, store: Store, now: datetime
) -> Told:
    job = await store.job(event.tenant_id, event.job_id)
    if job is not None:
        job.ended = True
        job.updated_at = now
        await store.forget_requests(job)
        await store.end_attempts(event.tenant_id, event.job_id, now)
    return []


async def _measure(store: Store, tenant_id: str, job_id: str, attempt: int, step_seconds: float) -> None:
    if _is_a_duration(step_seconds):
        await store.measure(tenant_id, job_id, attempt, step_seconds)


def _is_a_duration(seconds: float) -> bool:
    return math.isfinite(seconds) and 0 < seconds < MAX_STEP_SECONDS


HANDLERS: Handlers = {
    events.JobSubmitted: plan_job,
    events.PlanRequested: preview_plan,
    events.EndpointPlanRequested: plan_endpoint,
    events.JobRequeued: plan_what_is_left,
    events.CapacityDenied: plan_around_denial,
    events.PriceObserved: note_price,
    events.AttemptStarted: begin_measuring,
    events.AttemptProgressed: note_step_time,
    events.AttemptFinished: note_final_step_time,
    events.CheckpointCommitted: note_checkpoint,
    events.PlanReplayRequested: replay_plan,
    events.JobSucceeded: forget_job,
    events.JobFailed: forget_job,
    events.JobCancelled: forget_job,
}
HANDLERS = Owned(HANDLERS, {"job_id": [JobRow]})
