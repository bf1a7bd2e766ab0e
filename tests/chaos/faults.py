"""The storm: faults drawn from one seed, each of which ends by itself; `Storm.end` ends what still goes on."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

import httpx2

from sskai import contract
from sskai.broker_admin import AdminError
from sskai.bus import Publisher
from sskai.events import v1 as events
from sskai.testing import envelope
from tests.chaos.stack import PROCESSES, PROXIED, Stack
from tests.chaos.users import TENANTS

# How many cards of each kind lie in the deck, which is shuffled and dealt to its end, again and again: so a storm of a
# minute has had each kind, whatever its seed.
DECK = {
    "kill": 6,  # kill -9 of a service
    "stop": 2,  # SIGSTOP, most of them longer than the scheduler's lease
    "interrupt": 4,  # a machine is taken, half of them with a notice
    "reset": 1,  # of all connections to a part
    "slow": 1,
    "silent": 1,
    "cut": 1,
    "crash": 2,  # of broker or database, which come back at once
    "away": 1,  # the same, for a while
    "crash-other": 1,  # of object store or cloud
    "full-disk": 1,  # of the object store
    "poison": 1,  # a record that no service can take
}
STORES = ("kafka", "postgres")
DELAY_SECONDS = (0.002, 0.15)
NOTICE_SECONDS = (2.0, 20.0)
STOP_SECONDS = (1.0, 30.0)
OUTAGE_SECONDS = (2.0, 30.0)
PATH_SECONDS = (1.0, 15.0)
PUBLISH_SECONDS = 5.0
# A job without a new checkpoint recovers three times an hour, and then waits for the next one: longer than a storm.
MACHINES_TAKEN_OF_A_JOB = 2
POISON_KEY = b"poison"


@dataclass(frozen=True, slots=True)
class Kill:
    service: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Outage:
    """A store was away; `until`: it served again."""

    part: str
    since: datetime
    until: datetime


@dataclass
class Log:
    """What was done."""

    counts: Counter[str] = field(default_factory=Counter)
    kills: list[Kill] = field(default_factory=list)
    outages: list[Outage] = field(default_factory=list)
    poison: set[str] = field(default_factory=set)  # ids of records that must be found set aside
    maybe: set[str] = field(default_factory=set)  # of those that were sent, and not acknowledged
    errors: list[str] = field(default_factory=list)  # of the harness itself


class Storm:
    """`longest_seconds` caps each single fault, so that a short storm has many."""

    def __init__(
        self, stack: Stack, dice: random.Random, longest_seconds: float, jobs: Callable[[], list[str]]
    ) -> None:
        self.log = Log()
        self._stack = stack
        self._dice = dice
        self._longest = longest_seconds
        self._jobs = jobs  # that were accepted so far
        self._cloud = stack.cloud()
        self._publisher = Publisher(stack.bootstrap, "chaos")
        self._deck: list[str] = []
        self._busy: set[str] = set()  # what something is being done to
        self._taken: Counter[str] = Counter()  # machines, by job
        self._going_on: set[asyncio.Task[None]] = set()
        self._acts: dict[str, Callable[[], Awaitable[bool]]] = {
            "kill": self._kill,
            "stop": self._stop,
            "interrupt": self._interrupt,
            "reset": self._reset,
            "slow": partial(self._path, self._slow),
            "silent": partial(self._path, lambda proxy: proxy.fall_silent()),
            "cut": partial(self._path, lambda proxy: proxy.cut()),
            "crash": partial(self._crash, STORES),
            "away": self._away,
            "crash-other": partial(self._crash, ("objects", "cloud")),
            "full-disk": self._full_disk,
            "poison": self._poison,
        }

    async def blow(self, seconds: float, mean_between_seconds: float) -> None:
        """For so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while True:
                    await asyncio.sleep(self._dice.expovariate(1 / mean_between_seconds))
                    self._strike(self._deal())

    async def end(self) -> None:
        """Everything is as it was."""
        await asyncio.gather(*self._going_on)
        await self._stack.heal()
        await self._publisher.stop()

    def _deal(self) -> str:
        if not self._deck:
            self._deck = [kind for kind, count in DECK.items() for _ in range(count)]
            self._dice.shuffle(self._deck)
        return self._deck.pop()

    def _strike(self, kind: str) -> None:
        async def strike() -> None:
            try:
                if await self._acts[kind]():
                    self.log.counts[kind] += 1
            except Exception as error:
                self.log.errors.append(f"{kind}: {error!r}"[:500])

        task = asyncio.create_task(strike())
        self._going_on.add(task)
        task.add_done_callback(self._going_on.discard)

    # Kinds: each returns whether there was something to do it to.

    async def _kill(self) -> bool:
        name = self._one_of(PROCESSES)
        if name is None or not self._stack.kill(name):
            return False
        self.log.kills.append(Kill(name, datetime.now(UTC)))
        await self._give_work()
        return True

    async def _stop(self) -> bool:
        name = self._one_of(PROCESSES)
        if name is None or not self._stack.stand_still(name):
            return False
        with self._at(name):
            await asyncio.sleep(self._seconds(STOP_SECONDS))
            self._stack.go_on(name)
        return True

    async def _interrupt(self) -> bool:
        notice_seconds = self._dice.choice([0.0, self._dice.uniform(*NOTICE_SECONDS)])
        pick = self._dice.random()
        try:
            machines = await asyncio.to_thread(self._cloud.machines)
            running = [
                one
                for one in machines
                if one["state"] == "running" and self._taken[one["tags"]["sskai-job"]] < MACHINES_TAKEN_OF_A_JOB
            ]
            if not running:
                return False
            taken = running[int(pick * len(running))]
            await asyncio.to_thread(self._cloud.interrupt, taken["machine_id"], notice_seconds)
            self._taken[taken["tags"]["sskai-job"]] += 1
        except httpx2.HTTPError:  # the cloud is down, or the machine has just gone
            return False
        return True

    async def _reset(self) -> bool:
        self._stack.proxies[self._dice.choice(PROXIED)].reset()
        return True

    async def _path(self, spoil: Callable[[Any], None]) -> bool:
        name = self._one_of(tuple(f"to {part}" for part in PROXIED))
        if name is None:
            return False
        proxy = self._stack.proxies[name.removeprefix("to ")]
        with self._at(name):
            spoil(proxy)
            await asyncio.sleep(self._seconds(PATH_SECONDS))
            proxy.heal()
        return True

    @staticmethod
    def _slow(proxy: Any) -> None:
        proxy.delay_seconds = DELAY_SECONDS

    async def _crash(self, names: tuple[str, ...]) -> bool:
        name = self._one_of(names)
        return name is not None and self._stack.crash(name)

    async def _away(self) -> bool:
        name = self._one_of(STORES)
        if name is None:
            return False
        with self._at(name):
            since = datetime.now(UTC)
            await self._stack.take_away(name)
            await asyncio.sleep(self._seconds(OUTAGE_SECONDS))
            await self._give_work()
            await self._stack.bring_back(name)
            self.log.outages.append(Outage(name, since, datetime.now(UTC)))
        return True

    async def _full_disk(self) -> bool:
        if not self._stack.disk.mounted or "disk" in self._busy:
            return False
        with self._at("disk"):
            self._stack.disk.fill()
            await asyncio.sleep(self._seconds(PATH_SECONDS))
            self._stack.disk.make_room()
        return True

    async def _poison(self) -> bool:
        """Bytes that are no message, and an event of another tenant's that names a job."""
        jobs = self._jobs()
        if not jobs:
            return False
        job_id, tenant_id = self._dice.choice(jobs).split(" ")
        foreign = next(one for one in TENANTS if one != tenant_id)
        wrapped = envelope(events.AttemptProgressed(job_id=job_id, tenant_id=foreign, attempt=99, step=10**6))
        record = contract.encode(wrapped)
        value = self._dice.choice([record.value, b"\xff" * 40])
        try:
            async with asyncio.timeout(PUBLISH_SECONDS):
                producer = await self._publisher.start()
                await producer.send_and_wait(record.topic, value=value, key=POISON_KEY, headers=record.headers)
        except (AdminError, OSError, TimeoutError):  # the broker is away; whether it has it, nobody knows
            self.log.maybe.add(wrapped.id)
            return False
        self.log.poison.add(wrapped.id)
        return True

    # What they share

    async def _give_work(self) -> None:
        """An event that waits for gateway, scheduler, inference and monitor, and changes nothing: so how soon they are
        back does not depend on what the jobs have to tell."""
        probe = events.BudgetRemoved(budget_id=contract.new_id("budget"), tenant_id=TENANTS[0])
        probe.removed_at.CopyFrom(contract.timestamp(datetime.now(UTC)))
        with suppress(AdminError, OSError, TimeoutError):
            async with asyncio.timeout(PUBLISH_SECONDS):
                await self._publisher.publish_all([envelope(probe)])

    def _one_of(self, names: tuple[str, ...]) -> str | None:
        free = [name for name in names if name not in self._busy]
        return self._dice.choice(free) if free else None

    def _seconds(self, between: tuple[float, float]) -> float:
        return min(self._longest, self._dice.uniform(*between))

    @contextmanager
    def _at(self, name: str) -> Iterator[None]:
        self._busy.add(name)
        try:
            yield
        finally:
            self._busy.discard(name)
