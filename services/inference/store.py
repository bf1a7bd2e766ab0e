"""Inference's tables, and the way from rows to values and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from services.inference.domain import VISIBLE, Endpoint, State
from services.inference.tables import EndpointRow, ModelVersionRow
from sskai import telemetry

_FIELDS = (
    "endpoint_id",
    "tenant_id",
    "name",
    "kind",
    "model_id",
    "version",
    "base_model_id",
    "base_uri",
    "artifact_uri",
    "sample_rate",
    "requested_at",
    "replicas",
    "tries",
    "failure",
    "canary_of",
    "promotion_mode",
)


def endpoint_of(row: EndpointRow) -> Endpoint:
    values = {field: getattr(row, field) for field in _FIELDS}
    return Endpoint(**values, order=row.order, state=State(row.state))


class Store:
    """One transaction's view of the tables."""

    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def endpoint(self, endpoint_id: str, tenant_id: str) -> Endpoint | None:
        """The tenant's endpoint, locked until the transaction ends: a loop may be recording how it is."""
        row = await self.session.get(EndpointRow, endpoint_id, with_for_update=True)
        return endpoint_of(row) if row is not None and row.tenant_id == tenant_id else None

    async def visible_endpoints(self) -> list[Endpoint]:
        """All that requests may name, oldest first, each with the job that made its version."""
        of_version = (
            (ModelVersionRow.model_id == EndpointRow.model_id)
            & (ModelVersionRow.version == EndpointRow.version)
            & (ModelVersionRow.tenant_id == EndpointRow.tenant_id)
        )
        statement = select(EndpointRow, ModelVersionRow.job_id, ModelVersionRow.traceparent)
        statement = statement.outerjoin(ModelVersionRow, of_version).where(EndpointRow.state.in_(VISIBLE))
        return [
            replace(endpoint_of(row), made_by=job_id or "", made_in=traceparent or "")
            for row, job_id, traceparent in await self.session.execute(statement.order_by(EndpointRow.order))
        ]

    async def add(self, endpoint: Endpoint) -> None:
        """Remember a new endpoint, due at once; one that is known already stays as it is."""
        values = {field: getattr(endpoint, field) for field in _FIELDS}
        values["traceparent"] = telemetry.current_traceparent() or ""
        await self.session.execute(
            upsert(EndpointRow)
            .values(**values, state=endpoint.state)
            .on_conflict_do_nothing(index_elements=["endpoint_id"])
        )

    async def save(self, endpoint: Endpoint) -> None:
        """Write its state and take it from whoever has claimed it: their result is dropped, and it is due again."""
        await self.session.execute(
            update(EndpointRow)
            .where(EndpointRow.endpoint_id == endpoint.endpoint_id)
            .values(
                state=endpoint.state,
                replicas=endpoint.replicas,
                failure=endpoint.failure,
                due_at=EndpointRow.requested_at,
                lease_until=None,
                lease_token=None,
            )
        )

    async def begin_loading(self, row: EndpointRow, endpoint: Endpoint) -> bool:
        """Record a try under the claim's token; False: somebody else has the row."""
        result = await self.session.execute(
            update(EndpointRow)
            .where(EndpointRow.endpoint_id == endpoint.endpoint_id, EndpointRow.lease_token == row.lease_token)
            .values(state=endpoint.state, tries=endpoint.tries)
            .returning(EndpointRow.endpoint_id)
        )
        return result.first() is not None

    async def scale(self, endpoint: Endpoint, replicas: int) -> bool:
        """Record how many replicas a ready endpoint has; False: it has so many already, or is no longer ready."""
        result = await self.session.execute(
            update(EndpointRow)
            .where(EndpointRow.endpoint_id == endpoint.endpoint_id)
            .where(EndpointRow.state == State.READY, EndpointRow.replicas != replicas)
            .values(replicas=replicas)
            .returning(EndpointRow.endpoint_id)
        )
        return result.first() is not None

    async def fail(self, endpoint: Endpoint) -> bool:
        """Record that a ready endpoint cannot answer any more; False: it is no longer ready."""
        result = await self.session.execute(
            update(EndpointRow)
            .where(EndpointRow.endpoint_id == endpoint.endpoint_id, EndpointRow.state == State.READY)
            .values(state=endpoint.state, failure=endpoint.failure, replicas=0)
            .returning(EndpointRow.endpoint_id)
        )
        return result.first() is not None

    async def settle(self, endpoint: Endpoint, ready_at: datetime | None) -> None:
        """Write how an endpoint in pods is, by the loop that keeps its replicas."""
        values: dict[str, Any] = {"state": endpoint.state, "replicas": endpoint.replicas, "failure": endpoint.failure}
        if ready_at is not None:
            values["ready_at"] = ready_at
        await self.session.execute(
            update(EndpointRow).where(EndpointRow.endpoint_id == endpoint.endpoint_id).values(values)
        )

    async def remember_version(self, row: ModelVersionRow) -> None:
        values = {column.key: getattr(row, column.key) for column in ModelVersionRow.__table__.columns}
        await self.session.execute(upsert(ModelVersionRow).values(**values).on_conflict_do_nothing())

    async def version(self, endpoint: Endpoint) -> ModelVersionRow | None:
        """Where an endpoint's version comes from; None: the base itself, or not told yet."""
        row = await self.session.get(ModelVersionRow, (endpoint.model_id, endpoint.version))
        return row if row is not None and row.tenant_id == endpoint.tenant_id else None

    async def versions(self, endpoints: Sequence[Endpoint]) -> dict[tuple[str, int], ModelVersionRow]:
        """The versions behind several endpoints of one tenant."""
        statement = select(ModelVersionRow).where(
            ModelVersionRow.tenant_id.in_({endpoint.tenant_id for endpoint in endpoints}),
            ModelVersionRow.model_id.in_({endpoint.model_id for endpoint in endpoints}),
        )
        return {(row.model_id, row.version): row for row in await self.session.scalars(statement)}
