"""One seed, from its first event to rest: the world is put together, the weather comes and goes, and is looked at."""

from __future__ import annotations

import asyncio
import gc
import random
import shutil
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from simulation import broker, cluster, objectstore, pod, processes
from simulation import globals as simulated
from simulation.invariants import Invariants
from simulation.loop import Actor, EventsError, StuckError, VirtualLoop
from simulation.postgres import IDLE_SECONDS, Server
from simulation.processes import Process
from simulation.scenario import FAULTS_SECONDS, Fault, Scenario, draw
from simulation.trace import Entry, Trace
from simulation.users import Users
from sskai import contract

MAX_CALLBACKS = 3_000_000
# Once the faults are over: jobs take their time, and then everything has come to rest within a minute.
JOBS_SECONDS = 7200.0
REST_SECONDS = 120.0
LOOK_SECONDS = 2.0


@dataclass
class Result:
    seed: int
    sha256: str
    violations: list[str]
    seconds: float  # of this computer
    simulated_seconds: float
    counts: dict[str, int]
    statements: int
    ends: dict[str, int]
    scenario: Scenario
    entries: list[Entry] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "seed": self.seed,
            "sha256": self.sha256,
            "violations": self.violations,
            "seconds": round(self.seconds, 3),
            "simulated_seconds": round(self.simulated_seconds, 1),
            "events": self.counts.get("told", 0),
            "statements": self.statements,
            "ends": self.ends,
            "faults": [str(fault).strip() for fault in self.scenario.faults],
            "counts": self.counts,
        }


class World:
    """Everything that one run consists of."""

    def __init__(self, scenario: Scenario, server: Server, trace: Trace, folder: Path) -> None:
        self.scenario, self.server, self.trace, self.folder = scenario, server, trace, folder
        self.processes: dict[tuple[str, int], Process] = {}
        self.calm = False
        self._incarnations = 0
        self.broker = broker.BROKER = broker.Broker(trace, scenario.broker)
        objectstore.STORE = objectstore.Store(trace, scenario.objects)
        self.cloud = cluster.CLOUD = cluster.Cloud(trace, scenario.cluster, self._train)
        self.users = Users(lambda: self.processes.get(("gateway", 0)), trace)
        self.settings = processes.settings(folder, **scenario.settings)
        self.invariants = Invariants(
            trace, server, self.broker, self.cloud, self.users, scenario.settings["metering_seconds"]
        )
        self.broker.on_told = self._told
        server.on_commit = self._committed

    def _told(self, kept: broker.Kept) -> None:
        if not kept.topic.endswith(contract.DEAD_LETTER_SUFFIX):
            self.invariants.told(kept.value, kept.headers)

    def _committed(self, service: str) -> None:
        if service == "scheduler":
            self.invariants.committed()

    async def _train(self, machine: cluster.Standing) -> int:
        home = self.folder / machine.pod.name
        home.mkdir()
        observer = pod.Observer(self.invariants.took_over, self.invariants.saved, self.invariants.finished)
        return await pod.Training(machine, pod.settings_of(machine), self.scenario.pods, home, observer).run()

    # Processes

    def start(self, service: str, replica: int) -> None:
        self._incarnations += 1
        process = Process(service, replica, self._incarnations, 0.0 if self.calm else self.scenario.skews[service])
        self.processes[service, replica] = process
        self.trace.say("started", process.name)
        own = {service: self.settings[service].model_copy(update={"instance": str(replica)})}
        processes.start(process, own, self.scenario.tempo)

    def crash(self, process: Process) -> None:
        """kill -9: memory and open transactions are gone."""
        self.trace.say("crashed", process.name)
        process.alive = False
        self.server.forget(process)
        if process.paused:
            asyncio.get_running_loop().resume(process)  # type: ignore[attr-defined]
        for task in list(process.tasks):
            task.cancel()

    async def live(self) -> None:
        """Until everything is at rest, or something is wrong."""
        scenario = self.scenario
        for service, count in scenario.replicas.items():
            for replica in range(count):
                self.start(service, replica)
        people = [asyncio.create_task(self._set_up())]
        people += [asyncio.create_task(self._fault(fault)) for fault in scenario.faults]
        loop = asyncio.get_running_loop()
        while loop.time() < FAULTS_SECONDS and not (people[0].done() and not self.invariants.at_rest()):
            await self._look(people)
        # What has not begun by now, or when all is at rest already, does not come any more.
        self._calm_down()
        jobs_until, rest_until = loop.time() + JOBS_SECONDS, 0.0
        while moving := self.invariants.at_rest():
            await self._look(people)
            jobs_ended = all(self.invariants.jobs[job].end for job in self.users.acknowledged)
            if not jobs_ended:
                rest_until = 0.0
            elif not rest_until:
                rest_until = loop.time() + REST_SECONDS
            if loop.time() > (rest_until or jobs_until):
                self.invariants.broke("I7" if rest_until else "I1", f"nothing comes to rest: {'; '.join(moving[:8])}")
                return
        self.invariants.settled()

    async def _look(self, people: list[asyncio.Task[Any]]) -> None:
        await asyncio.sleep(LOOK_SECONDS)
        for task in people:
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                raise error
        if self.invariants.violations:
            raise self.invariants.violations[0]

    async def _set_up(self) -> None:
        scenario, users = self.scenario, self.users
        for tenant_id in scenario.tenants:
            await users.upload(tenant_id, scenario.rows)
        await asyncio.gather(
            *(users.submit(wish) for wish in scenario.wishes),
            *(users.set_budget(one.tenant_id, one.at, one.form) for one in scenario.budgets),
        )

    # Faults

    async def _fault(self, fault: Fault) -> None:
        await asyncio.sleep(fault.at)
        if self.calm:
            return
        self.trace.say("fault", f"{fault.kind} {fault.service} {fault.seconds:.1f}")
        await getattr(self, f"_{fault.kind.replace('-', '_')}")(fault)

    def _victim(self, fault: Fault) -> Process | None:
        replicas = [one for one in self.processes.values() if one.service == fault.service and one.alive]
        return simulated.SOURCES.dice.choice(replicas) if replicas else None

    async def _crash(self, fault: Fault) -> None:
        process = self._victim(fault)
        if process is None:
            return
        self.crash(process)
        await asyncio.sleep(fault.seconds)
        replica = next(key for key, one in self.processes.items() if one is process)[1]
        self.start(fault.service, replica)

    async def _pause(self, fault: Fault) -> None:
        process = self._victim(fault)
        if process is None or process.paused:
            return
        process.paused = True
        if fault.seconds > IDLE_SECONDS:
            await asyncio.sleep(IDLE_SECONDS)
            self.server.forget(process)  # idle_in_transaction_session_timeout
        await asyncio.sleep(fault.seconds % IDLE_SECONDS)
        if process.alive and process.paused:
            self.trace.say("woke", process.name)
            asyncio.get_running_loop().resume(process)  # type: ignore[attr-defined]

    async def _cut(self, away: set[str], name: str, seconds: float) -> None:
        away.add(name)
        await asyncio.sleep(seconds)
        away.discard(name)

    async def _cut_broker(self, fault: Fault) -> None:
        await self._cut(self.broker.weather.away_from, fault.service, fault.seconds)

    async def _broker_away(self, fault: Fault) -> None:
        await self._cut(self.broker.weather.away_from, "", fault.seconds)

    async def _cut_cluster(self, fault: Fault) -> None:
        await self._cut(self.cloud.weather.away_from, fault.service or "scheduler", fault.seconds)

    async def _cloud_away(self, fault: Fault) -> None:
        await self._cut(self.cloud.weather.away_from, "", fault.seconds)

    async def _cut_objects(self, fault: Fault) -> None:
        await self._cut(objectstore.store().weather.away_from, fault.service, fault.seconds)

    async def _disk_full(self, fault: Fault) -> None:
        objectstore.store().weather.full = True
        await asyncio.sleep(fault.seconds)
        objectstore.store().weather.full = False

    async def _database_restart(self, _fault: Fault) -> None:
        self.server.restart()

    async def _database_away(self, fault: Fault) -> None:
        self.server.weather.away = True
        self.server.restart()
        await asyncio.sleep(fault.seconds)
        self.server.weather.away = False

    async def _no_capacity(self, fault: Fault) -> None:
        self.cloud.weather.nothing = True
        await asyncio.sleep(fault.seconds)
        self.cloud.weather.nothing = False

    async def _interrupt(self, _fault: Fault) -> None:
        running = [
            one for one in self.cloud.machines.values() if one.costs and one.terminates_at is None and one.on_spot
        ]
        if running:
            dice = simulated.SOURCES.dice
            self.cloud.interrupt(dice.choice(running), dice.choice((0.0, 2.0, 5.0, 39.0, 120.0)))

    async def _price_spike(self, _fault: Fault) -> None:
        """Told by somebody's price feed."""
        from simulation import market

        market.spike(self.broker)

    def _calm_down(self) -> None:
        """The faults are over: what is down comes up, what was cut is joined, nothing is lost any more."""
        self.calm = True
        self.trace.say("calm")
        self.server.weather.away, self.server.weather.lost_answers = False, 0.0
        weather = self.broker.weather
        weather.lost_acknowledgements = weather.held_back = weather.redelivered = 0.0
        weather.away_from.clear()
        objects, cloud = objectstore.store().weather, self.cloud.weather
        objects.full, objects.lost_answers = False, 0.0
        objects.away_from.clear()
        cloud.lost_answers = cloud.failed_deletes = cloud.mean_life_seconds = cloud.denied = 0.0
        cloud.nothing = False
        cloud.away_from.clear()
        pods = self.scenario.pods
        pods.fails = pods.mute_deaths = pods.hangs = 0.0
        for process in self.processes.values():
            if process.paused:
                asyncio.get_running_loop().resume(process)  # type: ignore[attr-defined]


@contextmanager
def _log_to(trace: Trace, unforeseen: list[str]) -> Iterator[None]:
    """What the services log becomes a part of the trace; an exception that nobody foresaw is noted."""

    def take(_logger: Any, method: str, words: MutableMapping[str, Any]) -> Any:
        error = words.pop("exc_info", None)
        text = " ".join(f"{name}={value!r}"[:300] for name, value in words.items())
        trace.say(f"log-{method}", text)
        if method in ("exception", "critical") or error:
            unforeseen.append(f"{text}\n{traceback.format_exc()}")
        raise structlog.DropEvent

    structlog.configure(
        processors=[take], wrapper_class=structlog.make_filtering_bound_logger(30), cache_logger_on_first_use=False
    )
    try:
        yield
    finally:
        structlog.reset_defaults()


def run(
    seed: int, server: Server, trace: Trace | None = None, at_rest: Callable[[World], None] = lambda _world: None
) -> Result:
    """Equal seeds give an equal `sha256`, in whatever process, after whatever other seeds. `at_rest` looks at the world
    when everything is over, and nothing runs any more."""
    scenario, trace = draw(seed), trace or Trace()
    folder = Path(tempfile.mkdtemp(prefix="sskai-run-"))
    began = time.monotonic()
    loop = VirtualLoop(MAX_CALLBACKS)
    asyncio.set_event_loop(loop)
    simulated.SOURCES.loop, simulated.SOURCES.dice = loop, random.Random(f"run {seed}")
    gc.collect()
    gc.disable()
    unforeseen: list[str] = []
    server.begin(trace, scenario.database)
    violations: list[str] = []
    world = World(scenario, server, trace, folder)
    try:
        with _log_to(trace, unforeseen):
            try:
                loop.run_until_complete(world.live())
            except (EventsError, StuckError) as error:
                world.invariants.broke("I7", str(error))
            except Exception as error:
                if not world.invariants.violations:
                    unforeseen.append("".join(traceback.format_exception(error)))
            violations += [str(one) for one in world.invariants.violations]
            violations += [f"I0: {text}" for text in unforeseen]
            simulated_seconds, statements = loop.time(), server.statements
            _end(loop, world)
            at_rest(world)
    finally:
        server.end()
        simulated.SOURCES.loop = None
        loop.close()
        gc.enable()
        shutil.rmtree(folder, ignore_errors=True)
    ends: dict[str, int] = {}
    for job_id in world.users.acknowledged:
        end = world.invariants.jobs[job_id].end or "none"
        ends[end] = ends.get(end, 0) + 1
    return Result(
        seed,
        trace.sha256,
        violations,
        time.monotonic() - began,
        simulated_seconds,
        dict(trace.counts),
        statements,
        ends,
        scenario,
        trace.entries,
    )


def _end(loop: VirtualLoop, world: World) -> None:
    """Leave nothing behind: every task ends, whatever it waits for."""
    for actor in [*world.processes.values(), *(one.actor for one in world.cloud.machines.values())]:
        actor.alive = False
        if actor.paused:
            loop.resume(actor)
    for one in world.processes.values():
        world.server.forget(one)
    pending = asyncio.all_tasks(loop)
    for task in pending:
        task.cancel()
    with suppress(Exception):
        loop.run_until_complete(asyncio.wait(pending, timeout=60))


__all__ = ["Actor", "Result", "run"]
