"""Results of one name and of one job that are recorded at once, on a real database: versions are given once."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from sqlalchemy import select

from services.trainer.handlers import HANDLERS
from services.trainer.store import EndedJobRow, ResultRow, Store
from sskai.contract import timestamp
from sskai.database import Database
from sskai.events import v1 as events
from sskai.testing import handle

SERVICE = "trainer"
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
IDS = [f"job_{number}" for number in range(20)]


async def test_results_of_one_name_get_one_version_each(database: Database) -> None:
    ended = [
        events.JobSucceeded(job_id=job_id, tenant_id="t", model_name="bot", ended_at=timestamp(NOW)) for job_id in IDS
    ]
    # Each twice at once, as two replicas may read it while a partition moves.
    await asyncio.gather(*(handle(HANDLERS, database, Store, one, NOW) for one in ended for _ in range(2)))

    async def publish(job_id: str) -> tuple[str, int]:
        async with database.transaction() as session:
            store = Store(session)
            result = await store.result("t", job_id)
            assert result is not None
            return await store.next_version(result)

    given = await asyncio.gather(*map(publish, IDS))
    assert sorted(version for _, version in given) == list(range(1, 21))
    assert len({model_id for model_id, _ in given}) == 1
    async with database.transaction() as session:
        recorded = (await session.execute(select(ResultRow.model_id, ResultRow.version))).all()
        assert sorted(map(tuple, recorded)) == sorted(given)
        assert len((await session.scalars(select(EndedJobRow))).all()) == 20
