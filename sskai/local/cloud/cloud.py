"""The cloud itself: the book, the market and the pods put together, with one lock and one state file."""

from __future__ import annotations

import secrets
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sskai.local.cloud import podlog
from sskai.local.cloud.machines import Book, Machine, Message, Pod
from sskai.local.cloud.market import CapacityType, Market, Price, place
from sskai.local.cloud.podlog import Page
from sskai.local.cloud.pods import Pods
from sskai.local.processes import free_ports
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
    """What is asked for. `client_token` makes the request idempotent, as EC2's ClientToken does.

    Of several `machines` all are given or none; each pod learns its part from RANK, WORLD_SIZE, MASTER_ADDR and
    MASTER_PORT. After `lifetime_seconds` the cloud ends what it launched.
    """

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
    machines: int = 1
    lifetime_seconds: float | None = None


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

    def launch(self, wanted: Launch) -> tuple[list[Machine], bool]:
        """The running machines by rank, and whether they are new. Raises CapacityDeniedError."""
        with self._lock:
            known = self._book.by_token(wanted.client_token)
            if known:
                return known, False
            now = self._clock()
            refusal = self._refusal(wanted, now)
            if refusal is not None:
                raise CapacityDeniedError(refusal)
            machines = [self._enter(wanted, rank, now) for rank in range(wanted.machines)]
            environments = _environments(wanted)
            for machine, environment in zip(machines, environments, strict=True):
                self._pods.prepare(machine.machine_id, wanted.command, environment)
            # The entry comes before the process: a crash between the two starts the pod late, never twice.
            self._save()
            for machine in machines:
                self._pods.start(machine.machine_id, machine.pod)
            self._save()
            return machines, True

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

    def drain(self, machine_id: str, *, gang: bool = False) -> Machine:
        """Send the pod SIGTERM, with `gang` every pod launched with it; asking again changes nothing.

        Raises UnknownMachineError.
        """
        with self._lock:
            machine = self._known(machine_id)
            for each in self._meant(machine, gang):
                self._pods.drain(each.pod)
            self._save()
            return machine

    def terminate(self, machine_id: str, *, gang: bool = False) -> Machine:
        """End the machine and everything on it, with `gang` every machine launched with it.

        A second time changes nothing. Raises UnknownMachineError.
        """
        with self._lock:
            machine = self._known(machine_id)
            for each in self._meant(machine, gang):
                self._take(each, self._clock())
            self._save()
            return machine

    def settle(self) -> None:
        """Return once no process of a machine that is gone is left, those that kept its pods' last words included."""
        for machine in self.machines():
            if machine.state == "gone":
                self._pods.await_shim(machine.machine_id)

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

    def lines(self, machine_id: str, tail: int, after: str) -> Page:
        """The pod's last lines, or the next ones. Raises UnknownMachineError."""
        with self._lock:
            ended = self._known(machine_id).pod.state == "exited"
        return podlog.read(self._pods.log_file(machine_id), tail=tail, after=after, ended=ended)

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
        """Bring the book up to date: ended pods, machines whose time is over, zones that have less spot capacity."""
        with self._lock:
            now = self._clock()
            changed = self._refresh()
            for machine in self._book.standing():
                ends_at = machine.ends_at()
                # Another one of its gang may have been taken a moment ago in this loop.
                if ends_at is not None and ends_at <= now and machine.state != "gone":
                    self._take(machine, now)
                    changed = True
            if self._move_market(now) or changed:
                self._save()

    def prices(self, capacity_type: CapacityType) -> list[Price]:
        """The price table at this moment."""
        return list(self._market.price_rows(capacity_type, self._clock()))

    def replayed_hours(self) -> float:
        """How far into the market's record the replay is."""
        return self._market.record_seconds(self._clock()) / 3600

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

    def _refusal(self, wanted: Launch, now: float) -> str | None:
        here = place(wanted.region, wanted.zone)
        running = len(self._running_spot().get(here, ()))
        where = (wanted.region, wanted.zone, wanted.instance_type, wanted.capacity_type)
        refusal = self._market.refusal(*where, now, running=running, wanted=wanted.machines)
        if refusal is None and len(self._book.standing()) + wanted.machines > MACHINES_AT_MOST:
            refusal = f"the account's limit of {MACHINES_AT_MOST} machines is reached"
        return refusal

    def _enter(self, wanted: Launch, rank: int, now: float) -> Machine:
        price = wanted.price_usd_per_hour
        if price is None:
            where = (wanted.region, wanted.zone, wanted.instance_type, wanted.capacity_type)
            price = self._market.price(*where, now)
        name = wanted.pod_name if wanted.machines == 1 else f"{wanted.pod_name}-{rank}"
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
            pod=Pod(name),
            expires_at=None if wanted.lifetime_seconds is None else now + wanted.lifetime_seconds,
            rank=rank,
            size=wanted.machines,
        )
        self._book.machines[machine.machine_id] = machine
        return machine

    def _running_spot(self) -> dict[str, list[Machine]]:
        """By zone, oldest first. What was warned already has lost its place to somebody else."""
        running: dict[str, list[Machine]] = defaultdict(list)
        for machine in self._book.standing():
            if machine.capacity_type == "spot" and machine.state == "running":
                running[place(machine.region, machine.zone)].append(machine)
        return running

    def _move_market(self, now: float) -> bool:
        """Warn the youngest machines of each zone that has fewer than run there; True when there were any."""
        market, changed = self._market, False
        for machines in self._running_spot().values():
            where = (machines[0].region, machines[0].zone)
            for machine in _surplus(machines, market.spot_available(*where, now)):
                if market.replay_notice_seconds() > 0:
                    self._book.notify(machine, market.replay_notice_seconds(), now)
                else:
                    self._take(machine, now)
                changed = True
            ahead = market.rebalance_seconds
            if ahead > 0:
                left = [machine for machine in machines if machine.state == "running"]
                for machine in _surplus(left, market.spot_available(*where, now, ahead_seconds=ahead)):
                    if machine.rebalance_at is None:
                        self._book.recommend(machine, now)
                        changed = True
        return changed

    def _meant(self, machine: Machine, gang: bool) -> list[Machine]:
        machines = self._book.by_token(machine.client_token) if gang else [machine]
        return [each for each in machines if each.state != "gone"]

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


def _surplus(machines: Sequence[Machine], available: int | None) -> Sequence[Machine]:
    """The youngest ones beyond what is available. A market that has less takes what came last first."""
    return machines[available:] if available is not None else ()


def _environments(wanted: Launch) -> Iterator[Mapping[str, str]]:
    """Of each pod by rank. All machines are this computer, so rank 0 is met on loopback, at a port of its own."""
    if wanted.machines == 1:
        yield wanted.environment
        return
    (port,) = free_ports(1)
    for rank in range(wanted.machines):
        member = {
            "RANK": str(rank),
            "WORLD_SIZE": str(wanted.machines),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }
        yield {**wanted.environment, **member}
