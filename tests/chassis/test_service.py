"""A whole service in this process, on real Kafka and PostgreSQL: an event goes in, a fact comes out, one clean stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
from sqlalchemy.exc import OperationalError

from sskai import broker_admin, bus, contract
from sskai.bus import Publisher
from sskai.database import Database
from sskai.delivery import Handlers
from sskai.events import v1 as events
from sskai.local.processes import free_ports
from sskai.service import Loop, Service, every
from sskai.settings import Settings
from sskai.testing import envelope, wait_for


class Store:
    def __init__(self, session: object) -> None:
        self.session = session


async def answer(event: events.JobSubmitted, store: Store, now: datetime) -> list[object]:
    return [events.JobHeld(job_id=event.job_id, tenant_id="t", rule="quota", held_at=now)]


@asynccontextmanager
async def serving(
    kafka: str, database: Database, handlers: Handlers, loops: list[Loop] | None = None
) -> AsyncIterator[str]:
    (port,) = free_ports(1)
    settings = Settings(kafka_bootstrap=kafka, database_url=database.url, port=port, instance=contract.new_id("i"))
    service = Service("scheduler", settings, handlers, Store, loops=loops or [], database=database)
    task = asyncio.create_task(service.serve())
    url = f"http://127.0.0.1:{port}"
    try:
        async with httpx2.AsyncClient() as http:

            async def ready() -> bool:
                try:
                    return (await http.get(f"{url}/readyz")).status_code == 200
                except httpx2.TransportError:
                    return False

            await wait_for(ready, limit_seconds=30)
        yield url
    finally:
        service.stop()
        await asyncio.wait_for(task, 15)


@pytest.fixture
async def database(database_of: Callable[[str], AbstractAsyncContextManager[Database]]) -> AsyncIterator[Database]:
    async with database_of("scheduler") as one:
        yield one


async def test_an_event_goes_in_and_a_fact_comes_out(kafka: str, database: Database) -> None:
    job_id = contract.new_id("job")
    publisher = Publisher(kafka, "test")

    async def held() -> list[bus.Incoming]:
        found = await broker_admin.read_records(kafka, "sskai.jobs.v1", limit=10_000)
        return [one for one in found if one.key == job_id.encode() and b"quota" in (one.value or b"")]

    async with serving(kafka, database, {events.JobSubmitted: answer}) as url:
        event = envelope(events.JobSubmitted(job_id=job_id, tenant_id="t"))
        await publisher.publish_all([event, event, event])
        await wait_for(held, limit_seconds=20)
        async with httpx2.AsyncClient() as http:
            metrics = (await http.get(f"{url}/metrics")).text
        assert 'sskai_events_handled_total{outcome="duplicate",type="sskai.events.v1.JobSubmitted"}' in metrics
        assert (await http_get(url, "/healthz"))["service"] == "scheduler"
    assert len(await held()) == 1, "three deliveries, one effect"
    await publisher.stop()


async def http_get(url: str, path: str) -> dict[str, str]:
    async with httpx2.AsyncClient() as http:
        answered: dict[str, str] = (await http.get(url + path)).json()
        return answered


async def test_a_loop_that_fails_is_turned_again_and_waking_it_brings_the_next_turn(
    kafka: str, database: Database
) -> None:
    turns: list[int] = []
    wake = asyncio.Event()

    async def body() -> None:
        turns.append(len(turns))
        if len(turns) == 1:
            raise OperationalError("SELECT 1", {}, Exception("the database is away"))
        if len(turns) == 2:
            raise ZeroDivisionError

    async with serving(kafka, database, {}, [every(0.01, body, name="failing", wake=wake)]):
        await wait_for(lambda: len(turns) > 3)
    slow: list[int] = []

    async def patient() -> None:
        slow.append(len(slow))

    async with serving(kafka, database, {}, [every(3600, patient, wake=wake)]):
        await wait_for(lambda: len(slow) == 1)
        wake.set()
        await wait_for(lambda: len(slow) == 2)


async def test_a_service_without_its_database_is_alive_but_not_ready(kafka: str) -> None:
    (port, nobody) = free_ports(2)
    settings = Settings(kafka_bootstrap=kafka, database_url=f"postgresql+psycopg://a:b@127.0.0.1:{nobody}/c", port=port)
    service = Service("scheduler", settings, {}, Store)
    task = asyncio.create_task(service.serve())
    url = f"http://127.0.0.1:{port}"

    async def alive() -> bool:
        try:
            return (await http_get(url, "/healthz"))["status"] == "ok"
        except httpx2.TransportError:
            return False

    await wait_for(alive)
    async with httpx2.AsyncClient() as http:
        readiness = await http.get(f"{url}/readyz")
    assert readiness.status_code == 503
    assert readiness.json()["database"].startswith("away")
    service.stop()
    await asyncio.wait_for(task, 15)


async def test_handlers_and_loops_go_by_the_databases_clock(
    kafka: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    class AnHourAhead(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) + timedelta(hours=1)

    monkeypatch.setattr("sskai.clock.datetime", AnHourAhead)
    seen: dict[str, datetime] = {}

    async def note(_event: events.JobSubmitted, _store: Store, now: datetime) -> list[object]:
        seen["handler"] = now
        return []

    async def turn() -> None:
        seen["loop"] = database.clock.now()

    async with serving(kafka, database, {events.JobSubmitted: note}, [every(60, turn)]):
        publisher = Publisher(kafka, "test")
        await publisher.publish_all([envelope(events.JobSubmitted(job_id="job_1"))])
        await publisher.stop()
        await wait_for(lambda: len(seen) == 2, limit_seconds=30)
    for now in seen.values():
        assert abs(now - datetime.now(UTC)) < timedelta(minutes=1)
