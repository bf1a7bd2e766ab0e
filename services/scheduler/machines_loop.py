"""Holding what runs against what should: attempts whose pod is gone end, pods that no live attempt owns are deleted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

import structlog
from google.protobuf.message import Message

from services.scheduler import endings, keptlogs, placing, starting, transitions
from services.scheduler.domain import Attempt, EndReason, Job, State
from services.scheduler.store import Live, Store
from services.scheduler.watching import LAST_WORD_SECONDS, MAX_DELETES_PER_TURN, MAX_TRIES_FOR_GONE
from services.scheduler.world import World
from sskai import telemetry
from sskai.cluster import ClusterUnavailableError, Machine, Observation, PodState, telling
from sskai.delivery import tell
from sskai.events import v1 as events

log = structlog.get_logger()

# A drained attempt's very last act, by which its successor knows that it has ended, may follow the word to us.
LAST_ACT_SECONDS = 5.0
# Exit code 0 says that the broker has the pod's last word (services/trainer/README.md): it only has to be read, which
# after a restart takes as long as the group needs to give out its partitions again.
TOLD_LAST_WORD_SECONDS = 60.0
# A launch that is answered with errors is repeated, and meets its pod by name. One whose answers never come is recorded
# from the list.
ADOPT_SECONDS = 30.0
# What a pod that could not tell its last word says by its exit code; services/trainer/README.md. Others are errors.
# 76, overtaken, is said by the current attempt only where our numbers went back (a restored database): go on after it.
EXIT_REASONS = {
    65: EndReason.USER_ERROR,
    71: EndReason.OUT_OF_MEMORY,
    75: EndReason.SPOT_INTERRUPTED,
    76: EndReason.MACHINE_LOST,
}

Change = Callable[[Job, Attempt, datetime], tuple[Job, list[Message]]]


async def watch_machines(world: World) -> bool:
    """One list of the cluster, and what follows from it; whether jobs were changed by it.

    Raises ClusterUnavailableError: then nothing follows.
    """
    observed = await world.cluster.observe()
    async with world.database.transaction() as session:
        live = await Store(session).live_attempts()
    now, watch = world.clock(), world.watch
    seen = {one.machine_id for one in observed}
    watch.listed(seen, now)
    deletes, changed = 0, False
    # What costs money goes first: a cluster may list a thousand machines that are no more.
    for one in sorted(observed, key=lambda one: not one.stands):
        mine = live.get(one.machine_id)
        if mine is not None and (mine.job_id, mine.attempt) == (one.job_id, one.attempt):
            changed |= await _compare(world, one, mine)
        elif deletes < MAX_DELETES_PER_TURN:
            deletes += await _stray(world, one)
    launched_at = {machine_id: attempt.launched_at for machine_id, attempt in live.items()}
    for machine_id in watch.gone(launched_at, seen, now):
        mine = live[machine_id]
        changed |= await _end_dead_attempt(world, Observation(machine_id, mine.job_id, mine.attempt, PodState.GONE))
    return changed


async def _compare(world: World, one: Observation, mine: Live) -> bool:
    """What the cluster says about a live attempt; whether that changed its job."""
    if one.denied:
        return await _give_up_waiting(world, one)
    if one.state is not PodState.RUNNING:
        return await _end_dead_attempt(world, one)
    if one.lost > mine.lost:
        return await _go_on_without(world, one)
    if one.terminates_at is not None and world.watch.noticed.get(one.machine_id) != one.terminates_at:
        changed = await _change(world, one, partial(_noticed, one, one.terminates_at))
        world.watch.noticed[one.machine_id] = one.terminates_at
        return changed
    if one.recommended and one.machine_id not in world.watch.hinted:
        await _hint(world, one)
        world.watch.hinted.add(one.machine_id)
    if one.pending[: transitions.MAX_PENDING_CHARACTERS] != mine.pending:
        return await _change(
            world, one, lambda job, attempt, _now: (transitions.pending(job, attempt.number, one.pending), [])
        )
    return False


def _noticed(
    one: Observation, terminates_at: datetime, job: Job, attempt: Attempt, now: datetime
) -> tuple[Job, list[Message]]:
    """The cluster knows when the machine goes. Everybody hears of it, unless a notice as early was told before."""
    stop_by = max(terminates_at, now)
    known = job.stop_by if job.state in (State.DRAINING, State.CANCELLING) else None
    changed, told = endings.noticed(job, attempt, stop_by, now)
    if changed is job or (known is not None and known - stop_by <= telling.EARLIER):
        return changed, told
    return changed, [*told, *telling.notice(one, now)]


async def _hint(world: World, one: Observation) -> None:
    """The risk that the machine is taken has risen: told, and nothing done about it."""
    async with world.database.transaction() as session:
        job = await Store(session).job(one.job_id)
        with _in_trace_of(job):
            await tell(session, *telling.notice(one, world.clock()))


async def _go_on_without(world: World, one: Observation) -> bool:
    """Members of a gang are no more, and not the first: the others' workers meet again (services/trainer/agent.py). If
    they do not, their silence will tell."""
    log.info("a gang goes on without lost machines", machine=one.machine_id, job=one.job_id, lost=one.lost)
    taken: list[events.Placement] = []

    def change(job: Job, attempt: Attempt, now: datetime) -> tuple[Job, list[Message]]:
        taken.append(attempt.placement)
        if attempt.planned is not None and attempt.planned.shard:
            # The lost part lies in the newest checkpoint alone, and the plan counts on the memory of all machines.
            return _ended(job, attempt, replace(one, state=PodState.GONE, exit_code=None), now)
        return endings.lost_members(job, attempt, one.lost, one.lost_at or now, now)

    changed = await _change(world, one, change)
    await _saw_taken(world, taken)
    return changed


async def _saw_taken(world: World, placements: Sequence[events.Placement]) -> None:
    """What the market's model learns from machines that went."""
    async with world.database.transaction() as session:
        for placement in placements:
            await world.saw(Store(session), placement, False, world.clock())


async def _give_up_waiting(world: World, one: Observation) -> bool:
    """It waited too long for capacity: an offer that denied it, only later."""
    await world.cluster.delete(one.machine_id)
    detail = one.pending or "it waited too long for capacity"
    return await _change(
        world, one, lambda job, attempt, now: starting.denied(job, attempt.number, detail, now, world.settings)
    )


async def _stray(world: World, one: Observation) -> int:
    """A pod that no recorded attempt owns: one whose launch is not recorded yet is let be, or adopted; any other is
    deleted, again and again until it is gone. Returns the deletes that were tried."""
    now, is_gone = world.clock(), one.state is PodState.GONE
    tries = None if one.stands and not is_gone else MAX_TRIES_FOR_GONE if one.stands else 1
    if not world.watch.may_delete(one.machine_id, tries=tries, now=now):
        return 0
    async with world.database.transaction() as session:
        store = Store(session)
        job = await store.job(one.job_id)
        attempts = job.live_attempts() if job is not None else ()
        attempt = next((each for each in attempts if each.number == one.attempt), None)
        if job is not None and attempt is not None:
            if not attempt.machine_id and not is_gone and (now - attempt.started_at).total_seconds() >= ADOPT_SECONDS:
                machine = Machine(one.machine_id, attempt.started_at)
                job, told = starting.started(job, attempt.number, machine, now, world.settings)
                await store.save(job)
                await tell(session, *told)
            return 0
        goes_on = job is not None and not job.state.ended
        drained_at = await store.drained_at(one.job_id, one.attempt) if goes_on else None
    if one.state is PodState.RUNNING and drained_at and (now - drained_at).total_seconds() < LAST_ACT_SECONDS:
        return 0
    log.info("deleting a pod that no live attempt owns", machine=one.machine_id, job=one.job_id)
    if one.machine_id not in world.watch.deletions:
        await keptlogs.keep(world, one)
    world.watch.deleting(one.machine_id, now)
    try:
        await world.cluster.delete(one.machine_id)
    except ClusterUnavailableError as error:
        log.warning("a pod could not be deleted; trying again", machine=one.machine_id, error=str(error))
    return 1


async def _end_dead_attempt(world: World, one: Observation) -> bool:
    """The cluster says the pod is dead. Its own last word (finished, drained) goes first if it comes in time."""
    taken: list[events.Placement] = []

    def change(job: Job, attempt: Attempt, now: datetime) -> tuple[Job, list[Message]]:
        ended_at = world.watch.ended_at(one.machine_id, one.ended_at, now)
        patience = LAST_WORD_SECONDS if one.state is PodState.EXITED else 0.0
        if one.exit_code == 0:
            patience = TOLD_LAST_WORD_SECONDS
        # While nobody watched, nobody read either.
        if (now - max(ended_at, attempt.started_at, world.watch.since or now)).total_seconds() < patience:
            return job, []
        if one.state is not PodState.GONE:
            return _ended(job, attempt, one, now)
        taken.append(attempt.placement)
        job, told = _ended(job, attempt, one, now)
        return job, [*told, *telling.loss(one, now)]

    changed = await _change(world, one, change)
    await _saw_taken(world, taken)
    return changed


def _ended(job: Job, attempt: Attempt, one: Observation, now: datetime) -> tuple[Job, list[Message]]:
    if job.stands_by(attempt.number):
        return endings.end_successor(job, _cause(attempt, one), now)
    return endings.end_attempt(job, job.stop_reason or _cause(attempt, one), now, detail=attempt.pending)


async def _change(world: World, one: Observation, change: Change) -> bool:
    """One transaction on the job of a live attempt, as it is now; whether anything changed."""
    async with world.database.transaction() as session:
        store = Store(session)
        job = await store.job(one.job_id)
        attempt = next((each for each in job.live_attempts() if each.number == one.attempt), None) if job else None
        if job is None or attempt is None:
            return False
        with _in_trace_of(job):
            changed, told = change(job, attempt, world.clock())
            if changed is not job:
                await store.save(changed)
                await tell(session, *told)
            return changed is not job


def _in_trace_of(job: Job | None) -> AbstractContextManager[Any]:
    """What the cluster says of a job's machine belongs to the job's trace."""
    return telemetry.tracer().start_as_current_span(
        "cluster's word",
        context=telemetry.context_from(job.traceparent if job else None),
        attributes={"sskai.tenant": job.tenant_id, "sskai.subject": job.job_id} if job else {},
    )


def _cause(attempt: Attempt, one: Observation) -> EndReason:
    """A pod's own word says more than that its machine went, too."""
    told = EXIT_REASONS.get(one.exit_code or 0)
    if told is not None:
        return told
    if one.state is PodState.GONE:
        return EndReason.SPOT_INTERRUPTED if placing.on_spot(attempt.placement) else EndReason.MACHINE_LOST
    return EndReason.ERROR
