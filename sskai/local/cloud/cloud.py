"""The cloud itself: the book, the market and the pods put together, with one lock and one state file."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sskai.local.cloud.machines import Book, Machine, Message, Pod
from sskai.local.cloud.market import CapacityType, Market
from sskai.local.cloud.pods import Pods
from sskai.local.state import write_privately

MACHINES_AT_MOST = 64
LOGS_OF_GONE_MACHINES_KEPT = 100


class CapacityDeniedError(Exception):
    """The market has no such machine now; the message says why."""


class UnknownMachineError(Exception):
    """The book has no machine of this id."""


class NotInterruptibleError(Exception):
    """Only a spot machine that still runs can get a notice."""


@dataclass(frozen=True, slots=True)
class Launch:
    """What is asked for. `client_token` makes the request idempotent, as EC2's ClientToken does."""

    instance_type: str
    region: str
    zone: str
    capacity_type: CapacityType
    client_token: str
    pod_name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    tags: Mapping[str, str]
    price_usd_per_hour: float | None = None


class Cloud:
    """Thread-safe. Every change is in the state file before its caller hears of it; `clock` gives epoch seconds."""

    def __init__(self, folder: Path, market: Market, clock: Callable[[], float]) -> None:
        self._state = folder / "cloud.json"
        self._pods = Pods(folder / "machines")
        self._market = market
        self._clock = clock
        self._lock = threading.RLock()
        self._book = Book.from_json(self._state.read_text()) if self._state.exists() else Book()
        self._adopt()

    def launch(self, wanted: Launch) -> tuple[Machine, bool]:
        """A running machine and whether it is new. Raises CapacityDeniedError."""
        with self._lock:
            known = self._book.by_token(wanted.client_token)
            if known is not None:
                return known, False
            now = self._clock()
            refusal = self._market.refusal(wanted.zone, wanted.instance_type, wanted.capacity_type, now)
            if refusal is None and len(self._book.standing()) >= MACHINES_AT_MOST:
                refusal = f"the account's limit of {MACHINES_AT_MOST} machines is reached"
            if refusal is not None:
                raise CapacityDeniedError(refusal)
            machine = self._enter(wanted, now)
            self._pods.prepare(machine.machine_id, wanted.command, wanted.environment)
            # The entry comes before the process: a crash between the two starts the pod late, never twice.
            self._save()
            self._pods.start(machine.machine_id, machine.pod)
            self._save()
            return machine, True

    def machines(self) -> list[Machine]:
        """All machines of the book, oldest first."""
        with self._lock:
            self._refresh()
            return list(self._book.machines.values())

    def machine(self, machine_id: str) -> Machine:
        """One machine. Raises UnknownMachineError."""
        with self._lock:
            self._refresh()
            return self._known(machine_id)

    def drain(self, machine_id: str) -> Machine:
        """Send the pod SIGTERM; asking again changes nothing. Raises UnknownMachineError."""
        with self._lock:
            machine = self._known(machine_id)
            if machine.state != "gone":
                self._pods.drain(machine.pod)
                self._save()
            return machine

    def terminate(self, machine_id: str) -> Machine:
        """End the machine and everything on it; a second time changes nothing. Raises UnknownMachineError."""
        with self._lock:
            machine = self._known(machine_id)
            if machine.state != "gone":
                self._take(machine, self._clock())
                self._save()
            return machine

    def interrupt(self, machine_id: str, notice_seconds: float) -> Machine:
        """The market takes the machine after the notice, or at once and without a word when it is 0.

        Raises UnknownMachineError, and NotInterruptibleError for a notice that cannot be.
        """
        with self._lock:
            machine, now = self._known(machine_id), self._clock()
            if notice_seconds == 0:
                return self.terminate(machine_id)
            if machine.capacity_type != "spot" or machine.state != "running":
                raise NotInterruptibleError(f"{machine_id} is {machine.capacity_type} and {machine.state}")
            self._book.notify(machine, notice_seconds, now)
            self._save()
            return machine

    def log(self, machine_id: str, lines: int) -> str:
        """The last lines that the machine's pod printed. Raises UnknownMachineError."""
        with self._lock:
            self._known(machine_id)
            return self._pods.log(machine_id, lines)

    def messages(self, after: int) -> list[Message]:
        """The interruption messages that follow this sequence number."""
        with self._lock:
            return [message for message in self._book.messages if message.sequence > after]

    def deny(self, patterns: Sequence[str]) -> None:
        """Replace the list of what the market denies."""
        with self._lock:
            self._market.denied = self._book.denied = list(patterns)
            self._save()

    def tick(self) -> None:
        """Bring the book up to date: ended pods, machines whose time is over, zones whose spot capacity is gone."""
        with self._lock:
            now = self._clock()
            changed = self._refresh()
            for machine in self._book.standing():
                if machine.terminate_at is not None and machine.terminate_at <= now:
                    self._take(machine, now)
                    changed = True
                elif self._outbid(machine, now):
                    self._book.notify(machine, self._market.replay_notice_seconds(), now)
                    changed = True
            if changed:
                self._save()

    def _adopt(self) -> None:
        """After a restart: find the pods again, and start those whose process a crash prevented."""
        self._market.denied = self._book.denied
        if self._book.opened_at == 0:
            self._book.opened_at = self._clock()
        self._market.opened_at = self._book.opened_at
        for machine in self._book.standing():
            if machine.pod.state == "pending":
                self._pods.start(machine.machine_id, machine.pod)
        self._refresh()
        self._save()

    def _enter(self, wanted: Launch, now: float) -> Machine:
        price = wanted.price_usd_per_hour
        if price is None:
            price = self._market.price(wanted.region, wanted.zone, wanted.instance_type, wanted.capacity_type)
        machine = Machine(
            machine_id=f"i-0{secrets.token_hex(8)}",
            client_token=wanted.client_token,
            instance_type=wanted.instance_type,
            region=wanted.region,
            zone=wanted.zone,
            capacity_type=wanted.capacity_type,
            price_usd_per_hour=price,
            tags=dict(wanted.tags),
            launched_at=now,
            pod=Pod(wanted.pod_name),
        )
        self._book.machines[machine.machine_id] = machine
        return machine

    def _outbid(self, machine: Machine, now: float) -> bool:
        spot = machine.capacity_type == "spot" and machine.state == "running"
        return spot and not self._market.spot_available(machine.zone, now)

    def _take(self, machine: Machine, now: float) -> None:
        self._pods.kill(machine.machine_id, machine.pod)
        for machine_id in self._book.close(machine, now):
            self._pods.forget(machine_id)
        gone = [other.machine_id for other in self._book.machines.values() if other.state == "gone"]
        for machine_id in gone[:-LOGS_OF_GONE_MACHINES_KEPT]:
            self._pods.forget(machine_id)

    def _refresh(self) -> bool:
        changes = [self._pods.refresh(machine.machine_id, machine.pod) for machine in self._book.standing()]
        return any(changes)

    def _known(self, machine_id: str) -> Machine:
        machine = self._book.machines.get(machine_id)
        if machine is None:
            raise UnknownMachineError(machine_id)
        return machine

    def _save(self) -> None:
        write_privately(self._state, self._book.to_json())
