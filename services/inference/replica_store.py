"""The tables of replicas, and the way from rows to values and back."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from google.protobuf import json_format
from sqlalchemy import func, or_, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from services.inference.domain import Endpoint
from services.inference.replica_set import Reason, Replica, ReplicaState
from services.inference.scaling import Scale
from services.inference.tables import ReplicaRow, ReplicaSetRow
from sskai import telemetry
from sskai.events import v1 as events

_FIELDS = (
    "endpoint_id",
    "number",
    "reason",
    "detail",
    "machine_id",
    "url",
    "load_seconds",
    "requested_at",
    "launched_at",
    "ready_at",
    "heard_at",
    "terminates_at",
    "draining_at",
    "ended_at",
    "metered_until",
    "active",
    "waiting",
    "tokens_per_second",
)
# What a loop's turn may write; the rest is written by whoever launches or hears the replica.
_TURN_FIELDS = ("state", "reason", "detail", "draining_at", "ended_at", "metered_until")
TOKEN_BYTES = 32


def replica_of(row: ReplicaRow) -> Replica:
    values = {field: getattr(row, field) for field in _FIELDS}
    return Replica(
        **values,
        state=ReplicaState(row.state),
        placement=placement_of(row.placement),
        weights=(row.base_uri, row.artifact_uri),
    )


def placement_of(value: Mapping[str, Any]) -> events.Placement:
    return json_format.ParseDict(dict(value), events.Placement(), ignore_unknown_fields=True)


def placement_dict(placement: events.Placement) -> dict[str, Any]:
    return json_format.MessageToDict(placement, preserving_proto_field_name=True)


def scale_of(row: ReplicaSetRow) -> Scale:
    return Scale(row.wanted, row.above_since, row.below_since, row.scaled_at, row.busy_at)


class ReplicaStore:
    """One transaction's view."""

    def __init__(self, session: AsyncSession) -> None:
        self.session = session

    async def add_set(
        self,
        endpoint: Endpoint,
        count: events.ReplicaCount,
        placements: Iterable[events.Placement],
        engine: str,
        project: str = "",
    ) -> None:
        """Of a new endpoint, due at once; one that is known already stays as it is."""
        maximum = max(1, count.maximum, count.minimum)
        await self.session.execute(
            upsert(ReplicaSetRow)
            .values(
                endpoint_id=endpoint.endpoint_id,
                tenant_id=endpoint.tenant_id,
                minimum=count.minimum,
                maximum=maximum,
                on_demand=min(count.on_demand, maximum),
                most_tokens_per_second=count.tokens_per_second,
                engine=engine,
                project=project,
                placements=[placement_dict(one) for one in placements],
                # One comes at once, also where none is needed later: it shows that the weights can be served.
                wanted=max(1, count.minimum),
                busy_at=endpoint.requested_at,
                traceparent=telemetry.current_traceparent() or "",
            )
            .on_conflict_do_nothing(index_elements=["endpoint_id"])
        )

    async def copy_set(self, of: str, endpoint: Endpoint) -> None:
        """One replica for a canary, where the endpoint's own may run."""
        row = await self.session.get(ReplicaSetRow, of)
        if row is not None:
            placements = [placement_of(one) for one in row.placements]
            count = events.ReplicaCount(minimum=1, maximum=1, tokens_per_second=row.most_tokens_per_second)
            await self.add_set(endpoint, count, placements, row.engine, row.project)

    async def claimed_set(self, row: ReplicaSetRow) -> ReplicaSetRow | None:
        """The set as it is now, locked; None: the claim was lost."""
        statement = select(ReplicaSetRow).where(
            ReplicaSetRow.endpoint_id == row.endpoint_id, ReplicaSetRow.lease_token == row.lease_token
        )
        found: ReplicaSetRow | None = await self.session.scalar(statement.with_for_update())
        return found

    async def unfinished(self, endpoint_id: str) -> list[ReplicaRow]:
        """All that something is left to do about, locked."""
        statement = select(ReplicaRow).where(
            ReplicaRow.endpoint_id == endpoint_id,
            or_(
                ReplicaRow.state != ReplicaState.ENDED,
                ReplicaRow.deleted_at.is_(None),
                ReplicaRow.metered_until < ReplicaRow.ended_at,
            ),
        )
        return list(await self.session.scalars(statement.order_by(ReplicaRow.number).with_for_update()))

    async def newest(self, endpoint_id: str, limit: int) -> list[Replica]:
        """Ended or not, the newest first."""
        statement = select(ReplicaRow).where(ReplicaRow.endpoint_id == endpoint_id)
        rows = await self.session.scalars(statement.order_by(ReplicaRow.number.desc()).limit(limit))
        return [replica_of(row) for row in rows]

    async def add(self, replica: Replica, tenant_id: str) -> ReplicaRow:
        row = ReplicaRow(
            **{field: getattr(replica, field) for field in _FIELDS},
            replica_id=replica.replica_id,
            tenant_id=tenant_id,
            token=secrets.token_urlsafe(TOKEN_BYTES),
            capacity=replica.capacity,
            price_usd_per_hour=replica.placement.price_usd_per_hour,
            placement=placement_dict(replica.placement),
            base_uri=replica.weights[0],
            artifact_uri=replica.weights[1],
            state=replica.state,
        )
        self.session.add(row)
        await self.session.flush()
        return row

    async def replica(self, replica_id: str) -> ReplicaRow | None:
        return await self.session.get(ReplicaRow, replica_id, with_for_update=True)

    async def on_machine(self, machine_id: str) -> ReplicaRow | None:
        """The live replica that runs there, locked."""
        statement = select(ReplicaRow).where(
            ReplicaRow.machine_id == machine_id, ReplicaRow.state != ReplicaState.ENDED
        )
        row: ReplicaRow | None = await self.session.scalar(statement.with_for_update())
        return row

    async def on_machines(self) -> dict[str, ReplicaRow]:
        """All live replicas that have a machine, by it."""
        statement = select(ReplicaRow).where(ReplicaRow.state != ReplicaState.ENDED, ReplicaRow.machine_id != "")
        return {row.machine_id: row for row in await self.session.scalars(statement)}

    async def routable(self) -> list[ReplicaRow]:
        """Those that answer, by the last word that was heard of them."""
        statement = select(ReplicaRow).where(ReplicaRow.state == ReplicaState.READY)
        return list(await self.session.scalars(statement.order_by(ReplicaRow.endpoint_id, ReplicaRow.number)))

    async def wake(self, endpoint_id: str) -> None:
        """Its set is due at once."""
        await self.session.execute(
            update(ReplicaSetRow).where(ReplicaSetRow.endpoint_id == endpoint_id).values(due_at=func.clock_timestamp())
        )

    async def ask(self, endpoint_ids: Sequence[str], now: datetime) -> None:
        """Somebody came and found no replica."""
        await self.session.execute(
            update(ReplicaSetRow)
            .where(ReplicaSetRow.endpoint_id.in_(endpoint_ids))
            .values(asked_at=now, due_at=func.clock_timestamp())
        )

    async def purse(self, endpoint_id: str, tenant_id: str) -> ReplicaSetRow | None:
        """The set, locked."""
        statement = select(ReplicaSetRow).filter_by(endpoint_id=endpoint_id, tenant_id=tenant_id)
        found: ReplicaSetRow | None = await self.session.scalar(statement.with_for_update())
        return found

    async def count_tokens(self, endpoint_id: str, input_tokens: int, output_tokens: int) -> None:
        await self.session.execute(
            update(ReplicaSetRow)
            .where(ReplicaSetRow.endpoint_id == endpoint_id)
            .values(
                input_tokens=ReplicaSetRow.input_tokens + input_tokens,
                output_tokens=ReplicaSetRow.output_tokens + output_tokens,
            )
        )


def write(row: ReplicaRow, replica: Replica) -> None:
    """What a turn has decided."""
    for field in _TURN_FIELDS:
        value = getattr(replica, field)
        if getattr(row, field) != value:
            setattr(row, field, value)


def end(row: ReplicaRow, reason: Reason, at: datetime, detail: str = "") -> None:
    """A replica is no more; of several reasons the first one stands."""
    ended = replica_of(row).to(ReplicaState.ENDED, reason, at)
    row.state, row.reason, row.ended_at = ended.state, ended.reason, ended.ended_at
    row.detail = row.detail or detail
