"""The service that is measured: each JobRequeued changes a row and is answered by a PlanProposed.

`python -m benchmarks.events.receiver FILE` writes to FILE, when it is stopped, when each event's transaction had
committed: `{number: seconds}` by the clock that all processes of a machine share.
"""

from __future__ import annotations

import json
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from google.protobuf.message import Message
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from sskai.events import v1 as events
from sskai.service import Service
from sskai.settings import Settings
from sskai.statements import Statement

_COUNT = Statement(
    text(
        "INSERT INTO optimizer.effects AS e VALUES (:job_id, 1, :number) "
        "ON CONFLICT (job_id) DO UPDATE SET handled = e.handled + 1, total = e.total + :number"
    )
)


class Store:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def count(self, job_id: str, number: int) -> None:
        await _COUNT.all(self._session, {"job_id": job_id, "number": number})


async def job_requeued(event: events.JobRequeued, store: Store, _now: datetime) -> list[Any]:
    await store.count(event.job_id, event.attempt)
    return [events.PlanProposed(job_id=event.job_id, tenant_id=event.tenant_id, plan_id=f"plan_{event.attempt}")]


def main() -> None:
    committed: list[tuple[int, float]] = []

    def note(event: Message, _told: list[Message]) -> None:
        committed.append((event.attempt, time.monotonic()))  # type: ignore[attr-defined]

    Service("optimizer", Settings(), {events.JobRequeued: job_requeued}, Store, after_event=note).run()
    Path(sys.argv[1]).write_text(json.dumps(committed))


if __name__ == "__main__":
    main()
