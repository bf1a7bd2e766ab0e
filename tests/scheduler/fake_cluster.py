"""A cluster in a dict: pods run until somebody interrupts them. Small, and keeps the protocol's promises."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime

from services.scheduler.cluster import (
    ClusterUnavailableError,
    Machine,
    NoCapacityError,
    Observation,
    Pod,
    PodState,
    RefusedError,
)
from services.scheduler.domain import offer_of


@dataclass
class FakeCluster:
    clock: Callable[[], datetime]
    pods: dict[str, Pod] = field(default_factory=dict)
    observations: dict[str, Observation] = field(default_factory=dict)
    drained: list[str] = field(default_factory=list)
    denied: set[str] = field(default_factory=set)
    away: bool = False
    known_secrets: set[str] = field(default_factory=set)

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
        return Machine(machine_id, self.clock())

    async def observe(self) -> list[Observation]:
        self._answer()
        return list(self.observations.values())

    async def drain(self, machine_id: str) -> None:
        self._answer()
        if machine_id not in self.drained:
            self.drained.append(machine_id)

    async def delete(self, machine_id: str) -> None:
        self._answer()
        if machine_id in self.observations:
            self.interrupt(machine_id)

    def interrupt(self, machine_id: str) -> None:
        """The machine is gone, and its pod with it."""
        seen = self.observations[machine_id]
        self.observations[machine_id] = replace(seen, state=PodState.GONE, ended_at=self.clock())

    def exit(self, machine_id: str, code: int) -> None:
        """The pod's program ended."""
        seen = self.observations[machine_id]
        self.observations[machine_id] = replace(seen, state=PodState.EXITED, exit_code=code, ended_at=self.clock())

    def running(self) -> list[str]:
        return [one.machine_id for one in self.observations.values() if one.state is PodState.RUNNING]

    def _answer(self) -> None:
        if self.away:
            raise ClusterUnavailableError("timeout")
