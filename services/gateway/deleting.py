"""Versions of datasets and models go when their owner says so and nothing uses them; their objects go a little later.

In one transaction the version is marked, the fact is told, and its objects are put down for the loop that deletes them.
Whoever takes a version into use locks its row first (`keep=True` of the library), so that neither passes the other.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from functools import partial

import structlog
from google.protobuf.message import Message
from sqlalchemy import or_, select, text
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from services.gateway.aliases import Aliases
from services.gateway.endpoints import EndpointState, EndpointView
from services.gateway.store import Store
from services.gateway.tables import ACTIVE_JOBS, DatasetRow, EndpointRow, FineTuneRow, JobRow, ModelRow, PurgeRow
from services.gateway.values import Dataset, Model
from sskai import claims
from sskai.contract import timestamp
from sskai.database import Database
from sskai.events import v1 as events
from sskai.objects import Objects

log = structlog.get_logger()

LEASE_SECONDS = 600.0
AGAIN_SECONDS = 5.0  # a model's endpoint is being taken away
MAX_TOLD_USERS = 5


class InUseError(Exception):
    """The version stays: who uses it stands in the text."""

    def __init__(self, users: list[str]) -> None:
        more = len(users) - MAX_TOLD_USERS
        super().__init__(", ".join(users[:MAX_TOLD_USERS]) + (f" and {more} more" if more > 0 else ""))


class Deleting:
    """Of one tenant, in one transaction. Both methods return the facts to tell, and raise InUseError."""

    def __init__(self, session: AsyncSession, objects: Objects, tenant_id: str, now: datetime) -> None:
        self._session = session
        self._objects = objects
        self._tenant_id = tenant_id
        self._now = now

    async def dataset(self, dataset: Dataset) -> list[Message]:
        """None are told if it is gone already."""
        living = (DatasetRow.dataset_id == dataset.dataset_id) & DatasetRow.deleted_at.is_(None)
        query = select(DatasetRow).where(DatasetRow.tenant_id == self._tenant_id, living)
        row = await self._session.scalar(query.with_for_update())
        if row is None:
            return []
        users = [f"job {job.job_id}" for job in await self._active_jobs() if job.dataset_id == row.dataset_id]
        users += [f"endpoint {name}" for name in await self._endpoints_trained_on(row.uri)]
        if users:
            raise InUseError(users)
        row.deleted_at = self._now
        await self._purge(self._objects.key(row.uri))
        return [
            events.DatasetDeleted(
                dataset_id=row.dataset_id,
                tenant_id=row.tenant_id,
                name=row.name,
                version=row.version,
                deleted_at=timestamp(self._now),
            )
        ]

    async def model(self, model: Model) -> list[Message]:
        """With it goes the endpoint that was made for it alone. None are told if it is gone already."""
        this = (ModelRow.model_id == model.model_id) & (ModelRow.version == model.version)
        query = select(ModelRow).where(ModelRow.tenant_id == self._tenant_id, this, ModelRow.deleted_at.is_(None))
        row = await self._session.scalar(query.with_for_update())
        if row is None:
            return []
        own = await self._own_endpoint(row)
        serving = [one for one in await self._living_endpoints() if _serves(one, row)]
        users = [f"endpoint {one.name}" for one in serving if one is not own]
        users += [f"job {job.job_id}" for job in await self._active_jobs() if _trains(job, row)]
        users += [f"model {name}" for name in await self._versions_on(row)]
        if users:
            raise InUseError(users)
        told: list[Message] = []
        if own is not None and own in serving:
            told.append(await self._taken_away(own))
        await self._without_aliases(row)
        row.deleted_at = self._now
        uri = row.artifact_uri or row.base_uri
        folder = "" if row.origin == "code" else "/"
        await self._purge(self._objects.key(uri).rstrip("/") + folder, row.model_id, row.version)
        told.append(
            events.ModelDeleted(
                model_id=row.model_id,
                tenant_id=row.tenant_id,
                version=row.version,
                name=row.name,
                deleted_at=timestamp(self._now),
            )
        )
        return told

    async def _active_jobs(self) -> list[JobRow]:
        query = select(JobRow).where(JobRow.tenant_id == self._tenant_id, text(ACTIVE_JOBS))
        return list(await self._session.scalars(query))

    async def _living_endpoints(self) -> list[EndpointRow]:
        gone = (EndpointState.DELETING, EndpointState.DELETED)
        query = select(EndpointRow).where(EndpointRow.tenant_id == self._tenant_id, EndpointRow.state.not_in(gone))
        return list(await self._session.scalars(query))

    async def _endpoints_trained_on(self, uri: str) -> list[str]:
        """Drift is measured against what they were trained on, and a retrain goes on from it."""
        query = select(ModelRow.model_id, ModelRow.version).where(
            ModelRow.tenant_id == self._tenant_id, ModelRow.dataset_uri == uri
        )
        trained = {(model_id, version) for model_id, version in await self._session.execute(query)}
        return [one.name for one in await self._living_endpoints() if (one.model_id, one.version) in trained]

    async def _own_endpoint(self, row: ModelRow) -> EndpointRow | None:
        if not row.job_id:
            return None
        made = select(FineTuneRow.endpoint_id).where(FineTuneRow.job_id == row.job_id)
        query = select(EndpointRow).where(
            EndpointRow.tenant_id == self._tenant_id, EndpointRow.endpoint_id.in_(made.scalar_subquery())
        )
        found = await self._session.scalar(query.with_for_update())
        # One that went on to another version answers for more than this one.
        return found if found is not None and (found.model_id, found.version) == (row.model_id, row.version) else None

    async def _versions_on(self, row: ModelRow) -> list[str]:
        """Trained versions stand on the model that they were trained from."""
        if row.artifact_uri:
            return []
        query = select(ModelRow.name, ModelRow.version).where(
            ModelRow.tenant_id == self._tenant_id,
            ModelRow.base_model_id == row.model_id,
            ModelRow.model_id != row.model_id,
            ModelRow.deleted_at.is_(None),
        )
        return [f"{name}@{version}" for name, version in await self._session.execute(query)]

    async def _taken_away(self, endpoint: EndpointRow) -> events.EndpointDeletionRequested:
        event = events.EndpointDeletionRequested(
            endpoint_id=endpoint.endpoint_id, tenant_id=self._tenant_id, requested_at=timestamp(self._now)
        )
        await Store(self._session).follow_endpoint(event)
        return event

    async def _without_aliases(self, row: ModelRow) -> None:
        aliases = Aliases(self._session)
        for one in await aliases.of(self._tenant_id, row.name):
            if (one.model_id, one.version) == (row.model_id, row.version):
                await aliases.move(self._tenant_id, row.name, one.alias, (row.model_id, None), at=self._now)

    async def _purge(self, key: str, model_id: str = "", version: int = 0) -> None:
        await purge(self._session, key, self._tenant_id, self._now, model_id=model_id, version=version)


async def purge(
    session: AsyncSession,
    key: str,
    tenant_id: str,
    now: datetime,
    *,
    model_id: str = "",
    version: int = 0,
    in_seconds: float = 0.0,
) -> None:
    """Work for the loop: the objects whose keys begin so go, unless something that is there names them then."""
    values = {"tenant_id": tenant_id, "asked_at": now, "model_id": model_id, "version": version}
    values |= {"due_at": claims.later(in_seconds) if in_seconds else claims.at_once()}
    statement = upsert(PurgeRow).values(key=key, **values)
    await session.execute(statement.on_conflict_do_update(index_elements=["key"], set_=values))


def _serves(endpoint: EndpointRow, model: ModelRow) -> bool:
    version = model.version if model.artifact_uri else 0
    tried = EndpointView.model_validate(endpoint.view).canary_version
    return endpoint.model_id == model.model_id and version in (endpoint.version, tried)


def _trains(job: JobRow, model: ModelRow) -> bool:
    spec = events.JobSpec.FromString(job.spec or b"")
    if model.artifact_uri:
        return model.artifact_uri in (spec.model.uri, spec.champion.artifact_uri)
    return spec.model.model_id == model.model_id


async def purge_deleted(database: Database, objects: Objects) -> None:
    """Until nothing is due."""
    while claimed := await claims.claim(database, PurgeRow, limit=20, lease_seconds=LEASE_SECONDS):
        for row in claimed:
            async with database.transaction() as session:
                served, named = await _is_served(session, row), await _is_named(session, objects.uri(row.key))
            if not served and not named:
                gone = await asyncio.to_thread(partial(objects.delete, row.key))
                log.info("deleted for good", key=row.key, objects=gone)
            async with database.transaction() as session:
                await claims.release(session, row, due_in_seconds=AGAIN_SECONDS if served and not named else None)


async def _is_served(session: AsyncSession, row: PurgeRow) -> bool:
    """Whether an endpoint of the model is not gone yet."""
    if not row.model_id:
        return False
    this = (EndpointRow.model_id == row.model_id) & (EndpointRow.version.in_((0, row.version)))
    query = select(EndpointRow.endpoint_id).where(
        EndpointRow.tenant_id == row.tenant_id, this, EndpointRow.state != EndpointState.DELETED
    )
    return await session.scalar(query.limit(1)) is not None


async def _is_named(session: AsyncSession, uri: str) -> bool:
    """Whether something that was not deleted lies there: the same content came in again, or is used elsewhere."""
    exact = (uri, uri.rstrip("/"))
    dataset = select(DatasetRow.dataset_id).where(DatasetRow.uri.in_(exact), DatasetRow.deleted_at.is_(None))
    if await session.scalar(dataset.limit(1)) is not None:
        return True
    lies_there = or_(ModelRow.base_uri.in_(exact), ModelRow.artifact_uri.in_(exact))
    model = select(ModelRow.model_id).where(lies_there, ModelRow.deleted_at.is_(None))
    return await session.scalar(model.limit(1)) is not None
