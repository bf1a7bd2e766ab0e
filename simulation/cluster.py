"""Machines of a simulated market: given, denied, noticed, taken, deleted; launches that lie about what they did.

One cloud for everybody. A service sees it through a `SimulatedCluster` of its own, which can be cut off.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from services.monitor.sources import Raw, SourceAwayError
from simulation import globals as simulated
from simulation.loop import ACTOR, Actor
from simulation.trace import Trace
from sskai.cluster import (
    ClusterUnavailableError,
    Line,
    LogPage,
    Machine,
    NoCapacityError,
    NoLogError,
    Observation,
    Pod,
    PodState,
    offer_of,
)
from sskai.events import v1 as events

KILLED = 137
GRACE_SECONDS = 120.0  # from SIGTERM to SIGKILL, where nothing else ends the machine

Program = Callable[["Standing"], Coroutine[Any, Any, int]]


@dataclass
class Weather:
    """Drawn from the seed."""

    least_seconds: float = 0.05
    most_seconds: float = 1.0
    lost_answers: float = 0.0  # share of launches that are done and reported as failed
    failed_deletes: float = 0.0
    mean_life_seconds: float = 0.0  # of spot machines; 0: the market takes none
    without_notice: float = 0.3  # share of machines that go without a word
    notices: tuple[float, ...] = (5.0, 39.0, 120.0)
    denied: float = 0.0  # share of spot launches that get nothing
    nothing: bool = False  # no capacity at all, of whatever kind
    forgets_seconds: float = 30.0  # how long a machine that is gone is still listed
    knows_ends: bool = True  # whether the list says when a pod ended
    away_from: set[str] = field(default_factory=set)


@dataclass(eq=False)
class Standing:
    """One machine and the pod on it."""

    machine_id: str
    pod: Pod
    launched_at: float
    actor: Actor
    state: PodState = PodState.RUNNING
    exit_code: int | None = None
    ended_at: float | None = None  # the pod's program
    gone_at: float | None = None  # the machine
    noticed: asyncio.Event = field(default_factory=asyncio.Event)
    terminates_at: float | None = None
    tasks: list[asyncio.Task[Any]] = field(default_factory=list)

    @property
    def costs(self) -> bool:
        return self.gone_at is None

    @property
    def on_spot(self) -> bool:
        return self.pod.placement.capacity_type == events.CAPACITY_TYPE_SPOT


def at(seconds: float) -> datetime:
    return simulated.EPOCH + timedelta(seconds=seconds)


class Cloud:
    """`program` runs in each pod and returns its exit code."""

    def __init__(self, trace: Trace, weather: Weather, program: Program) -> None:
        self.trace = trace
        self.weather = weather
        self.machines: dict[str, Standing] = {}  # by the pod's name: a client token
        self.messages: list[tuple[int, Raw]] = []
        self._program = program

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def launch(self, pod: Pod) -> Standing:
        """Raises NoCapacityError. Idempotent by the pod's name."""
        known = self.machines.get(pod.name)
        if known is not None:
            return known
        dice, weather = simulated.SOURCES.dice, self.weather
        spot = pod.placement.capacity_type == events.CAPACITY_TYPE_SPOT
        if weather.nothing or (spot and dice.random() < weather.denied):
            self.trace.say("denied", f"{pod.name} {offer_of(pod.placement)}")
            raise NoCapacityError(f"{offer_of(pod.placement)} has no machine (simulated)")
        machine_id = f"i-{len(self.machines):04d}"
        machine = Standing(machine_id, pod, self._now(), Actor(f"pods/{pod.name}"))
        self.machines[pod.name] = machine
        self.trace.say("launched", f"{machine_id} {pod.name} {offer_of(pod.placement)}")
        self._as(machine.actor, self._run(machine))
        if spot and weather.mean_life_seconds:
            asyncio.get_running_loop().call_later(
                dice.expovariate(1 / weather.mean_life_seconds), self._take, machine, context=_nobodys()
            )
        return machine

    def _as(self, actor: Actor, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        context = contextvars.copy_context()
        context.run(ACTOR.set, actor)
        task = asyncio.get_running_loop().create_task(work, context=context)
        machine = next(one for one in self.machines.values() if one.actor is actor)
        machine.tasks.append(task)
        return task

    async def _run(self, machine: Standing) -> None:
        code = await self._program(machine)
        self._ended(machine, code)

    def _ended(self, machine: Standing, code: int) -> None:
        if machine.state is PodState.RUNNING:
            machine.state, machine.exit_code, machine.ended_at = PodState.EXITED, code, self._now()
            self.trace.say("exited", f"{machine.machine_id} {machine.pod.name} with {code}")

    def _take(self, machine: Standing) -> None:
        """The market wants it back: after a notice, or at once."""
        dice, weather = simulated.SOURCES.dice, self.weather
        if machine.gone_at is not None or machine.terminates_at is not None:
            return
        if not weather.mean_life_seconds:
            return  # the faults are over
        seconds = 0.0 if dice.random() < weather.without_notice else dice.choice(weather.notices)
        self.interrupt(machine, seconds)

    def interrupt(self, machine: Standing, notice_seconds: float) -> None:
        loop = asyncio.get_running_loop()
        machine.terminates_at = loop.time() + notice_seconds
        self.trace.say("noticed", f"{machine.machine_id} {machine.pod.name}: {notice_seconds:g} s are left")
        if notice_seconds:
            self._tell(machine, notice_seconds)
        loop.call_later(notice_seconds, self.end, machine, "taken by the market", context=_nobodys())

    def _tell(self, machine: Standing, notice_seconds: float) -> None:
        number = len(self.messages) + 1
        body = {
            "version": "0",
            "id": f"message-{number}",
            "detail-type": "EC2 Spot Instance Interruption Warning",
            "source": "aws.ec2",
            "account": "000000000000",
            "time": at(self._now()).isoformat(timespec="seconds").replace("+00:00", "Z"),
            "region": machine.pod.placement.region,
            "resources": [f"arn:aws:ec2:{machine.pod.placement.zone}:instance/{machine.machine_id}"],
            "detail": {"instance-id": machine.machine_id, "instance-action": "terminate"},
        }
        self.messages.append((number, Raw(body, notice_seconds)))

    def end(self, machine: Standing, why: str) -> None:
        """The machine is no more, and whatever ran on it."""
        if machine.gone_at is not None:
            return
        machine.gone_at = self._now()
        machine.state = PodState.GONE
        machine.ended_at = machine.ended_at or machine.gone_at
        machine.actor.alive = False
        self.trace.say("gone", f"{machine.machine_id} {machine.pod.name}: {why}")
        for task in machine.tasks:
            task.cancel()

    def drain(self, machine: Standing) -> None:
        """SIGTERM; a second one ends the pod at once."""
        if machine.state is not PodState.RUNNING:
            return
        if machine.noticed.is_set():
            return  # once, as the clusters do it
        machine.noticed.set()
        self.trace.say("drained", f"{machine.machine_id} {machine.pod.name}")

    def listed(self) -> list[Observation]:
        now, weather = self._now(), self.weather
        return [
            Observation(
                machine.machine_id,
                machine.pod.job_id,
                machine.pod.attempt,
                machine.state,
                exit_code=machine.exit_code,
                ended_at=at(machine.ended_at) if machine.ended_at is not None and weather.knows_ends else None,
            )
            for machine in self.machines.values()
            if machine.gone_at is None or now - machine.gone_at < weather.forgets_seconds
        ]

    def standing(self, machine_id: str) -> Standing | None:
        return next((one for one in self.machines.values() if one.machine_id == machine_id), None)


def _nobodys() -> contextvars.Context:
    context = contextvars.copy_context()
    context.run(ACTOR.set, None)
    return context


CLOUD: Cloud | None = None


def cloud() -> Cloud:
    assert CLOUD is not None
    return CLOUD


class SimulatedCluster:
    """`sskai.cluster.Cluster` as one process sees it."""

    def __init__(self, *_settings: Any) -> None:
        self._cloud = cloud()

    async def _reach(self) -> None:
        weather, actor = self._cloud.weather, ACTOR.get()
        await asyncio.sleep(simulated.SOURCES.dice.uniform(weather.least_seconds, weather.most_seconds))
        name = actor.name.split("/")[0] if actor is not None else ""
        if (actor is not None and not actor.alive) or "" in weather.away_from or name in weather.away_from:
            raise ClusterUnavailableError("the cluster does not answer (simulated)")

    async def launch(self, pod: Pod) -> Machine:
        await self._reach()
        machine = self._cloud.launch(pod)
        await self._reach()
        if simulated.SOURCES.dice.random() < self._cloud.weather.lost_answers:
            self._cloud.trace.say("fault", f"{pod.name} was launched, and the answer lost")
            raise ClusterUnavailableError("answer lost (simulated)")
        return Machine(machine.machine_id, at(machine.launched_at))

    async def observe(self) -> list[Observation]:
        await self._reach()
        return self._cloud.listed()

    async def drain(self, machine_id: str) -> None:
        await self._reach()
        machine = self._cloud.standing(machine_id)
        if machine is not None:
            self._cloud.drain(machine)

    async def delete(self, machine_id: str) -> None:
        await self._reach()
        machine = self._cloud.standing(machine_id)
        if machine is None:
            return
        if simulated.SOURCES.dice.random() < self._cloud.weather.failed_deletes:
            raise ClusterUnavailableError(f"{machine_id} cannot be deleted now (simulated)")
        self._cloud.end(machine, "deleted")

    async def log(self, machine_id: str, *, tail: int, after: str = "") -> LogPage:  # noqa: ARG002
        await self._reach()
        machine = self._cloud.standing(machine_id)
        if machine is None or machine.gone_at is not None:
            raise NoLogError(f"{machine_id} is gone")
        return LogPage((Line(f"{machine.pod.name} ran"),), "1")


class SimulatedFeed:
    """The cloud's messages as the monitor reads them: `services.monitor.sources.LocalCloud`."""

    source = name = "local"

    def __init__(self, *_about: Any) -> None:
        self._cloud = cloud()

    async def after(self, sequence: int) -> list[tuple[int, Raw]]:
        weather, actor = self._cloud.weather, ACTOR.get()
        await asyncio.sleep(simulated.SOURCES.dice.uniform(weather.least_seconds, weather.most_seconds))
        if "" in weather.away_from or (actor is not None and not actor.alive):
            raise SourceAwayError("the cloud does not answer (simulated)")
        return [(number, raw) for number, raw in self._cloud.messages if number > sequence]
