"""How soon things go on after one death, on a stack that is otherwise at rest: in the storm the next fault comes first.

It comes after the judgement, whose tables it writes in: the events that are waited for are told here.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

import psycopg
from google.protobuf.message import Message

from sskai import contract
from sskai.broker_admin import AdminError
from sskai.bus import Publisher
from sskai.database import SERVICES
from sskai.events import v1 as events
from sskai.testing import envelope, wait_for
from tests.chaos.checks import Database
from tests.chaos.faults import STORES
from tests.chaos.stack import SECOND, Stack
from tests.chaos.users import Users

OUTAGE_SECONDS = 30.0
LIMIT_SECONDS = 120.0
POLL_SECONDS = 0.05
ROWS, ROW_BYTES = 20, 20_000  # of a dataset; as many as a preview shows
# Who handles the removal of a budget that nobody knows, and who the end of a job that has ended.
BY_BUDGET, BY_JOB = ("gateway", "scheduler", "inference", "monitor"), ("optimizer", "trainer")


@dataclass
class Recovery:
    """Seconds. `kills` by service: from the death of all its replicas to its next event; `outages`: from a store's
    return until four services have handled an event that waited; `disks`: from room on the object store's disk until a
    new dataset is taken. `full_answers`: by status, what datasets were answered while it was full."""

    kills: dict[str, list[float]] = field(default_factory=dict)
    outages: dict[str, list[float]] = field(default_factory=dict)
    disks: list[float] = field(default_factory=list)
    full_answers: dict[int, int] = field(default_factory=dict)


async def measure(stack: Stack, database: Database, users: Users, rounds: int) -> Recovery:
    """Each service and each store dies so often, and the object store's disk is full. Raises AssertionError for what
    does not come back within a limit, and for a dataset that was taken and cannot be read."""
    job_id, wish = next(iter(users.acknowledged.items()))
    tenant_id = wish.tenant_id
    publisher = Publisher(stack.bootstrap, "chaos")
    found = Recovery()
    try:
        for _ in range(rounds):
            for service in SERVICES:
                await wait_for(lambda: all(map(stack.ready, SERVICES)), limit_seconds=LIMIT_SECONDS)
                for name in (service, SECOND) if SECOND.startswith(service) else (service,):
                    stack.kill(name)
                died = time.monotonic()
                event_id = await _tell(publisher, _work(service, job_id, tenant_id))
                await _handled(database, [service], event_id)
                found.kills.setdefault(service, []).append(round(time.monotonic() - died, 2))
            for store in STORES:
                found.outages.setdefault(store, []).append(await _outage(stack, database, publisher, store, tenant_id))
            if stack.disk.mounted:
                await _full_disk(stack, users, tenant_id, found)
    finally:
        await publisher.stop()
    return found


async def _outage(stack: Stack, database: Database, publisher: Publisher, store: str, tenant_id: str) -> float:
    await wait_for(lambda: all(map(stack.ready, SERVICES)), limit_seconds=LIMIT_SECONDS)
    await stack.take_away(store)
    telling = asyncio.create_task(_tell(publisher, _work(BY_BUDGET[0], "", tenant_id)))
    await asyncio.sleep(OUTAGE_SECONDS)
    await stack.bring_back(store)
    back = time.monotonic()
    await _handled(database, BY_BUDGET, await telling)
    return round(time.monotonic() - back, 2)


async def _full_disk(stack: Stack, users: Users, tenant_id: str, found: Recovery) -> None:
    """Uploads until one is refused; then until one is taken again."""
    await wait_for(lambda: all(map(stack.ready, SERVICES)), limit_seconds=LIMIT_SECONDS)
    taken: dict[str, list[str]] = {}

    async def upload() -> int:
        texts = [random.randbytes(ROW_BYTES // 2).hex() for _ in range(ROWS)]
        status, dataset_id = await users.upload(tenant_id, texts)
        if dataset_id:
            taken[dataset_id] = texts
        return status

    async def refused() -> bool:
        status = await upload()
        found.full_answers[status] = found.full_answers.get(status, 0) + 1
        return status != 201

    async def accepted() -> bool:
        return await upload() == 201

    stack.disk.fill()
    try:
        await wait_for(refused, limit_seconds=LIMIT_SECONDS, pause_seconds=POLL_SECONDS)
    finally:
        stack.disk.make_room()
    room = time.monotonic()
    await wait_for(accepted, limit_seconds=LIMIT_SECONDS, pause_seconds=POLL_SECONDS)
    found.disks.append(round(time.monotonic() - room, 2))
    for dataset_id, texts in taken.items():
        assert await users.texts(tenant_id, dataset_id) == texts, f"{dataset_id} was taken, and is not what was sent"


def _work(service: str, job_id: str, tenant_id: str) -> Message:
    now = contract.timestamp(datetime.now(UTC))
    if service in BY_JOB:
        return events.JobCancelled(job_id=job_id, tenant_id=tenant_id, ended_at=now)
    return events.BudgetRemoved(budget_id=contract.new_id("budget"), tenant_id=tenant_id, removed_at=now)


async def _tell(publisher: Publisher, message: Message) -> str:
    """As soon as the broker takes it; the event's id."""
    wrapped = envelope(message)
    while True:
        with suppress(AdminError, OSError):
            await publisher.publish_all([wrapped])
            return wrapped.id
        await asyncio.sleep(POLL_SECONDS)


async def _handled(database: Database, services: Sequence[str], event_id: str) -> None:
    def look() -> bool:
        with suppress(psycopg.OperationalError):
            return all(
                database.ask(f"SELECT 1 FROM {service}.inbox WHERE event_id = '{event_id}'") for service in services
            )
        return False

    async def looked() -> bool:
        return await asyncio.to_thread(look)

    await wait_for(looked, limit_seconds=LIMIT_SECONDS, pause_seconds=POLL_SECONDS)
