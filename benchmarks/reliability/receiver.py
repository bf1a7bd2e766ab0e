"""The service that is poisoned: each JobRequeued of a job's own tenant changes a row.

`python -m benchmarks.reliability.receiver FILE` writes to FILE, when it is stopped, when each event's transaction had
committed, by the clock that all processes of a machine share: `[[number, seconds], ...]`.
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
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from sskai.events import v1 as events
from sskai.ownership import Owned
from sskai.service import Service
from sskai.settings import Settings

TABLE = "CREATE TABLE optimizer.owned (job_id text PRIMARY KEY, tenant_id text NOT NULL, handled bigint NOT NULL)"
_COUNT = text(
    "INSERT INTO optimizer.owned AS o VALUES (:job_id, :tenant_id, 1) "
    "ON CONFLICT (job_id) DO UPDATE SET handled = o.handled + 1"
)


class Base(DeclarativeBase):
    """Of the one table."""


class OwnedRow(Base):
    """A job, its tenant and how many of its events were handled."""

    __tablename__ = "owned"
    __table_args__ = {"schema": "optimizer"}  # noqa: RUF012 (SQLAlchemy's own form)

    job_id: Mapped[str] = mapped_column(primary_key=True)
    tenant_id: Mapped[str]
    handled: Mapped[int]


class Store:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def count(self, job_id: str, tenant_id: str) -> None:
        await self._session.execute(_COUNT, {"job_id": job_id, "tenant_id": tenant_id})


async def job_requeued(event: events.JobRequeued, store: Store, _now: datetime) -> list[Any]:
    await store.count(event.job_id, event.tenant_id)
    return []


def main() -> None:
    committed: list[tuple[int, float]] = []

    def note(event: Message, _told: list[Message]) -> None:
        committed.append((event.attempt, time.monotonic()))  # type: ignore[attr-defined]

    handlers = Owned({events.JobRequeued: job_requeued}, {"job_id": [OwnedRow]})
    Service("optimizer", Settings(), handlers, Store, after_event=note).run()
    Path(sys.argv[1]).write_text(json.dumps(committed))


if __name__ == "__main__":
    main()
