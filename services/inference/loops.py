"""Making what was asked for real: load, unload, keep loaded after a restart, put to sleep, tell samples."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime

import structlog
from google.protobuf.message import Message
from sqlalchemy.ext.asyncio import AsyncSession

from services.inference import domain
from services.inference.artifacts import LoadError
from services.inference.domain import Endpoint, Kind, State
from services.inference.fleet import Fleet
from services.inference.rollouts import Rollouts
from services.inference.router import Router
from services.inference.samples import MAX_BATCH, Samples
from services.inference.store import Store, endpoint_of
from services.inference.tables import EndpointRow
from sskai import claims, telemetry
from sskai.contract import timestamp
from sskai.database import Database
from sskai.delivery import tell
from sskai.events import v1 as events

log = structlog.get_logger()

# Short, so that a killed process's work is taken up soon. A load that takes longer is not spoilt: its token stands
# until another process really claims the row, and that one then finds its own copy loaded the next time.
LEASE_SECONDS = 10.0


@dataclass(frozen=True)
class World:
    """What the loops work on."""

    database: Database
    fleet: Fleet
    router: Router
    samples: Samples
    idle_seconds: float
    # Routes are read by several loops; one at a time, so that an older reading never replaces a newer one.
    reading: asyncio.Lock = field(default_factory=asyncio.Lock)


async def settle_endpoints(world: World) -> None:
    """Load what was requested and unload what was deleted, one at a time, and tell how it ended."""
    here = EndpointRow.kind != Kind.SPOT
    wanted = EndpointRow.state.in_([State.REQUESTED, State.LOADING, State.DELETING]) & here
    while rows := await claims.claim(world.database, EndpointRow, limit=1, lease_seconds=LEASE_SECONDS, where=wanted):
        endpoint = endpoint_of(rows[0])
        with telemetry.within(rows[0].traceparent):
            if endpoint.state == State.DELETING:
                await _delete(world, rows[0], endpoint)
            else:
                await _load(world, rows[0], endpoint)
        await read_routes(world)


async def _delete(world: World, row: EndpointRow, endpoint: Endpoint) -> None:
    await world.fleet.unload(endpoint.endpoint_id)
    deleted = endpoint.to(State.DELETED)
    now = datetime.now(UTC)
    async with world.database.transaction() as session:
        if await claims.release(session, row, due_in_seconds=None, state=deleted.state, replicas=0):
            await _tell_of(
                endpoint,
                session,
                events.EndpointDeleted(
                    endpoint_id=endpoint.endpoint_id, tenant_id=endpoint.tenant_id, deleted_at=timestamp(now)
                ),
            )


async def _load(world: World, row: EndpointRow, endpoint: Endpoint) -> None:
    loading = endpoint.to(State.LOADING, tries=endpoint.tries + 1) if endpoint.state == State.REQUESTED else endpoint
    async with world.database.transaction() as session:
        if not await Store(session).begin_loading(row, loading):
            return
    attributes: dict[str, str | int] = {
        "sskai.tenant": loading.tenant_id,
        "sskai.endpoint": loading.told_as,
        "sskai.model": loading.model_id,
        "sskai.model.version": loading.version,
    }
    try:
        with telemetry.span_beside("load endpoint", attributes):
            await world.fleet.load(loading, await _manifest_sha256(world, loading))
    except LoadError as error:
        await _record_failure(world, row, loading, error)
    else:
        await _record_ready(world, row, loading.to(State.READY, replicas=1))


async def _record_ready(world: World, row: EndpointRow, ready: Endpoint) -> None:
    now = datetime.now(UTC)
    async with world.database.transaction() as session:
        if await claims.release(
            session, row, due_in_seconds=None, state=ready.state, replicas=ready.replicas, ready_at=now
        ):
            await _tell_of(
                ready,
                session,
                events.EndpointReady(
                    endpoint_id=ready.endpoint_id,
                    tenant_id=ready.tenant_id,
                    name=ready.name,
                    model_id=ready.model_id,
                    version=ready.version,
                    load_seconds=max(0.0, (now - row.requested_at).total_seconds()),
                    ready_at=timestamp(now),
                ),
            )


async def _record_failure(world: World, row: EndpointRow, loading: Endpoint, error: LoadError) -> None:
    again = domain.retry_in_seconds(error.reason, loading.tries)
    log.warning("cannot load", endpoint=loading.endpoint_id, error=str(error), again_in_seconds=again)
    async with world.database.transaction() as session:
        if again is not None:
            await claims.release(session, row, due_in_seconds=again)
            return
        failed = loading.to(State.FAILED, failure=str(error))
        if await claims.release(session, row, due_in_seconds=None, state=failed.state, failure=failed.failure):
            await _tell_of(failed, session, _failed(failed, error))


async def _tell_of(endpoint: Endpoint, session: AsyncSession, event: Message) -> None:
    """A canary is nobody's endpoint: its rollout tells what becomes of it."""
    if not endpoint.canary_of:
        await tell(session, event)


def _failed(endpoint: Endpoint, error: LoadError) -> events.EndpointFailed:
    return events.EndpointFailed(
        endpoint_id=endpoint.endpoint_id,
        tenant_id=endpoint.tenant_id,
        reason=str(error),
        advice=error.reason.advice,
        failed_at=timestamp(datetime.now(UTC)),
    )


async def _manifest_sha256(world: World, endpoint: Endpoint) -> str | None:
    async with world.database.transaction() as session:
        version = await Store(session).version(endpoint)
    if version is None or version.artifact_uri != endpoint.artifact_uri:
        return None
    return version.manifest_sha256


async def read_routes(world: World) -> None:
    """Route by what the database says now; what is gone from there gives its memory back."""
    async with world.reading:
        async with world.database.transaction() as session:
            endpoints = await Store(session).visible_endpoints()
            splits = await Rollouts(session).splits()
        await world.router.replace(endpoints, splits)
    for endpoint_id in world.router.surplus():
        await world.fleet.unload(endpoint_id)


async def keep_loaded(world: World) -> None:
    """Load what is ready by the database's word but not here: after a restart, or because somebody waits for it."""
    for endpoint in world.router.to_load():
        # Both parts: who waited is answered, and known to nobody any more, as soon as it is loaded.
        waited, started = world.router.waited_seconds(endpoint.endpoint_id), time.monotonic()
        try:
            await world.fleet.load(endpoint, await _manifest_sha256(world, endpoint))
        except LoadError as error:
            if error.reason.retries:
                log.warning("cannot load again yet", endpoint=endpoint.endpoint_id, error=str(error))
                continue
            async with world.database.transaction() as session:
                failed = endpoint.to(State.FAILED, failure=str(error))
                if await Store(session).fail(failed):
                    await _tell_of(failed, session, _failed(failed, error))
        else:
            loading = time.monotonic() - started
            await _scale(world, endpoint, replicas=1, reason="request", cold_start_seconds=waited + loading)


async def sleep_idle(world: World) -> None:
    """Take serverless endpoints that nobody asks out of memory."""
    for endpoint in world.fleet.idle(world.idle_seconds):
        # Told and known to the routes first: else the loop that keeps endpoints loaded would load it again.
        await _scale(world, endpoint, replicas=0, reason="idle")
        await read_routes(world)
        await world.fleet.unload(endpoint.endpoint_id)


async def _scale(
    world: World, endpoint: Endpoint, *, replicas: int, reason: str, cold_start_seconds: float = 0.0
) -> None:
    async with world.database.transaction() as session:
        if await Store(session).scale(endpoint, replicas):
            await _tell_of(
                endpoint,
                session,
                events.EndpointScaled(
                    endpoint_id=endpoint.endpoint_id,
                    tenant_id=endpoint.tenant_id,
                    replicas=replicas,
                    previous_replicas=1 - replicas,
                    reason=reason,
                    cold_start_seconds=cold_start_seconds,
                    scaled_at=timestamp(datetime.now(UTC)),
                ),
            )


async def tell_samples(world: World) -> None:
    """Tell the sampled inferences that wait."""
    while await world.samples.tell(world.database) == MAX_BATCH:
        pass
