"""A run of the gateway and of a launch with a canary in every secret and each part away; told on standard output.

`python -m tests.security.canary_flow` reads what it needs, the canaries among it, from its environment; the answers'
bodies, the spans and what would be told to others stand in the output beside the logs.
"""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import suppress
from typing import Any

import httpx2
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from sqlalchemy import text

from services.gateway.api.world import World
from services.gateway.app import build_app, ensure_admin_key
from services.gateway.asking import Requests
from services.gateway.catalogue import Catalogue
from services.gateway.hub import Hub
from services.gateway.settings import Settings
from services.gateway.webhook_loop import Sender
from sskai import contract, telemetry
from sskai.cluster import Pod
from sskai.cluster.local_cluster import LocalCluster
from sskai.cluster.settings import Program
from sskai.database import Database
from sskai.events import v1 as events
from sskai.objects import Objects

BAD_JSON = {"content": b'{"name": ', "headers": {"Content-Type": "application/json"}}
ROWS = b'{"text": "a"}\n{"text": "b"}\n'


def world_of(database: Database, settings: Settings, objects: Objects) -> World:
    return World(database, objects, settings, Catalogue.load(settings.models_dir), Hub(), httpx2.AsyncClient())


def client_of(database: Database, settings: Settings, objects: Objects, key: str) -> httpx2.AsyncClient:
    """Of an application without a socket, so without its lifespan."""
    app = build_app(world_of(database, settings, objects))
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    return httpx2.AsyncClient(
        transport=transport, base_url="http://gateway", headers={"Authorization": f"Bearer {key}"}, timeout=60
    )


async def ask(client: httpx2.AsyncClient, method: str, path: str, **sent: Any) -> Any:
    """What a body is meant to hold, once (a new key) or for its owner (where a webhook goes), is not told."""
    answer = await asyncio.create_task(client.request(method, path, **sent))  # each has its own, as on a socket
    body = answer.json() if answer.content else {}
    shown = {name: value for name, value in body.items() if name not in ("key", "secret", "url")}
    print("ANSWER", method, path, answer.status_code, json.dumps(shown), dict(answer.headers), flush=True)
    return body


async def flow(database: Database, settings: Settings) -> None:
    objects = Objects.from_settings(settings)
    async with client_of(database, settings, objects, settings.admin_key.get_secret_value()) as admin:
        wanted = {"name": "canary", "tenant_id": "tenant_canary", "scopes": ["read", "infer", "write", "admin"]}
        made = await ask(admin, "POST", "/v1/keys", json=wanted)
        print("CANARY", made["key"], flush=True)
        async with client_of(database, settings, objects, made["key"]) as user:
            await use(user, made["key"])
    await Sender(database, settings).send_due()
    await broken(settings, made["key"], objects)


async def use(user: httpx2.AsyncClient, key: str) -> None:
    await ask(user, "POST", "/v1/datasets?name=rows", content=ROWS, headers={"Content-Type": "application/jsonl"})
    job = {"name": "bot", "model": {"base": "tiny"}, "dataset": {"uri": "rows"}, "secrets": ["CANARY"]}
    await ask(user, "POST", "/v1/jobs", json=job)
    path = os.environ["CANARY_PATH"]
    webhook = await ask(user, "POST", "/v1/webhooks", json={"url": f"https://127.0.0.1:1/{path}"})
    print("CANARY", webhook["secret"], flush=True)
    await ask(user, "POST", f"/v1/webhooks/{webhook['id']}/test")
    for method, to, sent in (
        ("POST", "/v1/jobs", BAD_JSON),
        ("POST", "/v1/keys", {"json": {"name": f"{key}/"}}),
        ("POST", "/v1/keys", {"json": {"name": "x", "secret": key}}),
        ("GET", "/v1/jobs", {"headers": {"Authorization": f"Bearer {key}x"}}),
        ("GET", "/v1/jobs", {"headers": {"Authorization": f"Basic {key}"}}),
        ("GET", "/v1/figures", {}),
        ("POST", "/v1/feedback", {"json": {"id": "x", "score": 1.0}}),
        ("POST", "/v1/chat/completions", {"json": {"model": "x", "messages": []}}),
    ):
        await ask(user, method, to, **sent)


async def broken(settings: Settings, key: str, objects: Objects) -> None:
    """Without a database, without an object store, without a cloud."""
    away = Database(os.environ["CANARY_DATABASE_URL"], "gateway")
    async with client_of(away, settings, objects, key) as user:
        await ask(user, "GET", "/v1/jobs")
    nowhere = Objects("http://127.0.0.1:1", "sskai", "sskai", settings.objects_secret_key.get_secret_value())
    real = Database(settings.database_url.get_secret_value(), "gateway")
    real.around = (await Requests.of(real)).around
    async with client_of(real, settings, nowhere, key) as user:
        await ask(user, "POST", "/v1/datasets?name=lost", content=ROWS, headers={"Content-Type": "application/jsonl"})
    await real.close()
    program = Program("trainer", "module", "the scheduler")
    cluster = LocalCluster("http://127.0.0.1:1", os.environ["SSKAI_CLOUD_TOKEN"], program)
    placement = events.Placement(instance_type="m5.large", region="us-east-1")
    pod = Pod("job_x", "tenant_canary", 1, placement, {"SSKAI_OBJECTS_SECRET_KEY": "in-a-pod"}, secrets=("CANARY",))
    with suppress(Exception):
        try:
            await cluster.launch(pod)
        except Exception as error:
            print("REFUSED", repr(error), str(error), flush=True)
            raise


async def told(database: Database) -> None:
    async with database.transaction() as session:
        for kind, value in await session.execute(text("SELECT type, value FROM gateway.outbox")):
            print("EVENT", kind, contract.MESSAGES[kind].FromString(value), flush=True)
        for (problem,) in await session.execute(text("SELECT last_problem FROM gateway.deliveries")):
            print("DELIVERY", problem, flush=True)


async def main() -> None:
    telemetry.setup("gateway", None, "DEBUG")
    spans = InMemorySpanExporter()
    provider = trace.get_tracer_provider()
    assert isinstance(provider, TracerProvider)
    provider.add_span_processor(SimpleSpanProcessor(spans))
    settings = Settings()
    database = Database(settings.database_url.get_secret_value(), "gateway")
    database.around = (await Requests.of(database)).around
    await ensure_admin_key(world_of(database, settings, Objects.from_settings(settings)))
    await flow(database, settings)
    await told(database)
    print("SETTINGS", settings, repr(settings), flush=True)
    for span in spans.get_finished_spans():
        print("SPAN", span.to_json(indent=None), flush=True)
    await database.close()


if __name__ == "__main__":
    asyncio.run(main())
