"""The gateway's house of tests/gateway, with the real monitor beside it and an inference that knows whose is whose."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest_asyncio
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from services.gateway.api.world import World
from services.gateway.app import build_app
from services.gateway.hub import Hub
from services.monitor import api as monitor_api
from services.monitor import handlers as monitor_handlers
from services.monitor.ingest import Ingest
from services.monitor.store import Store as MonitorStore
from sskai.database import Database
from sskai.testing import fresh_database
from tests.gateway.conftest import House, house, running, serving, settings
from tests.security.estate import Estate, build_estate, tenant_of

__all__ = ["house", "running", "settings"]


def standing(house: House, **changed: Any) -> FastAPI:
    """The application once more, on the same database, with other settings."""
    world = house.world
    settings = world.settings.model_copy(update=changed)
    fresh = World(world.database, world.objects, settings, world.catalogue, Hub(), httpx2.AsyncClient())
    return build_app(fresh)


def inference_of(tenant_id: str) -> FastAPI:
    """Plays an inference at which only this tenant has anything."""
    app = FastAPI(openapi_url=None)

    @app.api_route("/{path:path}", methods=["GET", "POST"])
    async def answer(path: str, request: Request) -> Response:
        theirs = request.headers.get("x-sskai-tenant") == tenant_id
        if request.headers.get("x-sskai-internal") != "internal" or not theirs:
            return JSONResponse({"error": {"message": "unknown", "type": "invalid_request_error", "code": "x"}}, 404)
        body = await request.body()
        if path.endswith("/infer") and not _asks(body):
            return JSONResponse({"error": {"message": "no inputs", "type": "invalid_request_error", "code": "x"}}, 400)
        if path == "v1/feedback":
            given = {"object": "feedback", "endpoint_id": "endpoint_of-bob", "version": 1, "score": None, "label": None}
            return JSONResponse({**given, "id": json.loads(body)["id"]})
        return JSONResponse({"path": path, "secret": "of the other tenant"})

    return app


def _asks(body: bytes) -> bool:
    try:
        asked = json.loads(body)
    except ValueError:
        return False
    return isinstance(asked, dict) and "inputs" in asked


@pytest_asyncio.fixture(loop_scope="session")
async def monitor_database(postgres: str) -> AsyncIterator[Database]:
    async with fresh_database(postgres, "monitor") as database:
        yield database


# The house, which delivers what still waits when it ends, ends before the monitor's database.
@pytest_asyncio.fixture(loop_scope="session")
async def estate(monitor_database: Database, house: House) -> AsyncIterator[Estate]:
    """Everything that bob's tenant can have, in the gateway and in the monitor."""
    ingest = Ingest(monitor_database)
    house.bus.connect(monitor_database, monitor_handlers.HANDLERS, MonitorStore)
    watching = monitor_api.build(monitor_database, ingest, "internal")
    async with serving(watching) as monitor_url, serving(inference_of(await tenant_of(house.bob))) as inference_url:
        house.world.settings.otlp_url = monitor_url
        house.world.settings.inference_url = inference_url
        yield await build_estate(house, monitor_database, ingest)
