"""How fast the first page is answered: `/v1/overview` of a tenant with 1,000 jobs and 100,000 events. Part of gateway.

Gateway and monitor are their real applications in one process, on a socket each and on one PostgreSQL with durable
settings; jobs, events and the ledger's days lie there as their handlers write them. Nine of ten events are heartbeats.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import uvicorn
from fastapi import FastAPI
from pydantic import SecretStr
from sqlalchemy import insert

from benchmarks.figures import Figure, figure
from services.gateway.api.world import World
from services.gateway.app import build_app
from services.gateway.catalogue import Catalogue
from services.gateway.hub import Hub
from services.gateway.settings import Settings
from services.gateway.tables import EventRow, JobRow
from services.monitor import api as monitor_api
from services.monitor.ingest import Ingest
from services.monitor.spend_tables import DayRow, OwnerRow
from sskai import contract
from sskai.database import Database
from sskai.events import v1 as events
from sskai.objects import Objects
from sskai.testing import envelope, fresh_database, wait_for

JOBS, EVENTS, IN_PROGRESS = 1_000, 100_000, 20
TENANT, KEY, TOKEN = "tenant_default", "sskai_key-of-the-benchmark", "token-of-the-benchmark"
GOAL_SECONDS = 0.3
REQUESTS = 200
BATCH = 5_000
NANO = 10**9


async def measure(server_url: str) -> list[Figure]:
    """The page's times, one request after another."""
    async with running(server_url) as url:
        seconds = await _ask(url)
    how = f"{REQUESTS} requests one after another; {JOBS} jobs, {EVENTS} events; gateway and monitor in one process"
    middle, slow = statistics.median(seconds), statistics.quantiles(seconds, n=100)[98]
    return [
        figure("overview_p50", middle, "s", GOAL_SECONDS, "lower", how=how),
        figure("overview_p99", slow, "s", GOAL_SECONDS, "lower", how=how),
    ]


@asynccontextmanager
async def running(server_url: str) -> AsyncIterator[str]:
    """The address of a gateway with all that, and a monitor behind it."""
    async with fresh_database(server_url, "gateway") as ours, fresh_database(server_url, "monitor") as theirs:
        await _fill(ours, theirs)
        app = monitor_api.build(theirs, Ingest(theirs), TOKEN)
        async with serving(app) as monitor_url, serving(_gateway(ours, monitor_url)) as url:
            yield url


def _gateway(database: Database, monitor_url: str) -> FastAPI:
    settings = Settings(admin_key=SecretStr(KEY), internal_token=SecretStr(TOKEN), otlp_url=monitor_url)
    nowhere = Objects("http://127.0.0.1:9", "none", "none", "none")
    catalogue = Catalogue.load(settings.models_dir)
    return build_app(World(database, nowhere, settings, catalogue, Hub(), httpx2.AsyncClient()))


async def _ask(url: str) -> list[float]:
    seconds = []
    async with httpx2.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {KEY}"}, timeout=30) as client:
        for number in range(REQUESTS + 5):
            begun = time.perf_counter()
            answer = await client.get("/v1/overview")
            told: dict[str, Any] = answer.raise_for_status().json()
            assert len(told["jobs"]) == IN_PROGRESS, told["job_counts"]
            assert told["month"] is not None, "the monitor answers"
            if number >= 5:  # the first ones open connections
                seconds.append(time.perf_counter() - begun)
    return seconds


async def _fill(ours: Database, theirs: Database) -> None:
    now = datetime.now(UTC)
    jobs = [_job(number, now) for number in range(JOBS)]
    log = [_event(number, now) for number in range(EVENTS)]
    days = [_day(number, now) for number in range(JOBS)]
    owners = [
        {"owner_id": f"job_{number:06}", "tenant_id": TENANT, "name": "bot", "project": "support", "keep": 3}
        for number in range(JOBS)
    ]
    async with ours.transaction() as session:
        await session.execute(insert(JobRow), jobs)
    for first in range(0, EVENTS, BATCH):
        async with ours.transaction() as session:
            await session.execute(insert(EventRow), log[first : first + BATCH])
    async with theirs.transaction() as session:
        await session.execute(insert(OwnerRow), owners)
        await session.execute(insert(DayRow), days)


def _job(number: int, now: datetime) -> dict[str, Any]:
    state = "running" if number < IN_PROGRESS else "succeeded"
    spec = events.JobSpec(kind="finetune", name=f"bot-{number}").SerializeToString()
    spent = {"spent_nano_usd": NANO, "on_demand_nano_usd": 3 * NANO}
    at = {"submitted_at": now, "updated_at": now}
    return {
        "job_id": f"job_{number:06}", "tenant_id": TENANT, "name": f"bot-{number}", "state": state, "spec": spec,
        "view": {}, "trace_id": "", **spent, **at,
    }  # fmt: skip


def _event(number: int, now: datetime) -> dict[str, Any]:
    job_id = f"job_{number % JOBS:06}"
    told = (
        envelope(events.AttemptProgressed(job_id=job_id, tenant_id=TENANT, attempt=1, step=number))
        if number % 10
        else envelope(events.JobSubmitted(job_id=job_id, tenant_id=TENANT))
    )
    event = contract.to_cloudevent(told)
    return {"tenant_id": TENANT, "subject": told.key, "type": told.type, "event": event, "at": now}


def _day(number: int, now: datetime) -> dict[str, Any]:
    day = (now - timedelta(days=number % 30)).date()
    spent = {"amount_nano_usd": NANO, "on_demand_nano_usd": 3 * NANO, "machine_microseconds": 3_600_000_000}
    ids = {"tenant_id": TENANT, "day": day, "job_id": f"job_{number:06}", "kind": "compute", "endpoint_id": ""}
    return {**ids, **spent, "input_tokens": 0, "output_tokens": 0, "rows": 60}


@asynccontextmanager
async def serving(app: FastAPI) -> AsyncIterator[str]:
    """The application on a free port of loopback."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, access_log=False))
    task = asyncio.create_task(server.serve())
    await wait_for(lambda: server.started)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await task
