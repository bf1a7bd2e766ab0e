"""Gateway, scheduler, trainer's service and monitor in one process, and a job that is interrupted once on its way.

Handlers, loops, stores and PostgreSQL are the real ones; broker, cluster and pods are small and keep what the real ones
promise: a record is given out again until it was handled, a launch of the same attempt is the same machine, a pod whose
attempt was fenced writes nothing. A process that dies loses its memory and its open transactions, and is started again.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any

from google.protobuf.message import Message
from sqlalchemy import text

from services.gateway.handlers import HANDLERS as GATEWAY
from services.gateway.store import Store as GatewayStore
from services.monitor.domain import Rules
from services.monitor.handlers import HANDLERS as MONITOR
from services.monitor.loops import issue_receipts
from services.monitor.store import Store as MonitorStore
from services.scheduler.handlers import HANDLERS as SCHEDULER
from services.scheduler.loops import drive_jobs, tend_queue
from services.scheduler.machines_loop import watch_machines
from services.scheduler.settings import Settings
from services.scheduler.store import Store as SchedulerStore
from services.scheduler.world import World
from services.trainer.handlers import HANDLERS as TRAINER
from services.trainer.loops import verify_results
from services.trainer.store import Store as TrainerStore
from sskai import contract, delivery, failpoints, faults
from sskai.bus import KafkaConnectionError
from sskai.cluster import PodState
from sskai.contract import timestamp
from sskai.database import Database
from sskai.delivery import tell
from sskai.events import v1 as events
from sskai.objects import Objects
from tests.fake_cluster import FakeCluster
from tests.reliability.matrix import Crash
from tests.reliability.stage import Stage
from tests.scheduler.examples import START, proposed, submitted

ROUND_SECONDS = 5.0
MAX_ROUNDS = 120
STEPS, STEPS_A_ROUND, SAVE_EVERY = 100, 20, 20
NOTICE_AT = 40
WHEN_DUE = "UPDATE {table} SET due_at = '2000-01-01' WHERE due_at <= :now"
WHEN_LEFT = "UPDATE {table} SET lease_until = '2000-01-01' WHERE lease_until IS NOT NULL"
CLAIMED = {"scheduler": "scheduler.jobs", "monitor": "monitor.jobs", "trainer": "trainer.results"}


@dataclass
class Process:
    """One of the services. `waiting`: records of its topics that it has not committed yet."""

    name: str
    database: Database
    handlers: delivery.Handlers
    store: Callable[[Any], Any]
    loops: list[Callable[[], Awaitable[Any]]] = field(default_factory=list)
    waiting: deque[contract.Record] = field(default_factory=deque)


@failpoints.boundary("broker", KafkaConnectionError)
class Broker:
    """Takes what relays publish, and gives it to every process that handles its type."""

    def __init__(self, take: Callable[[contract.Envelope], None]) -> None:
        self._take = take

    async def publish_all(self, envelopes: Iterable[contract.Envelope]) -> None:
        for envelope in envelopes:
            self._take(envelope)


class System:
    """`artifact_uri`: of job_1, as its pod leaves it.

    `limit_seconds`: what takes longer is taken to hang.
    """

    def __init__(self, stage: Stage, objects: Objects, artifact_uri: str, limit_seconds: float) -> None:
        self.objects = objects
        self.artifact_uri = artifact_uri
        self._limit_seconds = limit_seconds
        self.now = START
        self.cluster = FakeCluster(lambda: self.now)
        self.pods = Pods(self)
        self.crashes = 0
        self.errors: Counter[str] = Counter()
        self.dead_letters: list[str] = []
        self.told: dict[str, Message] = {}  # by the event's id: what was published at least once
        self._planned: set[str] = set()
        self._broker = Broker(self._take)
        self.processes = {
            name: Process(name, stage.databases[name], handlers, store)
            for name, handlers, store in (
                ("gateway", GATEWAY, GatewayStore),
                ("scheduler", SCHEDULER, SchedulerStore),
                ("trainer", TRAINER, TrainerStore),
                ("monitor", MONITOR, partial(MonitorStore, rules=Rules())),
            )
        }
        for process in self.processes.values():
            self._start(process)

    # Processes.

    def _start(self, process: Process) -> None:
        """With an empty memory."""
        database = process.database
        if process.name == "scheduler":
            world = World(database, self.cluster, Settings(), clock=lambda: self.now)
            process.loops = [partial(loop, world) for loop in (drive_jobs, watch_machines, tend_queue)]
        elif process.name == "trainer":
            process.loops = [partial(verify_results, database, self.objects)]
        elif process.name == "monitor":
            process.loops = [partial(issue_receipts, database, 1.0)]

    async def _step(self, process: Process, step: Callable[[], Awaitable[Any]]) -> bool:
        """One step of a process, whatever becomes of it; True: it did what it should."""
        others = asyncio.all_tasks()
        try:
            await asyncio.wait_for(step(), self._limit_seconds)
            return True
        except (Crash, TimeoutError):
            self.crashes += 1
            for task in asyncio.all_tasks() - others:
                task.cancel()
            await asyncio.gather(*(asyncio.all_tasks() - others), return_exceptions=True)
            await process.database.close()
            self._start(process)
        except Exception as error:  # the loop, or the worker of the partition, tries again
            self.errors[f"{process.name}: {error!r}"[:200]] += 1
        return False

    async def _deliver(self, process: Process) -> None:
        """What waits, together as the bus does it; where that fails, the first alone. What is not done comes again."""
        envelopes = [contract.decode(record.value, record.headers) for record in process.waiting]
        names = "+".join(type(one.message).__name__ for one in envelopes)
        to = (process.database, process.handlers, process.store)
        done: list[Any] = []

        async def together() -> None:
            done.extend(await delivery.handle_together(*to, envelopes, self.now))

        async def first() -> None:
            try:
                done.append(await delivery.handle(*to, envelopes[0], self.now))
            except contract.ForeignEventError as error:
                self.dead_letters.append(str(error))
                done.append(None)

        if envelopes:
            with faults.within(f"{process.name}:{names}"):
                if not await self._step(process, together if len(envelopes) > 1 else first) and len(envelopes) > 1:
                    await self._step(process, first)
        for _ in done:
            process.waiting.popleft()

    def _take(self, envelope: contract.Envelope) -> None:
        record = contract.encode(envelope)
        self.told.setdefault(envelope.id, envelope.message)
        for process in self.processes.values():
            if type(envelope.message) in process.handlers:
                process.waiting.append(record)
        self._plan(envelope.message)

    def _plan(self, message: Message) -> None:
        """The optimizer: an hour of work, on spot or on demand."""
        if isinstance(message, events.JobSubmitted):
            after = 0
        elif isinstance(message, events.JobRequeued):
            after = message.attempt
        else:
            return
        if f"{after}" not in self._planned:
            self._planned.add(f"{after}")
            self.publish(proposed(after_attempt=after, at=self.now))

    def publish(self, *messages: Any) -> None:
        """Facts from outside: of pods, of the cloud, of the optimizer."""
        for message in messages:
            self._take(contract.Envelope(message, contract.new_id("evt"), "outside", self.now))

    # A run.

    async def run(self) -> None:
        """From the submission until all is quiet."""
        await self._submit()
        quiet = 0
        for _ in range(MAX_ROUNDS):
            before = len(self.told)
            await self._round()
            quiet = quiet + 1 if self.ended and len(self.told) == before and self._is_idle() else 0
            if quiet == 3:
                return
        raise AssertionError(f"not quiet after {MAX_ROUNDS} rounds: {self.errors}, {self.cluster.observations}")

    async def _submit(self) -> None:
        """As the gateway does: acknowledged is what is committed; a client that hears nothing asks again."""
        gateway = self.processes["gateway"]
        event = submitted()

        async def accept() -> None:
            async with gateway.database.transaction() as session:
                store = GatewayStore(session)
                if await store.job(event.tenant_id, event.job_id) is None:
                    await store.submit_job(event, "", self.now, count_to=1)
                    await tell(session, event)

        for _ in range(5):
            with faults.within("gateway:submission"):
                if await self._step(gateway, accept):
                    return
        raise AssertionError(f"it cannot be submitted: {self.errors}")

    async def _round(self) -> None:
        self.now += timedelta(seconds=ROUND_SECONDS)
        await self._time_passes()
        self.pods.turn()
        for process in self.processes.values():
            await self._deliver(process)
            for loop in list(process.loops):
                await self._step(process, loop)
            with faults.within(process.name):
                await self._step(process, delivery.Relay(process.database, self._broker).publish_batch)

    async def _time_passes(self) -> None:
        """What is due is due by the database's clock, and the leases of the dead run out: these run by the test's."""
        for name, table in CLAIMED.items():
            with faults.suspended():
                async with self.processes[name].database.transaction() as session:
                    now = self.now + timedelta(milliseconds=1)
                    await session.execute(text(WHEN_DUE.format(table=table)), {"now": now})
                    await session.execute(text(WHEN_LEFT.format(table=table)))

    @property
    def ended(self) -> bool:
        return any(isinstance(one, events.ReceiptIssued) for one in self.told.values())

    def _is_idle(self) -> bool:
        return not any(process.waiting for process in self.processes.values())


class Pods:
    """The pods of job_1: each takes the fence, trains, saves, answers a notice, and has a last word."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._step: dict[str, int] = {}
        self._over: set[str] = set()
        self.fence = 0
        self.saved: list[tuple[int, int]] = []  # attempt and step of each checkpoint
        self.noticed = False

    def turn(self) -> None:
        """So many steps of each that runs."""
        cluster = self._system.cluster
        for machine, observation in list(cluster.observations.items()):
            if observation.state is PodState.RUNNING and machine not in self._over:
                self._turn(machine, cluster.pods[machine].attempt)

    def _turn(self, machine: str, attempt: int) -> None:
        if attempt < self.fence:
            return self._exit(machine, 76)
        if machine not in self._step:
            if machine in self._system.cluster.drained:
                self._tell(events.AttemptDrained, attempt, step=self.newest)
                return self._exit(machine, 75)
            self.fence = attempt
            self._step[machine] = self.newest
            return None
        if machine in self._system.cluster.drained:
            self._save(attempt, self._step[machine], "notice")
            self._tell(events.AttemptDrained, attempt, step=self._step[machine])
            return self._exit(machine, 75)
        step = self._step[machine] = min(STEPS, self._step[machine] + STEPS_A_ROUND)
        self._tell(events.AttemptProgressed, attempt, phase="training", step=step, total_steps=STEPS)
        if step % SAVE_EVERY == 0:
            self._save(attempt, step, "final" if step == STEPS else "interval")
        if step >= NOTICE_AT and not self.noticed:
            self.noticed = True
            self._system.publish(events.InterruptionNoticed(machine_id=machine, action="terminate", notice_seconds=120))
        if step == STEPS:
            self._tell(
                events.AttemptFinished,
                attempt,
                succeeded=True,
                artifact_uri=self._system.artifact_uri,
                steps=STEPS,
                train_seconds=60.0,
            )
            self._exit(machine, 0)
        return None

    @property
    def newest(self) -> int:
        return self.saved[-1][1] if self.saved else 0

    def _save(self, attempt: int, step: int, cause: str) -> None:
        self.saved.append((attempt, step))
        self._tell(events.CheckpointCommitted, attempt, step=step, uri=f"s3://sskai/jobs/job_1/{step}", cause=cause)

    def _tell(self, kind: Any, attempt: int, **values: Any) -> None:
        message = kind(job_id="job_1", tenant_id="tenant_a", attempt=attempt, **values)
        message.at.CopyFrom(timestamp(self._system.now))
        self._system.publish(message)

    def _exit(self, machine: str, code: int) -> None:
        self._over.add(machine)
        self._system.cluster.exit(machine, code)
