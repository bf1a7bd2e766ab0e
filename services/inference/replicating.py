"""The loop that keeps endpoints of kind spot at their replicas: decide in one transaction, act on the cluster outside
of any, record in another. A crash in between repeats the act, and each is idempotent: a replica has its number and its
token before it is launched.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import structlog

from services.inference import replica_store
from services.inference.replica_set import Reason, ReplicaState
from services.inference.replica_store import ReplicaStore
from services.inference.replica_turn import Acts, Turn
from services.inference.replicas import Replicas
from services.inference.settings import Settings
from services.inference.tables import ReplicaSetRow
from sskai import claims, telemetry
from sskai.cluster import Cluster, ClusterUnavailableError, Machine, NoCapacityError, RefusedError
from sskai.database import Database
from sskai.metrics import LOOP_ERRORS

log = structlog.get_logger()

SETS_AT_ONCE = 20
LEASE_SECONDS = 60.0
BUG_PAUSE_SECONDS = 10.0

Answer = Machine | Exception | None


@dataclass
class World:
    """What the loops of replicas work on."""

    database: Database
    cluster: Cluster
    settings: Settings
    replicas: Replicas
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    # What this process remembers of the cluster's lists (watching_replicas.py): machines that a list lacked, and pods
    # that were deleted.
    missing: dict[str, datetime] = field(default_factory=dict)
    deleted: dict[str, datetime] = field(default_factory=dict)


async def keep_replicas(world: World) -> None:
    """Every endpoint that is due gets its next step."""
    rows = await claims.claim(world.database, ReplicaSetRow, limit=SETS_AT_ONCE, lease_seconds=LEASE_SECONDS)
    await asyncio.gather(*(_keep(world, row) for row in rows))


async def _keep(world: World, row: ReplicaSetRow) -> None:
    try:
        with telemetry.within(row.traceparent):
            acts = await _decide(world, row)
            if acts is not None:
                await _act(world, row, acts)
    except ConnectionError:
        raise  # a part that all need is away; the loop waits for it
    except Exception:
        # A bug met by one endpoint does not hold up the others.
        LOOP_ERRORS.labels(loop="keep_replicas").inc()
        log.exception("a turn failed", endpoint=row.endpoint_id)
        async with world.database.transaction() as session:
            await claims.release(session, row, due_in_seconds=BUG_PAUSE_SECONDS)


async def _decide(world: World, claimed: ReplicaSetRow) -> Acts | None:
    async with world.database.transaction() as session:
        row = await ReplicaStore(session).claimed_set(claimed)
        if row is None:
            return None
        turn = Turn(session, row, world.settings, world.clock(), world.replicas.listening_since)
        acts = await turn.take()
        if acts is None:
            await session.flush()
            await claims.release(session, claimed, due_in_seconds=None)
        return acts


async def _act(world: World, claimed: ReplicaSetRow, acts: Acts) -> None:
    cluster = world.cluster
    launched = await asyncio.gather(*(_ask(cluster.launch(pod)) for _, pod in acts.launch))
    stopped = await asyncio.gather(*(_ask(cluster.drain(one.machine_id)) for one in acts.stop))
    deleted = await asyncio.gather(*(_ask(cluster.delete(one.machine_id)) for one in acts.delete))
    async with world.database.transaction() as session:
        store, now = ReplicaStore(session), world.clock()
        if await store.claimed_set(claimed) is None:
            return
        for (replica_id, _), answer in zip(acts.launch, launched, strict=True):
            await _record_launch(store, replica_id, answer, now)
        for one, answer in zip(acts.stop, stopped, strict=True):
            if answer is None and (row := await store.replica(one.replica_id)):
                row.stop_sent_at = now
        for one, answer in zip(acts.delete, deleted, strict=True):
            if answer is None and (row := await store.replica(one.replica_id)):
                row.deleted_at = now
        await session.flush()
        denied = any(isinstance(answer, NoCapacityError) for answer in launched)
        await claims.release(session, claimed, due_in_seconds=0.0 if denied else world.settings.replica_turn_seconds)


async def _ask(question: Coroutine[Any, Any, Machine | None]) -> Answer:
    """A cluster that does not answer says nothing: the same is asked again."""
    try:
        return await question
    except (NoCapacityError, RefusedError) as error:
        return error
    except ClusterUnavailableError as error:
        log.warning("cluster did not answer", error=str(error))
        return error


async def _record_launch(store: ReplicaStore, replica_id: str, answer: Answer, now: datetime) -> None:
    row = await store.replica(replica_id)
    if row is None:
        return
    if isinstance(answer, Machine):
        row.machine_id = answer.machine_id
        row.launched_at = row.metered_until = answer.launched_at
        # It may have been heard, or have failed, before this is written.
        if row.state == ReplicaState.REQUESTED:
            row.state = ReplicaState.LAUNCHING
        row.deleted_at = None
    elif row.state == ReplicaState.REQUESTED and isinstance(answer, NoCapacityError | RefusedError):
        reason = Reason.NO_CAPACITY if isinstance(answer, NoCapacityError) else Reason.REFUSED
        replica_store.end(row, reason, now, str(answer))
        row.deleted_at = now


async def wake_asked(world: World, asked: Callable[[], Sequence[str]]) -> None:
    """Somebody waits for endpoints that have no replica."""
    if endpoint_ids := asked():
        async with world.database.transaction() as session:
            await ReplicaStore(session).ask(endpoint_ids, world.clock())
