"""Making wishes real: each loop claims what is due, acts on the cluster outside any transaction, records the result.

A crash between act and record repeats the act, which is idempotent; a lease that ran out drops the result.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import structlog
from google.protobuf.message import Message

from services.scheduler import domain, launching, queueing
from services.scheduler.cluster import (
    Cluster,
    ClusterUnavailableError,
    NoCapacityError,
    Observation,
    PodState,
    RefusedError,
)
from services.scheduler.domain import EndReason, Job, State
from services.scheduler.endings import end_attempt, fail
from services.scheduler.policy import Action
from services.scheduler.queueing import LastDecision, Queue
from services.scheduler.settings import Settings
from services.scheduler.store import JobRow, Store
from sskai import claims, telemetry
from sskai.database import Database
from sskai.delivery import tell
from sskai.events import v1 as events

log = structlog.get_logger()

TURN = 50  # jobs claimed at a time
# The trainer's own last word travels through the broker; the cluster's must not overtake it.
LAST_WORD_SECONDS = 3.0
# What a pod that could not tell its last word says by its exit code; services/trainer/README.md. Others are errors.
EXIT_REASONS = {65: EndReason.USER_ERROR, 71: EndReason.OUT_OF_MEMORY, 75: EndReason.SPOT_INTERRUPTED}


@dataclass
class World:
    """What loops act on and with."""

    database: Database
    cluster: Cluster
    settings: Settings
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    last_decision: LastDecision = field(default_factory=LastDecision)

    def queue(self, store: Store, now: datetime) -> Queue:
        return Queue(store.session, self.settings, now, self.last_decision)


async def drive_jobs(world: World) -> None:
    """Every job that is due gets its next push: plan timeout, launch, metering, policy, drain or kill."""
    rows = await claims.claim(world.database, JobRow, limit=TURN, lease_seconds=60)
    await asyncio.gather(*(_drive(world, row) for row in rows))


async def _drive(world: World, row: JobRow) -> None:
    step = STEPS.get(State(row.state), _nothing_due)
    with telemetry.tracer().start_as_current_span(
        f"drive {row.state} job",
        context=telemetry.context_from(row.traceparent),
        attributes={"sskai.tenant": row.tenant_id, "sskai.subject": row.job_id},
    ):
        try:
            await step(world, row)
        except ClusterUnavailableError as error:
            # Unreachable is not dead: nothing is concluded, the same push is tried again soon.
            log.warning("cluster did not answer", job=row.job_id, error=str(error))
            async with world.database.transaction() as session:
                await claims.release(session, row, due_in_seconds=1)


async def _record(
    world: World, row: JobRow, change: Callable[[Job, Store, datetime], Awaitable[tuple[Job | None, list[Message]]]]
) -> Job | None:
    """One transaction under the claim: the job as it is now, changed, saved and told. None: the claim was lost."""
    async with world.database.transaction() as session:
        store = Store(session)
        job = await store.claimed_job(row.job_id, row.lease_token)
        if job is None:
            return None
        changed, told = await change(job, store, world.clock())
        if changed is not None:
            await store.save(changed)
        await tell(session, *told)
        final = changed or await store.job(row.job_id)
        assert final is not None
        due = final.due_at
        seconds = None if due is None else max(0.0, (due - world.clock()).total_seconds())
        await claims.release(session, row, due_in_seconds=seconds)
        return final


async def _plan_is_late(world: World, row: JobRow) -> None:
    """No new plan in time: go on with the alternates of the old one rather than stand still."""

    async def change(job: Job, store: Store, now: datetime) -> tuple[Job | None, list[Message]]:
        if job.state is not State.PLANNING:
            return job, []
        if job.plan is None:
            return await world.queue(store, now).hold(job, "no-plan", "the optimizer has not answered yet", 60)
        return domain.planned(job, job.plan, now), []

    await _record(world, row, change)


async def _launch_queued(world: World, row: JobRow) -> None:
    async def change(job: Job, store: Store, now: datetime) -> tuple[Job | None, list[Message]]:
        if job.state is not State.QUEUED:
            return job, []
        queue = world.queue(store, now)
        job, told, has_place = await queue.admit(job)
        if not has_place:
            return job, told
        if domain.has_looked_long_enough(job, now):
            failed = replace(job.to(State.FAILED), due_at=None)
            return failed, [*told, fail(failed, EndReason.NO_CAPACITY.word, EndReason.NO_CAPACITY.advice, now)]
        choice = launching.choose(job, now, world.settings)
        if choice.placement is None:
            job, held = await queue.hold(job, choice.rule, choice.detail, choice.again_in_seconds)
            return job, [*told, *held]
        return domain.begin_attempt(job, choice.placement, now), told

    job = await _record(world, row, change)
    if job is not None and job.state is State.LAUNCHING:
        # Launched in the same turn: a queue between two turns would only add latency. A crash here leaves a LAUNCHING
        # job that is due, and the next turn launches the same pod again.
        for again in await claims.claim(world.database, JobRow, limit=1, where=JobRow.job_id == row.job_id):
            await _launch(world, again)


async def _launch(world: World, row: JobRow) -> None:
    async with world.database.transaction() as session:
        job = await Store(session).claimed_job(row.job_id, row.lease_token)
    if job is None or job.attempt is None or job.state is not State.LAUNCHING:
        return
    number = job.attempt.number
    try:
        machine = await world.cluster.launch(launching.pod(job, world.settings))
    except NoCapacityError as denial:
        detail = str(denial)

        async def refuse(job: Job, _store: Store, now: datetime) -> tuple[Job | None, list[Message]]:
            if job.attempt is None or job.attempt.number != number or job.state is not State.LAUNCHING:
                return await _never_launched(job, _store, now)
            told = events.CapacityDenied(
                offer=domain.offer_of(job.attempt.placement),
                placement=job.attempt.placement,
                job_id=job.job_id,
                detail=detail,
                denied_at=now,
            )
            return domain.denied(job, now, world.settings.denial_seconds), [told]

        await _record(world, row, refuse)
        return
    except RefusedError as refusal:
        reason = str(refusal)

        async def give_up(job: Job, store: Store, now: datetime) -> tuple[Job | None, list[Message]]:
            if not job.is_current(number):
                return job, []
            return None, await end_attempt(job, EndReason.USER_ERROR, store, now, detail=reason)

        await _record(world, row, give_up)
        return

    async def change(job: Job, _store: Store, now: datetime) -> tuple[Job | None, list[Message]]:
        if not job.is_current(number) or job.attempt is None:
            return job, []  # ended meanwhile; the orphan is deleted by watch_machines
        started = events.AttemptStarted(
            job_id=job.job_id,
            tenant_id=job.tenant_id,
            attempt=number,
            machine_id=machine.machine_id,
            placement=job.attempt.placement,
            started_at=machine.launched_at,
        )
        launched = domain.launched(job, machine.machine_id, machine.launched_at, now, world.settings.metering_seconds)
        return launched, [started]

    await _record(world, row, change)


async def _never_launched(job: Job, store: Store, now: datetime) -> tuple[Job | None, list[Message]]:
    """Cancelled or told to drain while its launch was refused: there is no pod to wait for."""
    if job.state in (State.CANCELLING, State.DRAINING):
        return None, await end_attempt(job, job.stop_reason or EndReason.NO_CAPACITY, store, now)
    return job, []


async def _watch_running(world: World, row: JobRow) -> None:
    """Meter, keep the budget, and ask the policy whether the job still runs on the right kind of machine."""
    settings = world.settings

    async def change(job: Job, _store: Store, now: datetime) -> tuple[Job | None, list[Message]]:
        if job.state is not State.RUNNING:
            return job, []
        job, interval = domain.meter(job, now)
        told: list[Message] = [interval] if interval is not None else []
        grace = timedelta(seconds=domain.DRAIN_SECONDS)
        if domain.must_stop_for_budget(job, settings.metering_seconds):
            return domain.drain(job, EndReason.BUDGET_EXHAUSTED, now, now + grace), told
        if launching.decide(job, now, settings).action is Action.ON_DEMAND and launching.runs_on_spot(job):
            return domain.drain(job, EndReason.DEADLINE_AT_RISK, now, now + grace), told
        if job.told_at is not None and (now - job.told_at).total_seconds() > settings.hang_seconds:
            return domain.drain(job, EndReason.HUNG, now, now + grace), told
        return replace(job, due_at=now + timedelta(seconds=settings.metering_seconds)), told

    job = await _record(world, row, change)
    if job is not None and job.state is State.DRAINING:
        for again in await claims.claim(world.database, JobRow, limit=1, where=JobRow.job_id == row.job_id):
            await _drain(world, again)


async def _drain(world: World, row: JobRow) -> None:
    """Signal once; when the time is up, kill."""
    async with world.database.transaction() as session:
        job = await Store(session).claimed_job(row.job_id, row.lease_token)
    if job is None or job.attempt is None or job.state not in (State.DRAINING, State.CANCELLING):
        return
    attempt = job.attempt
    if not attempt.machine_id:
        # The signal came between the fence and the record of the launch: find out whether there is a pod.
        await _adopt_or_end(world, row, attempt.number)
        return
    late = job.stop_by is not None and world.clock() >= job.stop_by
    if late:
        await world.cluster.delete(attempt.machine_id)
    elif not attempt.drain_signalled:
        await world.cluster.drain(attempt.machine_id)

    async def change(job: Job, store: Store, now: datetime) -> tuple[Job | None, list[Message]]:
        if not job.is_current(attempt.number) or job.state not in (State.DRAINING, State.CANCELLING):
            return job, []
        if late:
            return None, await end_attempt(job, job.stop_reason or EndReason.SPOT_INTERRUPTED, store, now)
        return domain.drain_signalled(job), []

    await _record(world, row, change)


async def _adopt_or_end(world: World, row: JobRow, number: int) -> None:
    found = next(
        (one for one in await world.cluster.observe() if one.job_id == row.job_id and one.attempt == number), None
    )

    async def change(job: Job, store: Store, now: datetime) -> tuple[Job | None, list[Message]]:
        if not job.is_current(number) or job.attempt is None:
            return job, []
        if found is None:
            return None, await end_attempt(job, job.stop_reason or EndReason.NO_CAPACITY, store, now)
        begun = job.attempt.started_at
        attempt = replace(job.attempt, machine_id=found.machine_id, launched_at=begun, metered_until=begun)
        return replace(job, attempt=attempt, due_at=now), []

    await _record(world, row, change)


async def _nothing_due(world: World, row: JobRow) -> None:
    async with world.database.transaction() as session:
        await claims.release(session, row, due_in_seconds=None)


STEPS = {
    State.PLANNING: _plan_is_late,
    State.QUEUED: _launch_queued,
    State.LAUNCHING: _launch,
    State.RUNNING: _watch_running,
    State.DRAINING: _drain,
    State.CANCELLING: _drain,
}


async def tend_queue(world: World) -> int:
    """Give places to the waiting jobs that may launch now; see queueing. Returns to how many."""
    return await queueing.tend_queue(world.database, world.settings, world.clock(), world.last_decision)


async def watch_machines(world: World) -> None:
    """Hold what runs against what should: attempts whose pod is gone end, pods without a live attempt are deleted."""
    observed = await world.cluster.observe()
    async with world.database.transaction() as session:
        live = await Store(session).live_attempts()
    for one in observed:
        if live.get(one.machine_id) == (one.job_id, one.attempt):
            if one.state is not PodState.RUNNING:
                await _end_dead_attempt(world, one)
        elif one.state is not PodState.GONE and not await _may_live(world, one):
            log.info("deleting a pod that no live attempt owns", machine=one.machine_id, job=one.job_id)
            await world.cluster.delete(one.machine_id)
    seen = {one.machine_id for one in observed}
    for machine_id, (job_id, number) in live.items():
        if machine_id not in seen:
            gone = Observation(machine_id, job_id, number, PodState.GONE)
            await _end_dead_attempt(world, gone)


async def _may_live(world: World, one: Observation) -> bool:
    async with world.database.transaction() as session:
        return await Store(session).is_live(one.job_id, one.attempt)


async def _end_dead_attempt(world: World, one: Observation) -> None:
    """The cluster says the pod is dead. Its own last word (finished, drained) goes first if it comes in time."""
    now = world.clock()
    async with world.database.transaction() as session:
        store = Store(session)
        job = await store.job(one.job_id)
        if job is None or not job.is_current(one.attempt) or job.attempt is None:
            return
        ended_at = one.ended_at or job.told_at or now
        patience = LAST_WORD_SECONDS if one.state is PodState.EXITED else 0.0
        if (now - max(ended_at, job.attempt.started_at)).total_seconds() < patience:
            return
        with telemetry.tracer().start_as_current_span(
            "attempt lost",
            context=telemetry.context_from(job.traceparent),
            attributes={"sskai.tenant": job.tenant_id, "sskai.subject": job.job_id},
        ):
            await tell(session, *await end_attempt(job, _reason(job, one), store, now))


def _reason(job: Job, one: Observation) -> EndReason:
    if job.stop_reason is not None:
        return job.stop_reason
    if one.state is PodState.GONE:
        return EndReason.SPOT_INTERRUPTED if launching.runs_on_spot(job) else EndReason.MACHINE_LOST
    return EXIT_REASONS.get(one.exit_code or 0, EndReason.ERROR)
