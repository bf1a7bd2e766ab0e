"""What must hold while it storms, and what must be true afterwards: the simulation's own invariants on real parts.

`Watch.look` is for every moment (I2, I4, I5, I8, I9), `Watch.moving` says what has not come to rest (I1, I3, I7), and
`check_invariants` judges the whole: also the pods' logs, the ledger, and what was set aside.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import psycopg
from aiokafka import TopicPartition

from simulation.invariants import ENDED, Invariants
from simulation.trace import Trace
from sskai import broker_admin, contract
from sskai.bus import Incoming
from sskai.database import SERVICES
from tests.chaos.faults import POISON_KEY, Log
from tests.chaos.history import History
from tests.chaos.stack import Stack
from tests.chaos.users import Users
from tests.scheduler.chaos_checks import Record, overlaps

LOOK_SECONDS = 0.5
STATES = "SELECT job_id, state FROM scheduler.jobs"
# A budget's account: what the tenant has spent, and what its owners that have not been released may still spend.
ACCOUNTS = """
SELECT b.tenant_id, b.amount_nano_usd,
  coalesce((SELECT sum(d.amount_nano_usd) FROM monitor.spend_days d WHERE d.tenant_id = b.tenant_id), 0),
  coalesce((SELECT sum(greatest(0, r.limit_nano_usd - coalesce(
      (SELECT sum(d.amount_nano_usd) FROM monitor.spend_days d WHERE d.job_id = r.owner_id), 0)))
    FROM monitor.reserves r WHERE r.tenant_id = b.tenant_id AND r.release_at IS NULL), 0)
FROM monitor.budgets b WHERE b.scope = 'tenant' AND b.action = 'stop' AND NOT b.removed
"""


@dataclass
class Database:
    """Asked directly, not through a proxy; connects anew after a crash."""

    stack: Stack
    _connection: psycopg.Connection[Any] | None = None

    def ask(self, statement: str) -> list[tuple[Any, ...]]:
        """Raises psycopg.OperationalError while it is away."""
        try:
            if self._connection is None:
                self._connection = self.stack.connect()
            return self._connection.execute(statement).fetchall()  # type: ignore[arg-type]
        except psycopg.OperationalError:
            self.close()
            raise

    @property
    def connection(self) -> psycopg.Connection[Any]:
        self.ask("SELECT 1")
        assert self._connection is not None
        return self._connection

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None


@dataclass
class Letters:
    """What was set aside and should not have been, by partition, as the simulation's broker keeps its records."""

    logs: dict[TopicPartition, list[Incoming]] = field(default_factory=lambda: defaultdict(list))


class Watch:
    """Looks at the whole again and again, from the first job to the judgement."""

    def __init__(self, stack: Stack, users: Users) -> None:
        self.database = Database(stack)
        self.states: dict[str, str] = {}  # of jobs, in the scheduler, as last seen
        self._stack = stack
        self._users = users
        self._letters = Letters()
        self._looking = threading.Lock()
        self.invariants = Invariants(
            Trace(),
            self.database,  # type: ignore[arg-type]
            self._letters,  # type: ignore[arg-type]
            None,  # type: ignore[arg-type]
            users,  # type: ignore[arg-type]
            LOOK_SECONDS,
        )

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.to_thread(self.look)
            await asyncio.sleep(LOOK_SECONDS)

    def look(self) -> None:
        """What must hold at this moment. A database that is away is looked at later."""
        for job_id, wish in list(self._users.acknowledged.items()):
            self.invariants.jobs[job_id].budget_nano_usd = wish.budget_nano_usd
            self.invariants.jobs[job_id].tenant_id = wish.tenant_id
        # One look at a time: an older answer after a newer one would be a step back.
        with self._looking, suppress(psycopg.OperationalError):
            self.invariants.committed()
            self.states = dict(self.database.ask(STATES))
            for tenant_id, amount, spent, reserved in self.database.ask(ACCOUNTS):
                if spent + reserved > amount:
                    self.invariants.broke("I5", f"{tenant_id}: {spent} spent and {reserved} reserved of {amount}")

    def unended(self) -> int:
        return sum(self.states.get(job_id) not in ENDED for job_id in self._users.acknowledged)

    async def moving(self) -> list[str]:
        """What has not come to rest; empty: nothing."""
        await asyncio.to_thread(self.look)
        found = await asyncio.to_thread(self._moving_in_database)
        found += await self._behind()
        machines = await asyncio.to_thread(self._stack.cloud().machines)
        pods = Counter(one["pod"]["name"] for one in machines)
        for name, count in pods.items():
            if count > 1:
                self.invariants.broke("I3", f"{name} was given {count} machines")
        return found + [f"the machine of {one['pod']['name']} stands" for one in machines if one["state"] != "gone"]

    def _moving_in_database(self) -> list[str]:
        ask = self.database.ask
        found = []
        gateway = dict(ask("SELECT job_id, state FROM gateway.jobs"))
        receipts = {job_id for (job_id,) in ask("SELECT job_id FROM monitor.receipts")}
        for job_id in self._users.acknowledged:
            for name, state in (("scheduler", self.states.get(job_id)), ("gateway", gateway.get(job_id))):
                if state not in ENDED:
                    found.append(f"{job_id} is {state or 'unknown'} in the {name}")
            if job_id not in receipts:
                found.append(f"{job_id} has no receipt")
        results = dict(ask("SELECT job_id, state FROM trainer.results"))
        found += [
            f"the result of {job_id} is {results.get(job_id, 'unknown')}"
            for job_id, state in self.states.items()
            if state == "succeeded" and results.get(job_id) not in ("published", "refused")
        ]
        for service in SERVICES:
            ((waiting,),) = ask(f"SELECT count(*) FROM {service}.outbox")
            found += [f"{service} has {waiting} events to tell"] if waiting else []
        return found

    async def _behind(self) -> list[str]:
        async with broker_admin.connected(self._stack.bootstrap) as broker:
            ends = await broker.ends(contract.TOPICS)
            groups = await broker.groups(SERVICES)
        found = []
        for service in SERVICES:
            handlers = import_module(f"services.{service}.handlers").HANDLERS
            topics = {contract.topic_of(message) for message in handlers}
            group = groups.get(service)
            committed = group.committed if group is not None else {}
            lag = sum(end - committed.get(at, 0) for at, end in ends.items() if at.topic in topics)
            found += [f"{service} has {lag} records to handle"] if lag else []
        return found

    def judge(self, history: History, log: Log, pods: Path, *, at_rest: bool) -> list[str]:
        """As `check_invariants`."""
        self.look()
        for envelope in history.told:
            if envelope.id not in log.poison | log.maybe:
                record = contract.encode(envelope)
                self.invariants.told(record.value, record.headers)
        for job_id in self._users.acknowledged:
            self._pod_log(pods, job_id)
        found = [f"I2: {what}" for what in overlaps(Record(submitted=dict.fromkeys(self._users.acknowledged, 0)), pods)]
        found += self._set_aside(history, log)
        if at_rest:
            self.invariants.settled()
        found += [str(violation) for violation in self.invariants.violations]
        return sorted(Counter(found))

    def _pod_log(self, pods: Path, job_id: str) -> None:
        """What the pods of a job did, in the order in which they did it."""
        log = pods / job_id / "log"
        for line in log.read_text().splitlines() if log.exists() else ():
            number, word, step, _at = line.split()
            attempt = int(number)
            if word == "began":
                self.invariants.took_over(job_id, attempt, int(step))
            elif word == "save":
                self.invariants.saved(job_id, attempt, int(step))
            elif word == "done":
                state = (pods / job_id / f"end-{attempt}").read_text()
                self.invariants.finished(job_id, attempt, state)

    def _set_aside(self, history: History, log: Log) -> list[str]:
        """All poison, with its reason, and nothing else."""
        found, poisoned = [], set()
        for letter in history.letters:
            headers = {name: text.decode(errors="replace") for name, text in letter.headers}
            if not headers.get("dlq_reason"):
                found.append(f"I0: a record in {letter.topic} has no reason")
            if letter.key == POISON_KEY:
                poisoned.add(headers["ce_id"])
            else:
                self._letters.logs[TopicPartition(letter.topic, letter.partition)].append(letter)
        return found + [f"I7: poison {one} was not set aside" for one in log.poison - poisoned]


def check_invariants(watch: Watch, history: History, log: Log, pods: Path, moving: list[str]) -> list[str]:
    """A sentence for each thing that should not be; none is the goal. `moving`: what had not come to rest in time."""
    found = [f"I1, I3, I7: {what}" for what in moving]
    return found + watch.judge(history, log, pods, at_rest=not moving)
