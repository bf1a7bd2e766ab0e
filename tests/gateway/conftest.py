"""The real application on a fresh database and a real object store, with a key for each of two tenants."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import httpx2
import pytest
import pytest_asyncio
import uvicorn
from fastapi import FastAPI
from google.protobuf.message import Message
from pydantic import SecretStr

from services.gateway.api.world import World
from services.gateway.app import build_app
from services.gateway.catalogue import Catalogue
from services.gateway.handlers import HANDLERS
from services.gateway.hub import Hub
from services.gateway.settings import Settings
from services.gateway.store import Store
from sskai.contract import new_id
from sskai.objects import Objects
from sskai.testing import InMemoryBus, fresh_database, wait_for

ADMIN_KEY = "sskai_operators-key-of-the-tests"
MODEL = "tiny-llama"
ROWS = [
    {"messages": [{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": f"{n}!"}]} for n in range(9)
]


def jsonl(rows: list[Any]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


@dataclass
class House:
    """The gateway under test. `ann` and `bob` are clients of two tenants, `admin` is the operator's."""

    url: str
    app: FastAPI
    world: World
    bus: InMemoryBus
    admin: httpx2.AsyncClient
    ann: httpx2.AsyncClient
    bob: httpx2.AsyncClient

    async def told(self, kind: type[Message]) -> list[Any]:
        """Deliver everything that waits; the events of one kind that were told so far."""
        await self.bus.settle()
        return [message for message in self.bus.told if isinstance(message, kind)]

    async def dataset(self, client: httpx2.AsyncClient, name: str = "support", rows: list[Any] | None = None) -> Any:
        answer = await client.post(
            "/v1/datasets",
            params={"name": name},
            content=jsonl(rows or ROWS),
            headers={"Content-Type": "application/jsonl"},
        )
        assert answer.status_code in (200, 201), answer.text
        return answer.json()

    async def job(self, client: httpx2.AsyncClient, **fields: Any) -> Any:
        await self.dataset(client)
        answer = await client.post("/v1/jobs", json=job_file(**fields))
        assert answer.status_code == 202, answer.text
        await self.bus.settle()
        return answer.json()


def job_file(**fields: Any) -> dict[str, Any]:
    return {"name": "bot", "model": {"base": MODEL}, "dataset": {"uri": "dataset://support/1"}, **fields}


@asynccontextmanager
async def serving(app: FastAPI) -> AsyncIterator[str]:
    """The application on a real socket."""
    config = uvicorn.Config(app, port=0, log_config=None, access_log=False, timeout_graceful_shutdown=2)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    await wait_for(lambda: server.started)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await task


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("gateway")
    model = folder / "models" / MODEL
    model.mkdir(parents=True)
    (model / "config.json").write_text(json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}))
    return Settings(
        admin_key=SecretStr(ADMIN_KEY),
        internal_token=SecretStr("internal"),
        models_dir=folder / "models",
        spool_dir=folder,
        plan_wait_seconds=5,
        inference_retry_seconds=5,
        heartbeat_seconds=0.2,
        max_event_streams_per_tenant=2,
        max_dataset_bytes=4_000_000,
        api_requests_per_second=1e6,  # tests ask more often than users
        api_request_burst=1_000_000,
        inference_url="http://127.0.0.1:9",
    )


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def running(settings: Settings, objects: Objects, postgres: str) -> AsyncIterator[House]:
    """One application for all tests; each has tenants of its own."""
    async with fresh_database(postgres, "gateway") as database:
        catalogue = Catalogue.load(settings.models_dir)
        world = World(database, objects, settings, catalogue, Hub(), httpx2.AsyncClient())
        app = build_app(world)
        async with serving(app) as url, client_of(url, ADMIN_KEY) as admin:
            yield House(url, app, world, InMemoryBus(), admin, admin, admin)
            world.hub.close()


@pytest_asyncio.fixture(loop_scope="session")
async def house(running: House, settings: Settings) -> AsyncIterator[House]:
    before = settings.model_copy()
    bus = InMemoryBus()
    bus.connect(running.world.database, HANDLERS, Store)
    async with await _tenant(running) as ann, await _tenant(running) as bob:
        yield replace(running, bus=bus, ann=ann, bob=bob)
        await bus.settle()  # nothing is left to the next test
    for name, value in before:
        setattr(settings, name, value)


def client_of(url: str, key: str) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=20)


async def _tenant(house: House) -> httpx2.AsyncClient:
    scopes = ["read", "infer", "write", "admin"]
    made = await house.admin.post("/v1/keys", json={"name": "test", "tenant_id": new_id("tenant"), "scopes": scopes})
    assert made.status_code == 201, made.text
    return client_of(house.url, made.json()["key"])
