"""`sskai recover attempts`: after the database came back from a backup, what it does not know any more.

Attempts were begun after the backup. Their fences stand in the object store, so that a new attempt of the same number,
or a lower one, would be told at once that it was overtaken. Numbers go on above them. A pod of such an attempt has no
owner: the running scheduler ends it (`machines_loop`), and the next attempt goes on from the newest checkpoint. A job
that was submitted later is known by its objects alone: it is lost, and said so.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from sqlalchemy import func, select, update

from services.scheduler.domain import State
from services.scheduler.settings import Settings
from services.scheduler.store import JobRow
from sskai.database import Database
from sskai.objects import Objects, errors

FENCE = re.compile(r"/fences/(\d+)\.json$")  # the trainer's (services/trainer/README.md)
UNFINISHED = [state for state in State if not state.ended]


@dataclass(frozen=True, slots=True)
class Raised:
    """A job whose next attempt follows on `attempts`."""

    job_id: str
    tenant_id: str
    attempts: int
    before: int


@dataclass(frozen=True, slots=True)
class Recovered:
    """`lost`: ids of jobs of which only objects are left."""

    raised: list[Raised]
    lost: list[str]


async def recover(database: Database, objects: Objects) -> Recovered:
    """May be repeated; numbers never fall. Nobody else may write to the database meanwhile."""
    async with database.transaction() as session:
        rows = (
            await session.execute(
                select(JobRow.job_id, JobRow.tenant_id, JobRow.attempts).where(JobRow.state.in_(UNFINISHED))
            )
        ).all()
        newest = await session.scalar(select(func.max(JobRow.job_id)))
    raised = []
    for job_id, tenant_id, attempts in rows:
        highest = await asyncio.to_thread(_highest_fence, objects, job_id)
        if highest > attempts:
            async with database.transaction() as session:
                await session.execute(
                    update(JobRow).where(JobRow.job_id == job_id, JobRow.attempts < highest).values(attempts=highest)
                )
            raised.append(Raised(job_id, tenant_id, highest, attempts))
    lost = await asyncio.to_thread(lambda: list(_later(objects, newest or "")))
    return Recovered(raised, lost)


def _highest_fence(objects: Objects, job_id: str) -> int:
    matches = (FENCE.search(info.key) for info in objects.list(f"jobs/{job_id}/fences/"))
    return max((int(match[1]) for match in matches if match), default=0)


def _later(objects: Objects, newest: str) -> Iterator[str]:
    """Jobs with objects, submitted after the newest that is known: ids sort by time."""
    with errors("jobs/"):
        pages = objects.s3.get_paginator("list_objects_v2").paginate(
            Bucket=objects.bucket, Prefix="jobs/", Delimiter="/", StartAfter=f"jobs/{newest}/\uffff"
        )
        for page in pages:
            for folder in page.get("CommonPrefixes", []):
                job_id = folder["Prefix"].split("/")[1]
                if job_id > newest:
                    yield job_id


async def main() -> None:
    settings = Settings()
    database = Database(settings.database_url.get_secret_value(), "scheduler", pool_size=1)
    try:
        found = await recover(database, Objects.from_settings(settings))
    finally:
        await database.close()
    print(json.dumps(asdict(found)))


if __name__ == "__main__":
    asyncio.run(main())
