"""The cloud's book: machines, their pods and the interruption messages, as values. No processes and no clock here."""

from __future__ import annotations

import json
import uuid
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from sskai.local.cloud.market import CapacityType

MachineState = Literal["running", "interrupted", "gone"]
PodState = Literal["pending", "running", "exited"]
GONE_MACHINES_KEPT = 1_000
MESSAGES_KEPT = 1_000
KILLED_EXIT_CODE = 137  # 128 + SIGKILL, as shells and kubelets report it


@dataclass(slots=True)
class Pod:
    """The process on a machine. `started_at` tells its pid from a later process that got the same number."""

    name: str
    state: PodState = "pending"
    exit_code: int | None = None
    pid: int | None = None
    started_at: float = 0.0
    drained: bool = False


@dataclass(slots=True)
class Machine:
    """One machine of the book. Moments are seconds since the epoch.

    `terminate_at` is when the market takes it, as a notice said; at `expires_at` its time is over, which nobody says.
    Machines launched together share their token and differ in `rank`, of which there are `size`.
    """

    machine_id: str
    client_token: str
    instance_type: str
    region: str
    zone: str
    capacity_type: CapacityType
    price_usd_per_hour: float | None
    tags: dict[str, str]
    launched_at: float
    pod: Pod
    state: MachineState = "running"
    gone_at: float | None = None
    notice_at: float | None = None
    terminate_at: float | None = None
    expires_at: float | None = None
    rebalance_at: float | None = None
    rank: int = 0
    size: int = 1

    def ends_at(self) -> float | None:
        """When it is taken, for whichever reason comes first."""
        return min(filter(None, (self.terminate_at, self.expires_at)), default=None)

    def view(self) -> dict[str, Any]:
        """The machine as the API shows it, moments as ISO 8601 in UTC."""
        shown = asdict(self)
        del shown["pod"]["started_at"]
        for moment in ("launched_at", "gone_at", "notice_at", "terminate_at", "expires_at", "rebalance_at"):
            shown[moment] = None if shown[moment] is None else iso(shown[moment])
        return shown


@dataclass(frozen=True, slots=True)
class Message:
    """A queued interruption message; `body` has the shape that EventBridge delivers."""

    sequence: int
    notice_seconds: float
    body: dict[str, Any]


@dataclass(slots=True)
class Book:
    """All machines by id (oldest first), the message queue, and what the market was told. Old entries fall out."""

    machines: dict[str, Machine] = field(default_factory=dict)
    messages: list[Message] = field(default_factory=list)
    last_sequence: int = 0
    denied: list[str] = field(default_factory=list)
    opened_at: float = 0.0

    def by_token(self, client_token: str) -> list[Machine]:
        """The machines that were launched with this token, by rank, whatever became of them."""
        return [machine for machine in self.machines.values() if machine.client_token == client_token]

    def standing(self) -> list[Machine]:
        """The machines that are not gone."""
        return [machine for machine in self.machines.values() if machine.state != "gone"]

    def notify(self, machine: Machine, notice_seconds: float, now: float) -> None:
        """Announce that the market takes the machine in `notice_seconds`, and queue the message."""
        machine.state = "interrupted"
        machine.notice_at, machine.terminate_at = now, now + notice_seconds
        self._queue(notice_seconds, interruption_warning(machine, now))

    def recommend(self, machine: Machine, now: float) -> None:
        """Say once that the machine's risk has risen. Nothing is taken for it."""
        machine.rebalance_at = now
        self._queue(0.0, rebalance_recommendation(machine, now))

    def _queue(self, notice_seconds: float, body: dict[str, Any]) -> None:
        self.last_sequence += 1
        self.messages.append(Message(self.last_sequence, notice_seconds, body))
        del self.messages[:-MESSAGES_KEPT]

    def close(self, machine: Machine, now: float) -> list[str]:
        """Mark the machine gone; returns the ids of old machines that fall out of the book for it."""
        machine.state, machine.gone_at = "gone", now
        gone = [other.machine_id for other in self.machines.values() if other.state == "gone"]
        forgotten = gone[:-GONE_MACHINES_KEPT]
        for machine_id in forgotten:
            del self.machines[machine_id]
        return forgotten

    def to_json(self) -> str:
        """The whole book as one JSON object."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Book:
        """The book that `to_json` wrote."""
        raw = json.loads(text)
        machines = {key: Machine(**{**entry, "pod": Pod(**entry["pod"])}) for key, entry in raw["machines"].items()}
        messages = [Message(**message) for message in raw["messages"]]
        return cls(**{**raw, "machines": machines, "messages": messages})


def interruption_warning(machine: Machine, now: float) -> dict[str, Any]:
    """The event that EC2 sends to EventBridge two minutes before it takes a spot instance.

    Shape: AWS, "Spot Instance interruption notices", EC2 User Guide.
    """
    detail = {"instance-id": machine.machine_id, "instance-action": "terminate"}
    return _event("EC2 Spot Instance Interruption Warning", detail, machine, now)


def rebalance_recommendation(machine: Machine, now: float) -> dict[str, Any]:
    """The hint that may come before a warning. Shape: AWS, "EC2 instance rebalance recommendations", EC2 User Guide."""
    return _event("EC2 Instance Rebalance Recommendation", {"instance-id": machine.machine_id}, machine, now)


def _event(kind: str, detail: dict[str, str], machine: Machine, now: float) -> dict[str, Any]:
    return {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": kind,
        "source": "aws.ec2",
        "account": "000000000000",
        "time": iso(now, timespec="seconds"),
        "region": machine.region,
        "resources": [f"arn:aws:ec2:{machine.zone}:instance/{machine.machine_id}"],
        "detail": detail,
    }


def iso(moment: float, timespec: str = "milliseconds") -> str:
    """Epoch seconds as `2026-11-24T03:00:00.000Z`."""
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec=timespec).replace("+00:00", "Z")
