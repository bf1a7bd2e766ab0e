"""A cluster in a dict: pods run until somebody interrupts them. Small, and keeps the protocol's promises; what clusters
do to the unwary (lists that lag, answers that lie, deletes that fail) can be switched on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sskai import failpoints
from sskai.cluster import (
    Cluster,
    ClusterUnavailableError,
    Line,
    LogPage,
    Machine,
    NoCapacityError,
    NoLogError,
    Observation,
    Pod,
    PodState,
    RefusedError,
    offer_of,
)
from sskai.cluster.pods import Ending, gang_end, lost_members


@failpoints.boundary("cluster", ClusterUnavailableError, of=Cluster)
@dataclass
class FakeCluster:
    clock: Callable[[], datetime]
    pods: dict[str, Pod] = field(default_factory=dict)
    observations: dict[str, Observation] = field(default_factory=dict)
    endings: dict[str, list[Ending]] = field(default_factory=dict)  # of a gang's members
    drained: list[str] = field(default_factory=list)
    denied: set[str] = field(default_factory=set)
    known_secrets: set[str] = field(default_factory=set)
    away: bool = False
    hidden: set[str] = field(default_factory=set)  # machines that its list lacks
    launch_lies: Exception | None = None  # the machine is there, and the answer says this
    failing_deletes: int = 0
    prints: dict[str, list[str]] = field(default_factory=dict)  # by machine; one that is not here has no log
    deletes: list[datetime] = field(default_factory=list)

    async def launch(self, pod: Pod) -> Machine:
        self._answer()
        if set(pod.secrets) - self.known_secrets:
            raise RefusedError("set the secret")
        if offer_of(pod.placement) in self.denied:
            raise NoCapacityError("the market has none")
        machine_id = f"m-{pod.name}"
        if machine_id not in self.pods:
            self.pods[machine_id] = pod
            self.observations[machine_id] = Observation(machine_id, pod.job_id, pod.attempt, PodState.RUNNING)
        if self.launch_lies is not None:
            raise self.launch_lies
        members = tuple(f"{machine_id}.{rank}" for rank in range(pod.machines)) if pod.machines > 1 else ()
        return Machine(machine_id, self.clock(), members)

    async def observe(self) -> list[Observation]:
        self._answer()
        return [one for one in self.observations.values() if one.machine_id not in self.hidden]

    async def drain(self, machine_id: str) -> None:
        self._answer()
        if machine_id not in self.drained:
            self.drained.append(machine_id)

    async def delete(self, machine_id: str) -> None:
        self._answer()
        self.deletes.append(self.clock())
        if self.failing_deletes > 0:
            self.failing_deletes -= 1
            raise ClusterUnavailableError("it cannot be deleted now")
        if machine_id in self.observations and self.observations[machine_id].state is not PodState.GONE:
            self.interrupt(machine_id)

    async def log(self, machine_id: str, *, tail: int, after: str = "") -> LogPage:
        self._answer()
        if machine_id not in self.prints:
            raise NoLogError("the machine is gone")
        lines = self.prints[machine_id]
        shown = lines[int(after) :] if after else lines[-tail:]
        return LogPage(tuple(map(Line, shown)), str(len(lines)), truncated=not after and len(lines) > tail)

    def interrupt(self, machine_id: str) -> None:
        """The machine is gone, and its pod with it."""
        self.says(machine_id, state=PodState.GONE, ended_at=self.clock())

    def exit(self, machine_id: str, code: int, rank: int = 0) -> None:
        """The pod's program ended (a gang's: that member's)."""
        self._end(machine_id, Ending(code, self.clock(), first=rank == 0))

    def lose(self, machine_id: str, rank: int = 0) -> None:
        """A machine is gone (a gang's: that member's)."""
        self._end(machine_id, Ending(None, self.clock(), first=rank == 0))

    def _end(self, machine_id: str, ending: Ending) -> None:
        endings = self.endings.setdefault(machine_id, [])
        endings.append(ending)
        over = gang_end(endings, self.pods[machine_id].machines)
        if over is None:
            lost, lost_at = lost_members(endings)
            self.says(machine_id, lost=lost, lost_at=lost_at)
            return
        state = PodState.GONE if over.exit_code is None else PodState.EXITED
        self.says(machine_id, state=state, exit_code=over.exit_code, ended_at=over.ended_at, lost=0, lost_at=None)

    def members(self, machine_id: str) -> int:
        """Machines of a pod that cost something."""
        return self.pods[machine_id].machines - self.observations[machine_id].lost

    def says(self, machine_id: str, **words: Any) -> None:
        """What its list says of a machine from now on."""
        self.observations[machine_id] = replace(self.observations[machine_id], **words)

    def running(self) -> list[str]:
        return [one.machine_id for one in self.observations.values() if one.state is PodState.RUNNING]

    def _answer(self) -> None:
        if self.away:
            raise ClusterUnavailableError("timeout")
