"""A scheduler without Kafka: events in, loops by hand, facts out, a clock that the test turns."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from google.protobuf.message import Message
from sqlalchemy import select

from services.scheduler.handlers import HANDLERS
from services.scheduler.loops import drive_jobs
from services.scheduler.machines_loop import watch_machines
from services.scheduler.settings import Settings
from services.scheduler.store import AttemptRow, JobRow, Store
from services.scheduler.watching import Watch
from services.scheduler.world import World
from sskai import delivery
from sskai.database import Database
from sskai.events import v1 as events
from sskai.testing import handle
from tests.fake_cluster import FakeCluster
from tests.scheduler.examples import START, proposed, submitted


class Stage:
    def __init__(self, database: Database, **settings: object) -> None:
        self.now = START
        self.database = database
        self.cluster = FakeCluster(lambda: self.now)
        self.world = World(database, self.cluster, Settings(**settings), clock=lambda: self.now)  # type: ignore[arg-type]
        self.told: list[Message] = []
        self.history: list[Any] = []  # everything that was ever published

    async def tell(self, *messages: Any) -> None:
        """Each is its job's tenant's, unless it names another."""
        for message in messages:
            if not getattr(message, "tenant_id", "-"):
                message.tenant_id = await self._tenant_of(message)
            self.told += await handle(HANDLERS, self.database, Store, message, self.now)

    async def _tenant_of(self, message: Any) -> str:
        async with self.database.transaction() as session:
            owner = await session.scalar(select(JobRow.tenant_id).where(JobRow.job_id == message.job_id))
        return owner or ""

    async def turn(self, seconds: float = 0.0) -> None:
        """Let time pass, then one turn of each loop; what is due by the stage's clock is due by the database's."""
        self.now += timedelta(seconds=seconds)
        async with self.database.transaction() as session:
            for row in (await session.scalars(select(JobRow).where(JobRow.due_at.is_not(None)))).all():
                if row.due_at is not None and row.due_at <= self.now + timedelta(milliseconds=1):
                    row.due_at = datetime(2000, 1, 1, tzinfo=START.tzinfo)
        await drive_jobs(self.world)
        await watch_machines(self.world)
        await self._collect()

    async def _collect(self) -> None:
        class Listener:
            async def publish_all(_self, envelopes: object) -> None:
                for envelope in envelopes:  # type: ignore[attr-defined]
                    self.told.append(envelope.message)
                    self.history.append(envelope.message)

        self.told.clear()
        await delivery.Relay(self.database, Listener()).publish_batch()

    def heard(self, kind: type[Message]) -> list[Message]:
        return [message for message in self.told if isinstance(message, kind)]

    async def job(self) -> JobRow:
        async with self.database.transaction() as session:
            row = await session.get(JobRow, "job_1")
            assert row is not None
            return row

    async def run_first_attempt(self, *, fresh: bool = False, **options: float) -> str:
        """`fresh`: by a plan that may serve for the next launch, too."""
        await self.tell(submitted(**options), proposed(at=self.now if fresh else None))
        await self.turn()
        (machine,) = self.cluster.running()
        return machine

    async def attempt(self, number: int) -> AttemptRow:
        async with self.database.transaction() as session:
            row = await session.get(AttemptRow, ("job_1", number))
            assert row is not None
            return row

    async def ledger_holds(self) -> list[Any]:
        """Every row of the ledger: numbered without a gap, their sum is the spend, and no attempt is paid for twice."""
        await self._collect()
        rows = [one for one in self.history if isinstance(one, events.SpendRecorded)]
        job = await self.job()
        assert [row.interval for row in rows] == list(range(1, job.intervals + 1))
        assert sum(row.amount_nano_usd for row in rows) == job.spent_nano_usd
        for number in {row.attempt for row in rows}:
            of_attempt = [row for row in rows if row.attempt == number]
            for earlier, later in itertools.pairwise(of_attempt):
                assert earlier.ended_at == later.started_at
        return rows

    async def restart(self) -> None:
        """The process died: its memory is gone, and the leases that it held run out."""
        self.world = replace(self.world, watch=Watch())
        async with self.database.transaction() as session:
            for row in (await session.scalars(select(JobRow))).all():
                row.lease_until = datetime(2000, 1, 1, tzinfo=START.tzinfo)
