"""Events of one job or offer that come by several topics at once, on a real database: nobody misses anybody."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta

from google.protobuf.message import Message
from sqlalchemy import select

from services.optimizer import catalogue
from services.optimizer.handlers import HANDLERS
from services.optimizer.messages import CAPACITY_TYPES
from services.optimizer.store import Store
from services.optimizer.tables import JobRow, PlanningRow, PriceRow
from sskai import claims, testing
from sskai.contract import timestamp
from sskai.database import Database
from sskai.events import v1 as events
from tests.optimizer.made import NOW, spec, submitted

SERVICE = "optimizer"
IDS = [f"job_{number}" for number in range(20)]
OFFERS = sorted(catalogue.offers_by_key())


async def side_by_side(database: Database, *lanes: Sequence[Message]) -> None:
    """Each lane in its order, as a topic's partition is read, and all lanes at once."""

    async def read(lane: Sequence[Message]) -> None:
        for message in lane:
            await testing.handle(HANDLERS, database, Store, message, NOW)

    await asyncio.gather(*map(read, lanes))


def denied(job_id: str, offer: str = OFFERS[0]) -> events.CapacityDenied:
    return events.CapacityDenied(offer=offer, job_id=job_id, denied_at=timestamp(NOW))


def price(offer: str, usd: float, at: datetime) -> events.PriceObserved:
    cloud, region, zone, instance_type, capacity_type = offer.split("/")
    return events.PriceObserved(
        offer=offer,
        cloud=cloud,
        region=region,
        zone=zone,
        instance_type=instance_type,
        capacity_type=CAPACITY_TYPES[capacity_type],
        price_usd_per_hour=usd,
        observed_at=timestamp(at),
    )


async def test_a_job_that_ends_while_capacity_is_denied_is_not_planned_again(database: Database) -> None:
    await side_by_side(database, *([submitted(job_id)] for job_id in IDS))
    lanes: list[list[Message]] = []
    for place, job_id in enumerate(IDS):
        both: list[list[Message]] = [
            [denied(job_id, OFFERS[place])],
            [events.JobCancelled(job_id=job_id, tenant_id="tenant_a", ended_at=timestamp(NOW))],
        ]
        lanes += both if place % 2 else reversed(both)
    await side_by_side(database, *lanes)
    async with database.transaction() as session:
        assert all(job.ended for job in await session.scalars(select(JobRow)))
        assert not (await session.scalars(select(PlanningRow))).all()


async def test_jobs_and_what_is_left_of_them_are_asked_for_once_per_cause(database: Database) -> None:
    lanes: list[list[Message]] = []
    for place, job_id in enumerate(IDS):
        requeued = events.JobRequeued(job_id=job_id, tenant_id="tenant_a", spec=spec(), attempt=1, steps_done=8)
        lanes += [[submitted(job_id), requeued], [denied(job_id, OFFERS[place % 3])]]
    await side_by_side(database, *lanes)
    async with database.transaction() as session:
        rows = await session.execute(select(PlanningRow.job_id, PlanningRow.cause))
        asked = sorted((job_id, cause) for job_id, cause in rows if not cause.startswith("denied"))
    assert asked == sorted((job_id, cause) for job_id in IDS for cause in ("submitted", "attempt 1"))


async def test_a_plan_that_waits_is_not_begun_before_it_can_see_the_denial(database: Database) -> None:
    await side_by_side(database, [submitted("job_1")])
    async with database.transaction() as session:
        store = Store(session)
        await store.save_denial(OFFERS[0], NOW)
        job = await store.job_by_id("job_1")
        assert job is not None
        assert await store.is_being_planned(job)
        assert not await claims.claim(database, PlanningRow), "the denial is not committed yet"
    assert await claims.claim(database, PlanningRow)


async def test_of_prices_observed_at_the_same_time_the_newest_stands(database: Database) -> None:
    observed = [
        price(offer, 0.01 * minute, NOW - timedelta(minutes=minute)) for offer in OFFERS[:10] for minute in (3, 1, 2)
    ]
    await side_by_side(database, *([one] for one in observed))
    async with database.transaction() as session:
        rows = (await session.scalars(select(PriceRow))).all()
    assert {row.offer: row.price_usd_per_hour for row in rows} == dict.fromkeys(OFFERS[:10], 0.01)
