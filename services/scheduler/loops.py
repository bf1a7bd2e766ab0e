"""Making wishes real: each loop claims what is due, acts on the cluster outside any transaction, records the result.

A crash between act and record repeats the act, which is idempotent; a lease that ran out drops the result. The other
loop, which compares what runs with what should, is in `machines_loop.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

import structlog
from google.protobuf.message import Message

from services.scheduler import launching, money, placing, queueing, reserving, retrying, standby, starting, transitions
from services.scheduler.domain import Attempt, EndReason, Job, State
from services.scheduler.endings import end_attempt, fail
from services.scheduler.queueing import Queue
from services.scheduler.store import JobRow, Store
from services.scheduler.watching import reason_for_silence
from services.scheduler.world import World
from sskai import claims, telemetry
from sskai.cluster import (
    ClusterUnavailableError,
    Machine,
    NoCapacityError,
    RefusedError,
)
from sskai.delivery import tell
from sskai.metrics import LOOP_ERRORS

log = structlog.get_logger()

TURN = 50  # jobs claimed at a time
LEASE_SECONDS = 20.0  # renewed while a push lasts: what a killed process had waits no longer for the next one
BUG_PAUSE_SECONDS = 10.0
RESERVE_SECONDS = 300.0  # a job that waits for money is woken by the answer; it looks by itself this seldom

Change = Callable[[Job, Store, datetime], Awaitable[tuple[Job, list[Message]]]]


async def drive_jobs(world: World) -> None:
    """Every job that is due gets its next push: plan timeout, launch, metering, policy, drain or kill."""
    rows = await claims.claim(world.database, JobRow, limit=TURN, lease_seconds=LEASE_SECONDS)
    await asyncio.gather(*(_drive(world, row) for row in rows))


async def _drive(world: World, row: JobRow) -> None:
    step = STEPS.get(State(row.state), _nothing_due)
    with telemetry.tracer().start_as_current_span(
        f"drive {row.state} job",
        context=telemetry.context_from(row.traceparent),
        attributes={"sskai.tenant": row.tenant_id, "sskai.subject": row.job_id},
    ):
        try:
            async with claims.held(world.database, row, LEASE_SECONDS):
                await step(world, row)
        except ClusterUnavailableError as error:
            # Unreachable is not dead: nothing is concluded, the same push is tried again soon.
            log.warning("cluster did not answer", job=row.job_id, error=str(error))
            await _again(world, row, 1)
        except ConnectionError:
            raise  # a part that every job needs is away; the loop waits for it
        except Exception:
            # A bug met by one job neither ends it nor holds up the others.
            LOOP_ERRORS.labels(loop="drive_jobs").inc()
            log.exception("a push failed", job=row.job_id, state=row.state)
            await _again(world, row, BUG_PAUSE_SECONDS)


async def _again(world: World, row: JobRow, seconds: float) -> None:
    async with world.database.transaction() as session:
        await claims.release(session, row, due_in_seconds=seconds)


async def _record(
    world: World, row: JobRow, change: Change, *, keeps_claim: Callable[[Job], bool] = lambda _job: False
) -> Job | None:
    """One transaction under the claim: the job as it is now, changed, saved and told. None: the claim was lost.

    A claim that is kept saves the next step of the same turn the way through the queue. A crash before that step leaves
    a job that is due as soon as the lease has run out.
    """
    async with world.database.transaction() as session:
        store = Store(session)
        job = await store.claimed_job(row.job_id, row.lease_token)
        if job is None:
            return None
        job, told = await change(job, store, world.clock())
        await store.save(job)
        await tell(session, *told)
        if not keeps_claim(job):
            seconds = None if job.due_at is None else max(0.0, (job.due_at - world.clock()).total_seconds())
            await claims.release(session, row, due_in_seconds=seconds)
        return job


async def _at_once(world: World, job_id: str, step: Callable[[World, JobRow], Awaitable[None]]) -> None:
    """The next step in the same turn: a queue between two turns would only add latency. A crash before it leaves a job
    that is due, and the next turn takes the step."""
    for row in await claims.claim(world.database, JobRow, limit=1, where=JobRow.job_id == job_id):
        try:
            await step(world, row)
        except ClusterUnavailableError as error:
            log.warning("cluster did not answer", job=job_id, error=str(error))
            await _again(world, row, 1)


async def _claimed(world: World, row: JobRow, *states: State) -> Job | None:
    async with world.database.transaction() as session:
        job = await Store(session).claimed_job(row.job_id, row.lease_token)
    return job if job is not None and job.attempt is not None and job.state in states else None


async def _plan_is_late(world: World, row: JobRow) -> None:
    """No new plan in time: go on with the alternates of the old one rather than stand still."""

    async def change(job: Job, store: Store, now: datetime) -> tuple[Job, list[Message]]:
        if job.state is not State.PLANNING:
            return job, []
        if job.plan is None:
            return await world.queue(store, now).hold(job, "no-plan", "the optimizer has not answered yet", 60)
        return transitions.planned(job, job.plan, now), []

    await _record(world, row, change)


async def _held_by_budget(job: Job, told: list[Message], queue: Queue) -> tuple[Job, list[Message]]:
    """Until the monitor has reserved what the job is expected to cost; its answer wakes the job."""
    detail = job.ask_detail or "the budgets that it is under are asked for what it is expected to cost"
    job, held = await queue.hold(job, reserving.RULE, detail, RESERVE_SECONDS)
    return job, [*told, *held]


async def _launch_queued(world: World, row: JobRow) -> None:
    metering = world.settings.metering_seconds

    async def change(job: Job, store: Store, now: datetime) -> tuple[Job, list[Message]]:
        if job.state is not State.QUEUED:
            return job, []
        if job.not_before is not None and job.not_before > now:
            return replace(job, due_at=job.not_before), []
        queue = world.queue(store, now)
        under_budget = await world.is_under_budget(store, job)
        asked = reserving.ask_to_launch(job, metering, now) if under_budget else None
        if asked is not None:
            return await _held_by_budget(*asked, queue)
        job = job if under_budget else reserving.free(job)
        job, told, has_place = await queue.admit(job)
        if not has_place:
            return job, told
        job = retrying.looks(job, now)
        if retrying.has_looked_long_enough(job, now):
            failed = replace(job.to(State.FAILED), due_at=None)
            return failed, [*told, fail(failed, EndReason.NO_CAPACITY.word, EndReason.NO_CAPACITY.advice, now)]
        choice = await world.choose(job, store, now)
        if choice.candidate is None:
            other_way = partial(world.seconds_to_on_demand, job, store, now)
            job, held = await queue.hold(
                job,
                choice.rule,
                choice.detail,
                choice.again_in_seconds,
                other_way=other_way if choice.rule == "waiting-for-spot" else None,
            )
            return job, [*told, *held]
        # The policy may take what is dearer than what money was reserved for.
        asked = reserving.ask_to_launch(job, metering, now, choice.candidate) if under_budget else None
        if asked is not None:
            job, held = await _held_by_budget(*asked, queue)
            return job, [*told, *held]
        return transitions.begin_attempt(job, choice.candidate, now), told

    job = await _record(world, row, change, keeps_claim=lambda job: job.state is State.LAUNCHING)
    if job is not None and job.state is State.LAUNCHING and job.attempt is not None:
        await _launch_attempt(world, row, job, job.attempt)


async def _launch(world: World, row: JobRow) -> None:
    job = await _claimed(world, row, State.LAUNCHING)
    if job is not None and job.attempt is not None:
        await _launch_attempt(world, row, job, job.attempt)


async def _launch_attempt(world: World, row: JobRow, job: Job, attempt: Attempt) -> None:
    """Launch, and record what came of it, whatever became of the job meanwhile."""
    answer = await _ask_for_machine(world, job, attempt)
    number, settings = attempt.number, world.settings

    async def change(job: Job, store: Store, now: datetime) -> tuple[Job, list[Message]]:
        if not isinstance(answer, RefusedError):
            await world.saw(store, attempt.placement, isinstance(answer, Machine), now)
        if isinstance(answer, Machine):
            return starting.started(job, number, answer, now, settings)
        if isinstance(answer, NoCapacityError):
            return starting.denied(job, number, str(answer), now, settings)
        return starting.refused(job, number, str(answer), now)

    job_now = await _record(world, row, change)
    if job_now is not None and standby.is_wanted(job_now, world.clock()):
        await _at_once(world, row.job_id, _drain)  # this successor was denied: another offer may have a machine


async def _ask_for_machine(world: World, job: Job, attempt: Attempt) -> Machine | NoCapacityError | RefusedError:
    try:
        return await world.cluster.launch(launching.pod(job, attempt, world.settings))
    except (NoCapacityError, RefusedError) as answer:
        return answer


async def _watch_running(world: World, row: JobRow) -> None:
    """Meter, keep the budget, and ask the policy whether the job still runs on the right kind of machine."""
    settings = world.settings

    async def change(job: Job, store: Store, now: datetime) -> tuple[Job, list[Message]]:
        if job.state is not State.RUNNING or job.attempt is None:
            return job, []
        job, rows = money.meter(job, now)
        told: list[Message] = [*rows]
        stop_by = now + timedelta(seconds=money.DRAIN_SECONDS)
        if await world.is_under_budget(store, job):
            job, asked = reserving.ask_while_running(job, settings.metering_seconds, now)
            told += asked
        else:
            job = reserving.free(job)
        if money.must_stop_for_budget(job, settings.metering_seconds):
            return transitions.drain(job, EndReason.BUDGET_EXHAUSTED, now, stop_by), told
        assert job.attempt is not None
        if job.attempt.heard_at is not None:
            await world.saw(store, job.attempt.placement, True, now, all_the_while=True)
        move = placing.reason_to_move(job, await world.decide(job, store, now))
        if move is not None:
            return transitions.drain(job, move, now, stop_by), told
        silence = reason_for_silence(
            job.attempt,
            world.watch.silence_seconds(job.attempt, now),
            start_seconds=settings.start_seconds,
            hang_seconds=settings.hang_seconds,
        )
        if silence is not None:
            return transitions.drain(job, silence, now, stop_by), told
        return replace(job, due_at=now + timedelta(seconds=settings.metering_seconds)), told

    job = await _record(world, row, change)
    if job is not None and job.state is State.DRAINING:
        await _at_once(world, row.job_id, _drain)


async def _drain(world: World, row: JobRow) -> None:
    """Signal once, and have a successor load meanwhile; when the time is up, kill."""
    job = await _claimed(world, row, State.DRAINING, State.CANCELLING)
    if job is None or job.attempt is None:
        return
    attempt = job.attempt
    if not attempt.machine_id:
        # The signal came between the fence and the record of the launch: find out whether there is a pod.
        await _adopt_or_end(world, row, attempt.number)
        return
    late = job.stop_by is not None and world.clock() >= job.stop_by
    if late and await _told_its_end(world, attempt.machine_id):
        await _again(world, row, 1)
        return
    if late:
        await world.cluster.delete(attempt.machine_id)
    elif not attempt.drain_signalled:
        await world.cluster.drain(attempt.machine_id)

    async def change(job: Job, store: Store, now: datetime) -> tuple[Job, list[Message]]:
        if not job.is_current(attempt.number) or job.state not in (State.DRAINING, State.CANCELLING):
            return job, []
        if job.stop_reason is EndReason.SPOT_INTERRUPTED and not attempt.drain_signalled:
            await world.saw(store, attempt.placement, False, now)
        if late:
            reason = job.stop_reason or EndReason.SPOT_INTERRUPTED
            return end_attempt(job, reason, now, detail=attempt.pending)
        job = money.stop_within_budget(transitions.drain_signalled(job), now)
        return await _with_successor(job, store, now, world), []

    job = await _record(world, row, change, keeps_claim=_awaits_launch)
    if job is not None and job.successor is not None and _awaits_launch(job):
        await _launch_attempt(world, row, job, job.successor)


def _awaits_launch(job: Job) -> bool:
    """Whether a successor has its number and no machine yet."""
    return job.state is State.DRAINING and job.successor is not None and not job.successor.machine_id


async def _told_its_end(world: World, machine_id: str) -> bool:
    """Whether the pod exited with 0: the broker has its last word, for which `machines_loop` waits, and which nothing
    that we conclude here may overtake. It also ends the attempt if no word comes."""
    return any(one.machine_id == machine_id and one.exit_code == 0 for one in await world.cluster.observe())


async def _with_successor(job: Job, store: Store, now: datetime, world: World) -> Job:
    """A number for a successor, where one is wanted, the policy has a placement for it, and the money bears both."""
    if not standby.is_wanted(job, now):
        return job if job.successor is None or job.successor.machine_id else replace(job, due_at=now)
    choice = await world.choose(standby.as_if_free(job, now), store, now)
    if choice.candidate is None:
        return job
    if not standby.is_affordable(job, choice.candidate, now, world.settings.metering_seconds):
        return job
    return standby.reserved(job, choice.candidate, now)


async def _adopt_or_end(world: World, row: JobRow, number: int) -> None:
    found = next(
        (one for one in await world.cluster.observe() if one.job_id == row.job_id and one.attempt == number), None
    )

    async def change(job: Job, _store: Store, now: datetime) -> tuple[Job, list[Message]]:
        if not job.is_current(number) or job.attempt is None:
            return job, []
        if found is None:
            return end_attempt(job, job.stop_reason or EndReason.NO_CAPACITY, now)
        return starting.started(job, number, Machine(found.machine_id, job.attempt.started_at), now, world.settings)

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
