"""The service before it: tells JobRequeued at fixed moments, each with a row of its own in the same transaction.

`python -m benchmarks.events.teller FILE PER_SECOND SECONDS` writes when each transaction had committed, then waits to
be stopped.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

from sqlalchemy import text

from sskai import delivery
from sskai.database import Database
from sskai.events import v1 as events
from sskai.service import Service, every
from sskai.settings import Settings

_TABLE = text("CREATE TABLE IF NOT EXISTS scheduler.told (number bigint PRIMARY KEY)")
_ROW = text("INSERT INTO scheduler.told VALUES (:number)")
WARM_UP = 200


async def tell(database: Database, path: Path, per_second: float, seconds: float) -> None:
    """Each event when it is due, whether the one before has committed or not."""
    async with database.transaction() as session:
        await session.execute(_TABLE)
    committed: list[tuple[int, float]] = []

    async def one(number: int) -> None:
        async with database.transaction() as session:
            await session.execute(_ROW, {"number": number})
            event = events.JobRequeued(job_id=f"job_{number % 50}", tenant_id="tenant", attempt=number, reason="lost")
            await delivery.tell(session, event)
        committed.append((number, time.monotonic()))

    begun = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for number in range(WARM_UP + int(per_second * seconds)):
            await asyncio.sleep(max(0.0, begun + number / per_second - time.monotonic()))
            group.create_task(one(number))
    written = path.with_suffix(".part")
    written.write_text(json.dumps([pair for pair in committed if pair[0] >= WARM_UP]))
    written.rename(path)


def main() -> None:
    path, per_second, seconds = sys.argv[1:]
    settings = Settings()
    database = Database(settings.database_url.get_secret_value(), "scheduler")

    async def all_of_them() -> None:
        await tell(database, Path(path), float(per_second), float(seconds))

    Service("scheduler", settings, {}, lambda _: None, loops=[every(3600, all_of_them)], database=database).run()


if __name__ == "__main__":
    main()
