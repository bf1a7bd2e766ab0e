"""The real application on a fresh database and a real object store, with a key for each of two tenants."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
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
from sskai.database import Database
from sskai.objects import Objects
from sskai.testing import InMemoryBus, wait_for

ADMIN_KEY = "sskai_operators-key-of-the-tests"
MODEL = "tiny-llama"
ROWS = [{"messages": [{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": f"{n}!"}]} for n in range(9)]


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


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    model = tmp_path / "models" / MODEL
    model.mkdir(parents=True)
    (model / "config.json").write_text(json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}))
    return Settings(
        admin_key=SecretStr(ADMIN_KEY),
        internal_token=SecretStr("internal"),
        models_dir=tmp_path / "models",
        spool_dir=tmp_path,
        plan_wait_seconds=5,
        inference_retry_seconds=5,
        heartbeat_seconds=0.2,
        max_event_streams_per_tenant=2,
        max_dataset_bytes=4_000_000,
        inference_url="http://127.0.0.1:9",
    )


@pytest.fixture
async def house(
    settings: Settings, objects: Objects, database_of: Callable[[str], AbstractAsyncContextManager[Database]]
) -> AsyncIterator[House]:
    async with database_of("gateway") as database:
        catalogue = Catalogue.load(settings.models_dir)
        world = World(database, objects, settings, catalogue, Hub(), httpx2.AsyncClient())
        app = build_app(world)
        bus = InMemoryBus()
        bus.connect(database, HANDLERS, Store)
        async with serving(app) as url:
            admin = _client(url, ADMIN_KEY)
            ann, bob = [await _tenant(url, admin, name) for name in ("ann", "bob")]
            yield House(url, app, world, bus, admin, ann, bob)
            world.hub.close()
            for client in (admin, ann, bob):
                await client.aclose()


def _client(url: str, key: str) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=20)


async def _tenant(url: str, admin: httpx2.AsyncClient, name: str) -> httpx2.AsyncClient:
    tenant_id = new_id("tenant")
    made = await admin.post("/v1/keys", json={"name": name, "tenant_id": tenant_id})
    assert made.status_code == 201, made.text
    return _client(url, made.json()["key"])
