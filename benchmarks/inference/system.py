"""The whole system on the embedded stack, for what is measured from outside."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from sskai.client import Client
from sskai.client.documents import Endpoint
from sskai.contract import new_id
from sskai.local import stack
from sskai.local.cloud.client import CloudClient
from sskai.local.state import StackState, read_state
from tests import tiny_model

LIMIT_SECONDS = 300.0


@dataclass(frozen=True)
class System:
    """A running stack; `base`: the id of the tiny model, which a user brought along and whose files lie in `folder`."""

    state: StackState
    client: Client
    folder: Path
    base: str
    home: Path

    @property
    def cloud(self) -> CloudClient:
        return CloudClient(self.state.environment["SSKAI_CLOUD_URL"], self.state.environment["SSKAI_CLOUD_TOKEN"])

    @property
    def key(self) -> str:
        return self.state.admin_key

    def pid(self, part: str) -> int:
        """Of a service or a part that runs."""
        state = read_state(self.home)
        process = state.parts[part].process if state else None
        if process is None or not process.alive():
            raise RuntimeError(f"{part} does not run")
        return process.pid

    def endpoint(self, model: str, **form: Any) -> Endpoint:
        """A new one that is ready."""
        name = new_id("bench").replace("_", "-")
        made = self.client.request("POST", "/v1/endpoints", json={"name": name, "model": model, **form})
        ready = self.client.endpoints.wait(made["id"], limit_seconds=LIMIT_SECONDS, poll_seconds=0.1)
        if ready["state"] != "ready":
            raise RuntimeError(f"the endpoint is {ready}")
        return ready


@contextmanager
def running(**settings: str) -> Iterator[System]:
    """The stack with these settings (SSKAI_*), and nothing of it left afterwards."""
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    with tempfile.TemporaryDirectory(prefix="sskai-inference-") as temporary:
        folder = Path(temporary)
        folder.chmod(0o755)  # the database runs as a user of its own
        try:
            state = stack.up(folder / "home", say=say)
            tiny = tiny_model.build(folder / "tiny")
            with Client(state.gateway_url, state.admin_key) as client:
                base = client.models.upload(tiny, name="tiny-llama")["id"]
                yield System(state, client, tiny, base, folder / "home")
        except BaseException:
            for part in ("gateway", "inference"):
                for line in stack.logs(part, folder / "home", lines=20):
                    say(f"{part}: {line[:2000]}")
            raise
        finally:
            stack.down(folder / "home", say=say)
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})


@asynccontextmanager
async def asking(system: System, **more: Any) -> AsyncIterator[aiohttp.ClientSession]:
    """A session to the gateway with the key; as many connections as are wanted."""
    async with aiohttp.ClientSession(
        system.state.gateway_url,
        headers={"Authorization": f"Bearer {system.key}"},
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=LIMIT_SECONDS),
        **more,
    ) as session:
        yield session


async def at_rate(per_second: float, count: int, ask: Callable[[int], Awaitable[None]]) -> list[float]:
    """So many calls, begun at a steady rate whatever becomes of the earlier ones; seconds of each, in order."""
    clock, started = time.perf_counter, time.perf_counter()

    async def one(number: int) -> float:
        began = clock()
        await ask(number)
        return clock() - began

    tasks = []
    for number in range(count):
        await asyncio.sleep(max(0.0, started + number / per_second - clock()))
        tasks.append(asyncio.create_task(one(number)))
    return list(await asyncio.gather(*tasks))


def percentile(values: list[float], share: float) -> float:
    """Nearest rank."""
    return sorted(values)[min(len(values) - 1, round(share * (len(values) - 1)))]


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
