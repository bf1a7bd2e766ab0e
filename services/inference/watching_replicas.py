"""What the cluster says of replicas: who has ended, whose machine will be taken, and pods that nobody knows of."""

from __future__ import annotations

from datetime import datetime

import structlog

from services.inference.replica_set import Reason, ReplicaState
from services.inference.replica_store import ReplicaStore, end
from services.inference.replicating import World
from services.inference.tables import ReplicaRow
from sskai.cluster import ClusterUnavailableError, Observation, PodState, telling
from sskai.cluster.telling import EARLIER
from sskai.delivery import tell

log = structlog.get_logger()

# A list may lag behind a launch, and behind itself: a replica is gone when lists have lacked it for so long, and its
# launch is not that young.
MISSING_SECONDS, LISTED_WITHIN_SECONDS = 3.0, 30.0
DELETE_AGAIN_SECONDS = 5.0
MOST_DELETES = 20


async def watch_replicas(world: World) -> None:
    """One list of the cluster, and what follows from it. A cluster that does not answer says nothing."""
    try:
        observed = await world.cluster.observe()
    except ClusterUnavailableError as error:
        log.warning("cluster did not answer", error=str(error))
        return
    now = world.clock()
    async with world.database.transaction() as session:
        live = await ReplicaStore(session).on_machines()
    seen = {one.machine_id for one in observed}
    strays: list[Observation] = []
    for one in observed:
        row = live.get(one.machine_id)
        if row is not None and (row.endpoint_id, row.number) == (one.job_id, one.attempt):
            if _news(row, one):
                await _take(world, row, one, now)
        else:
            strays.append(one)
    for row in _lost(world, live, seen, now):
        word = Observation(row.machine_id, row.endpoint_id, row.number, PodState.GONE)
        await _take(world, row, word, now)
    world.deleted = {machine_id: at for machine_id, at in world.deleted.items() if machine_id in seen}
    for one in strays[:MOST_DELETES]:
        await _delete_stray(world, one, now)


def _news(row: ReplicaRow, one: Observation) -> bool:
    return one.denied or one.state is not PodState.RUNNING or one.terminates_at not in (None, row.terminates_at)


def _lost(world: World, live: dict[str, ReplicaRow], seen: set[str], now: datetime) -> list[ReplicaRow]:
    unseen = {machine_id: row for machine_id, row in live.items() if machine_id not in seen}
    world.missing = {machine_id: at for machine_id, at in world.missing.items() if machine_id in unseen}
    lost = []
    for machine_id, row in unseen.items():
        if (now - (row.launched_at or now)).total_seconds() < LISTED_WITHIN_SECONDS:
            continue
        first = world.missing.setdefault(machine_id, now)
        if (now - first).total_seconds() >= MISSING_SECONDS:
            lost.append(row)
    return lost


async def _take(world: World, seen: ReplicaRow, one: Observation, now: datetime) -> None:
    """The cluster's word on one replica, as that is now."""
    async with world.database.transaction() as session:
        row = await ReplicaStore(session).replica(seen.replica_id)
        if row is None or row.state == ReplicaState.ENDED:
            return
        if one.state is PodState.RUNNING and not one.denied:
            if row.terminates_at is None or (one.terminates_at and row.terminates_at - one.terminates_at > EARLIER):
                await tell(session, *telling.notice(one, now))
            row.terminates_at = one.terminates_at
            return
        if one.state is PodState.GONE:
            await tell(session, *telling.loss(one, now))
        at = max(min(one.ended_at or now, now), row.metered_until or row.requested_at)
        end(row, _reason(row, one), at, one.pending if one.denied else _detail(one))
    async with world.database.transaction() as session:
        await ReplicaStore(session).wake(seen.endpoint_id)


def _reason(row: ReplicaRow, one: Observation) -> Reason:
    if one.denied:
        return Reason.NO_CAPACITY
    if one.state is PodState.GONE:
        return Reason.INTERRUPTED if row.capacity == "spot" or row.terminates_at else Reason.MACHINE_LOST
    if row.terminates_at is not None:
        return Reason.INTERRUPTED
    return Reason.LEFT if one.exit_code == 0 else Reason.EXITED


def _detail(one: Observation) -> str:
    return f"its program ended with {one.exit_code}" if one.exit_code else ""


async def _delete_stray(world: World, one: Observation, now: datetime) -> None:
    """A pod that no live replica owns is deleted, again and again until it is gone. One whose launch is not recorded
    yet is let be: the repeated launch finds it."""
    last = world.deleted.get(one.machine_id)
    if last is not None and (now - last).total_seconds() < DELETE_AGAIN_SECONDS:
        return
    async with world.database.transaction() as session:
        row = await ReplicaStore(session).replica(f"{one.job_id}-{one.attempt}")
        if row is not None and row.state != ReplicaState.ENDED and not row.machine_id:
            return
    log.info("deleting a pod that no live replica owns", machine=one.machine_id, endpoint=one.job_id)
    world.deleted[one.machine_id] = now
    try:
        await world.cluster.delete(one.machine_id)
    except ClusterUnavailableError as error:
        log.warning("a pod could not be deleted; trying again", machine=one.machine_id, error=str(error))
