"""The contract, held by the fake of the scheduler's own tests and by the embedded stack's cluster."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import pytest

from services.scheduler.settings import Settings
from sskai.cluster import offer_of
from sskai.cluster.local_cluster import LocalCluster
from sskai.local.cloud.api import create_app
from sskai.local.cloud.cloud import Cloud
from sskai.local.cloud.market import Market
from sskai.testing import wait_for
from tests.fake_cluster import FakeCluster
from tests.scheduler.cluster_contract import POD, ClusterContract


class FakeSite:
    def __init__(self) -> None:
        self.cluster = FakeCluster(lambda: datetime.now(UTC))

    def running(self) -> int:
        return sum(self.cluster.members(machine_id) for machine_id in self.cluster.running())

    def signals(self) -> int:
        return len([one for one in self.cluster.drained if one in self.cluster.pods])

    def deny(self) -> None:
        self.cluster.denied.add(offer_of(POD.placement))

    async def start(self, machine_id: str) -> None:
        pass

    async def exit(self, machine_id: str, code: int, rank: int = 0) -> None:
        self.cluster.exit(machine_id, code, rank)

    async def lose(self, machine_id: str, rank: int = 0) -> None:
        self.cluster.lose(machine_id, rank)

    async def cut_off(self) -> None:
        self.cluster.away = True


class TestFakeCluster(ClusterContract):
    @pytest.fixture
    def site(self) -> FakeSite:
        return FakeSite()


PROGRAM = """
import os, pathlib, signal, sys, time
folder, attempt = pathlib.Path(sys.argv[1]), os.environ["SSKAI_ATTEMPT"] + "-" + os.environ.get("RANK", "0")
signal.signal(signal.SIGTERM, lambda *_: (folder / "signals").open("a").write("x"))
(folder / f"started-{attempt}").touch()
while not (folder / f"exit-{attempt}").exists(): time.sleep(0.02)
sys.exit(int((folder / f"exit-{attempt}").read_text()))
"""


class LocalSite:
    """The simulated cloud, whose pods are processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.market = Market(speed=1.0)
        self.cloud = Cloud(folder / "cloud", self.market, time.time)
        transport = httpx2.ASGITransport(create_app(self.cloud, self.market, "a-token-of-the-test"))
        command = [sys.executable, "-c", PROGRAM, str(folder)]
        self.cluster = LocalCluster(
            "http://cloud", "a-token-of-the-test", Settings.program, command=command, transport=transport
        )

    async def tick(self) -> None:
        while True:
            self.cloud.tick()
            await asyncio.sleep(0.02)

    def _attempt(self, machine_id: str) -> str:
        return str(self.cloud.machine(machine_id).tags["sskai-attempt"])

    def _members(self, machine_id: str) -> list[str]:
        token = self.cloud.machine(machine_id).client_token
        gang = [one for one in self.cloud.machines() if one.client_token == token]
        return [one.machine_id for one in sorted(gang, key=lambda one: one.rank)]

    def running(self) -> int:
        return len([one for one in self.cloud.machines() if one.gone_at is None])

    def signals(self) -> int:
        told = self.folder / "signals"
        return len(told.read_text()) if told.exists() else 0

    def deny(self) -> None:
        self.cloud.deny(["use1-az1/g5.xlarge/spot"])

    async def start(self, machine_id: str) -> None:
        for rank in range(self.cloud.machine(machine_id).size):
            started = self.folder / f"started-{self._attempt(machine_id)}-{rank}"
            await wait_for(started.exists)

    async def exit(self, machine_id: str, code: int, rank: int = 0) -> None:
        waiting = self.folder / "waiting"
        waiting.write_text(str(code))
        waiting.rename(self.folder / f"exit-{self._attempt(machine_id)}-{rank}")  # never seen half written

    async def lose(self, machine_id: str, rank: int = 0) -> None:
        self.cloud.interrupt(self._members(machine_id)[rank], 0)

    async def cut_off(self) -> None:
        def refuse(request: httpx2.Request) -> httpx2.Response:
            raise httpx2.ConnectError("refused", request=request)

        await self.cluster.close()
        self.cluster = LocalCluster("http://cloud", "", Settings.program, transport=httpx2.MockTransport(refuse))


class TestLocalCluster(ClusterContract):
    @pytest.fixture
    async def site(self, tmp_path: Path) -> AsyncIterator[LocalSite]:
        (tmp_path / "cloud").mkdir()
        one = LocalSite(tmp_path)
        ticking = asyncio.create_task(one.tick())
        yield one
        ticking.cancel()
        for machine in one.cloud.machines():
            one.cloud.terminate(machine.machine_id)
        await one.cluster.close()
