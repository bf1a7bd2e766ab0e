"""Replicas as real processes on the simulated cloud, which tell the real route how they are."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import httpx2
import pytest
import uvicorn
from fastapi import FastAPI
from sqlalchemy import select

from services.inference import replica_api
from services.inference.handlers import HANDLERS
from services.inference.replica_set import ReplicaState
from services.inference.replicas import Replicas
from services.inference.replicating import World, keep_replicas
from services.inference.settings import Settings
from services.inference.store import Store
from services.inference.tables import ReplicaRow
from services.inference.watching_replicas import watch_replicas
from services.scheduler.settings import Settings as SchedulerSettings
from sskai.cluster import Pod
from sskai.cluster.local_cluster import LocalCluster
from sskai.database import Database
from sskai.events import v1 as events
from sskai.local.cloud.api import create_app
from sskai.local.cloud.cloud import Cloud
from sskai.local.cloud.market import Market
from sskai.local.processes import free_ports
from sskai.testing import handle, wait_for
from tests.inference.replicating import CHEAP, STEADY
from tests.inference.test_loops import deletion, requested

SERVICE = "inference"
STAND_IN = Path(__file__).with_name("stand_in.py")


class Site:
    """The cloud, the route that replicas speak to, and the loops; all of it for real."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.market = Market(speed=1.0)
        self.cloud = Cloud(folder / "cloud", self.market, time.time)
        self.transport = httpx2.ASGITransport(create_app(self.cloud, self.market, "token"))
        command = [sys.executable, str(STAND_IN)]
        self.cluster = LocalCluster(
            "http://cloud", "token", Settings.program, command=command, transport=self.transport
        )
        self.port = free_ports(1)[0]
        settings = Settings(
            replica_turn_seconds=0.05, replica_lead_seconds=1, inference_url=f"http://127.0.0.1:{self.port}"
        )
        self.replicas = Replicas(database)
        self.world = World(database, self.cluster, settings, self.replicas)
        self.database = database

    async def run(self) -> None:
        app = FastAPI()
        app.include_router(replica_api.routes(self.replicas))
        server = uvicorn.Server(uvicorn.Config(app, port=self.port, log_level="critical"))
        serving = asyncio.create_task(server.serve())
        try:
            while True:
                self.cloud.tick()
                await watch_replicas(self.world)
                await keep_replicas(self.world)
                await self.replicas.read()
                await asyncio.sleep(0.05)
        finally:
            server.should_exit = True
            await serving

    async def rows(self, state: ReplicaState) -> list[ReplicaRow]:
        async with self.database.transaction() as session:
            return list(await session.scalars(select(ReplicaRow).where(ReplicaRow.state == state)))

    def alive(self) -> list[str]:
        return [one.machine_id for one in self.cloud.machines() if one.gone_at is None]


@pytest.fixture
async def site(database: Database, tmp_path: Path) -> AsyncIterator[Site]:
    (tmp_path / "cloud").mkdir()
    built = Site(database, tmp_path)
    running = asyncio.create_task(built.run())
    yield built
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    for machine_id in built.alive():
        await built.cluster.delete(machine_id)
    await built.cluster.close()


async def ask(site: Site, minimum: int) -> None:
    event = requested(
        kind="spot",
        placements=[CHEAP, STEADY],
        replicas=events.ReplicaCount(minimum=minimum, maximum=3),
    )
    await handle(HANDLERS, site.database, Store, event)


async def test_replicas_come_are_replaced_after_a_kill_and_a_notice_and_go(site: Site) -> None:
    await ask(site, minimum=2)
    await wait_for(lambda: len(site.replicas.ready("end_support")) == 2, limit_seconds=60)
    first, second = await site.rows(ReplicaState.READY)
    site.cloud.interrupt(first.machine_id, 0)
    await wait_for(
        lambda: {one.replica_id for one in site.replicas.ready("end_support")} == {second.replica_id, "end_support-3"},
        limit_seconds=60,
    )
    site.cloud.interrupt(second.machine_id, 30)
    await wait_for(
        lambda: {one.replica_id for one in site.replicas.ready("end_support")} == {"end_support-3", "end_support-4"},
        limit_seconds=60,
    )
    await handle(HANDLERS, site.database, Store, deletion())
    await wait_for(lambda: not site.alive(), limit_seconds=60)
    assert {row.reason for row in await site.rows(ReplicaState.ENDED)} == {"interrupted", "deleted"}


async def test_attempts_and_replicas_on_one_cloud_do_not_see_each_other(site: Site) -> None:
    sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
    scheduler = LocalCluster(
        "http://cloud", "token", SchedulerSettings.program, command=sleep, transport=site.transport
    )
    trainer = await scheduler.launch(Pod("job_1", "tenant_a", 1, CHEAP, {}))
    await ask(site, minimum=1)
    await wait_for(lambda: site.replicas.ready("end_support"), limit_seconds=60)
    assert [one.machine_id for one in await scheduler.observe()] == [trainer.machine_id]
    assert trainer.machine_id not in [one.machine_id for one in await site.cluster.observe()]
    assert trainer.machine_id in site.alive(), "inference deletes no stranger's pod"
