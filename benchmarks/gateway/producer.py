"""Logs events of a tenant as the gateway's handlers do, at fixed moments; those that are due together in one commit.

`python -m benchmarks.gateway.producer DATABASE_URL TENANT PER_SECOND SECONDS` prints when the commit of each event was
asked for (`at`), by the clock that all processes of a machine share.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from datetime import UTC, datetime

import uvloop

from services.gateway.store import Store
from sskai import delivery
from sskai.contract import timestamp
from sskai.database import Database
from sskai.events import v1 as events
from sskai.testing import envelope

WORDS = "the budget of the project has not so much left for this month, so it waits for the next one; " * 2


def held(tenant_id: str, number: int) -> events.JobHeld:
    return events.JobHeld(
        job_id=f"job_{number % 50}",
        tenant_id=tenant_id,
        rule="budget",
        detail=WORDS,
        held_at=timestamp(datetime.now(UTC)),
    )


async def produce(database_url: str, tenant_id: str, per_second: float, seconds: float) -> dict[str, object]:
    database = Database(database_url, "gateway", pool_size=2)
    count, begun = int(per_second * seconds), time.monotonic() + 0.1
    committed_at: list[float] = []
    logged = transactions = 0
    while logged < count:
        await asyncio.sleep(max(0.0, begun + logged / per_second - time.monotonic()))
        due = min(count, max(logged, int((time.monotonic() - begun) * per_second)) + 1)
        async with database.transaction() as session:
            store = Store(session)
            for number in range(logged, due):
                event = held(tenant_id, number)
                await delivery.remember(session, envelope(event))
                await store.event_log.append(event, datetime.now(UTC), None)
            committed_at += [time.monotonic()] * (due - logged)
        logged, transactions = due, transactions + 1
    took = time.monotonic() - begun
    await database.close()
    return {"events": count, "per_second": round(count / took, 2), "transactions": transactions, "at": committed_at}


if __name__ == "__main__":
    database_url, tenant_id, per_second, seconds = sys.argv[1:]
    print(json.dumps(uvloop.run(produce(database_url, tenant_id, float(per_second), float(seconds)))))
