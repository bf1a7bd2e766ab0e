"""The embedded stack with this harness as its supervisor: each service reaches broker, database, objects and cloud
through a proxy, and any part can be killed, stopped and kept away. Two replicas of the scheduler, one of the others.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import psycopg

from sskai.local import kafka, parts, postgres
from sskai.local.cloud.client import CloudClient
from sskai.local.layout import SERVICES, SOURCE_FOLDER, Layout
from sskai.local.parts import ProgramMaker
from sskai.local.processes import ProcessIdentity, Program, free_ports
from sskai.local.state import StackState, write_state
from sskai.local.supervisor import SERVICES_START_LIMIT_SECONDS, Keeper, end_pods
from tests.chaos import process
from tests.chaos.disk import Disk
from tests.chaos.proxy import Proxy

PROXIED = ("kafka", "postgres", "objects", "cloud")
SECOND = "scheduler-1"
PROCESSES = (*SERVICES, SECOND)
# How each store dies: PostgreSQL's immediate shutdown is its crash, and ends all of its processes.
CRASH = {"postgres": signal.SIGQUIT}
CHANGES = {
    "SSKAI_PATIENCE_SECONDS": "1",
    "SSKAI_METERING_SECONDS": "0.5",
    "SSKAI_DENIAL_SECONDS": "2",
}


@dataclass(frozen=True)
class Place:
    """Where the parts are without a proxy."""

    gateway_url: str
    admin_key: str
    database_url: str


class Stack:
    """Use `start` and `stop`; in between every method may be called at any time."""

    def __init__(self, folder: Path, dice: random.Random) -> None:
        self.home = folder / "home"
        self.home.mkdir()
        self.home.chmod(0o711)  # the database's user passes
        self.pods, self.models = folder / "pods", folder / "models"
        self.pods.mkdir()
        process.write_model(self.models)
        self.layout = Layout.of(self.home)
        ports = free_ports(len(PROXIED) + 1, taken=set(self.layout.ports.values()))
        self.second = replace(self.layout, ports={**self.layout.ports, "scheduler": ports.pop()})
        self.proxies = {
            name: Proxy(port, parts.port(self.layout, name), dice) for name, port in zip(PROXIED, ports, strict=True)
        }
        self.disk = Disk(self.home / "objects")
        self._makers = self._infrastructure() | self._services()
        self._keepers: dict[str, Keeper] = {}
        self._writing = threading.Lock()
        self._state = StackState("starting", ProcessIdentity.of(os.getpid()), self.layout.environment())

    # Where things are

    @property
    def place(self) -> Place:
        url = postgres.url(self.layout.ports["postgres"], self.layout.secrets.postgres_password)
        return Place(self.layout.url("gateway"), self.layout.secrets.admin_key, url)

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.proxies['kafka'].port}"

    def cloud(self) -> CloudClient:
        return CloudClient(self.layout.url("cloud"), self.layout.secrets.cloud_token)

    def log(self, name: str) -> Path:
        return parts.log(self.home, name)

    def connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.place.database_url.replace("+psycopg", ""), autocommit=True, connect_timeout=5)

    # Its life

    async def start(self) -> None:
        """Returns once every part serves. Raises StartError."""
        for proxy in self.proxies.values():
            await proxy.start()
        await self._up(name for name in self._makers if name not in PROCESSES)
        await asyncio.to_thread(self._prepare)
        await self._up(PROCESSES)
        self._state.phase = "running"
        self._write()

    async def stop(self) -> None:
        """Leave nothing running, users of a part before the part; safe to repeat, also after half a start."""
        for name in self._keepers:
            self.go_on(name)
        await self._down([name for name in self._keepers if name in PROCESSES])
        await self._down([name for name in self._keepers if name == "cloud"])
        await asyncio.to_thread(end_pods, self.home)
        await self._down(list(self._keepers))
        for proxy in self.proxies.values():
            await proxy.stop()
        self.disk.remove()

    # What is done to it

    def pid(self, name: str) -> int | None:
        """None: it does not run now."""
        process = self._keepers[name].state.process if name in self._keepers else None
        return process.pid if process is not None and process.alive() else None

    def ready(self, name: str) -> bool:
        """Whether it serves, by its keeper's last look."""
        return name in self._keepers and self._keepers[name].state.state == "running" and self.pid(name) is not None

    def kill(self, name: str) -> bool:
        """kill -9 of its whole group; its keeper starts it again. False: it was not running."""
        return self._signal(name, signal.SIGKILL)

    def crash(self, name: str) -> bool:
        return self._signal(name, CRASH.get(name, signal.SIGKILL))

    def stand_still(self, name: str) -> bool:
        return self._signal(name, signal.SIGSTOP)

    def go_on(self, name: str) -> bool:
        return self._signal(name, signal.SIGCONT)

    async def take_away(self, name: str) -> None:
        """It crashes, and nobody starts it again until `bring_back`."""
        keeper = self._keepers.pop(name)
        keeper.give_up()
        self._signal_keeper(keeper, CRASH.get(name, signal.SIGKILL))
        await asyncio.to_thread(keeper.stop)

    async def bring_back(self, name: str) -> None:
        """Returns once it serves. Raises StartError."""
        if name not in self._keepers:
            await self._up([name])

    async def heal(self) -> None:
        """Everything runs, and everybody hears everybody."""
        for proxy in self.proxies.values():
            proxy.heal()
        if self.disk.mounted:
            self.disk.make_room()
        for name in self._makers:
            self.go_on(name)
        for name in self._makers:
            await self.bring_back(name)

    def _signal(self, name: str, number: int) -> bool:
        keeper = self._keepers.get(name)
        return keeper is not None and self._signal_keeper(keeper, number)

    @staticmethod
    def _signal_keeper(keeper: Keeper, number: int) -> bool:
        process = keeper.state.process
        return process is not None and process.signal_group(number)

    async def _up(self, names: Iterable[str]) -> None:
        keepers = {name: Keeper(name, self._port(name), self._makers[name], self._write) for name in names}
        self._keepers |= keepers
        self._state.parts |= {name: keeper.state for name, keeper in keepers.items()}
        starts = [asyncio.to_thread(keeper.start, SERVICES_START_LIMIT_SECONDS) for keeper in keepers.values()]
        for done in await asyncio.gather(*starts, return_exceptions=True):
            if isinstance(done, BaseException):
                raise done

    async def _down(self, names: list[str]) -> None:
        await asyncio.gather(*(asyncio.to_thread(self._keepers.pop(name).stop) for name in names))

    def _write(self) -> None:
        """So that `sskai status` and, should this process be killed, `sskai down` find everything by SSKAI_HOME."""
        with self._writing:
            write_state(self.home, self._state)

    def _port(self, name: str) -> int:
        return self.second.ports["scheduler"] if name == SECOND else parts.port(self.layout, name)

    def _prepare(self) -> None:
        environment = {**os.environ, **self.layout.environment()}
        command = [sys.executable, "-m", "sskai.local.prepare"]
        # To standard error: the report alone goes to standard output.
        subprocess.run(command, cwd=SOURCE_FOLDER, env=environment, check=True, stdout=2)

    # How the parts are run

    def _infrastructure(self) -> dict[str, ProgramMaker]:
        makers = parts.infrastructure(self.layout)
        ports = self.layout.ports
        # A client goes where the broker says that it is: to the proxy.
        advertised = f"advertised.listeners=BROKER://{self.bootstrap}\n"
        makers["kafka"] = lambda: kafka.program(
            self.home / "kafka",
            ports["kafka"],
            ports["kafka_controller"],
            self.log("kafka"),
            more_settings=advertised,
        )
        # Pods come from the cloud and find their program by this.
        makers["cloud"] = partial(_with, makers["cloud"], {"PYTHONPATH": str(SOURCE_FOLDER)})
        return makers

    def _services(self) -> dict[str, ProgramMaker]:
        proxied = {
            **CHANGES,
            "PYTHONPATH": str(SOURCE_FOLDER),
            "SSKAI_KAFKA_BOOTSTRAP": self.bootstrap,
            "SSKAI_DATABASE_URL": postgres.url(self.proxies["postgres"].port, self.layout.secrets.postgres_password),
            "SSKAI_OBJECTS_URL": f"http://127.0.0.1:{self.proxies['objects'].port}",
            "SSKAI_CLOUD_URL": f"http://127.0.0.1:{self.proxies['cloud'].port}",
            "SSKAI_MODELS_DIR": str(self.models),
            process.PODS_FOLDER: str(self.pods),
        }
        makers = parts.services(self.layout)
        makers[SECOND] = partial(_second, parts.services(self.second)["scheduler"], self.log(SECOND))
        for name in (*process.CHANGED, SECOND):
            makers[name] = partial(_changed, makers[name], name.removesuffix("-1"))
        return {name: partial(_with, make, proxied) for name, make in makers.items()}


def _with(make: ProgramMaker, changes: dict[str, str]) -> Program:
    program = make()
    return replace(program, environment={**program.environment, **changes})


def _second(make: ProgramMaker, log: Path) -> Program:
    return replace(_with(make, {"SSKAI_INSTANCE": "1"}), name=SECOND, log=log)


def _changed(make: ProgramMaker, service: str) -> Program:
    return replace(make(), command=[sys.executable, "-m", process.__name__, service])
