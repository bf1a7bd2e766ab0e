"""A deletion that comes while a loop works on the endpoint, on a real database: neither undoes the other."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from sqlalchemy import select, update

from services.inference.domain import Endpoint, State
from services.inference.handlers import HANDLERS
from services.inference.store import Store
from services.inference.tables import EndpointRow
from sskai import claims
from sskai.contract import timestamp
from sskai.database import Database
from sskai.events import v1 as events
from sskai.testing import handle

SERVICE = "inference"
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
IDS = [f"endpoint_{number}" for number in range(20)]


async def request_endpoints(database: Database) -> None:
    requests = [
        events.EndpointRequested(endpoint_id=id_, tenant_id="t", name=id_, requested_at=timestamp(NOW)) for id_ in IDS
    ]
    await asyncio.gather(*(handle(HANDLERS, database, Store, request, NOW) for request in requests))


async def test_no_loop_takes_an_endpoint_whose_deletion_is_being_decided(database: Database) -> None:
    await request_endpoints(database)
    async with database.transaction() as session:
        assert await Store(session).endpoint(IDS[0], "t")
        taken = {row.endpoint_id for row in await claims.claim(database, EndpointRow, limit=len(IDS))}
    assert taken == set(IDS[1:])


async def test_a_deletion_keeps_what_a_loop_recorded_before_it(database: Database) -> None:
    await request_endpoints(database)
    async with database.transaction() as session:
        await session.execute(update(EndpointRow).values(state=State.READY, replicas=1))
    async with database.transaction() as session:
        endpoints = await Store(session).visible_endpoints()

    async def fail(endpoint: Endpoint) -> bool:
        async with database.transaction() as session:
            return await Store(session).fail(endpoint.to(State.FAILED, failure="gone"))

    async def delete(endpoint: Endpoint) -> None:
        event = events.EndpointDeletionRequested(endpoint_id=endpoint.endpoint_id, tenant_id="t")
        await handle(HANDLERS, database, Store, event, NOW)

    failed = await asyncio.gather(*map(fail, endpoints), *map(delete, endpoints))
    async with database.transaction() as session:
        rows = (await session.scalars(select(EndpointRow).order_by(EndpointRow.order))).all()
    assert [(row.state, row.failure, row.replicas) for row in rows] == [
        (State.DELETING, "gone" if told else "", 0 if told else 1) for told in failed[: len(endpoints)]
    ]
