"""Where pods run, behind five verbs: `local_cluster`, `kubernetes_cluster`, `ec2_cluster`, and a small real fake in the
tests. Two services keep pods: the scheduler those of jobs' attempts, inference those of endpoints' replicas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from sskai.events import v1 as events

LOG_PAGE_BYTES = 256 * 1024


class NoCapacityError(Exception):
    """The offer has no machine to give now."""


class RefusedError(Exception):
    """This pod can never be launched as it is; the message says what the user should do."""


class ClusterUnavailableError(ConnectionError):
    """The cluster did not answer. That says nothing about the pods: unreachable is not dead."""


class NoLogError(Exception):
    """Of this pod no log is kept; the message says why."""


def offer_of(placement: events.Placement) -> str:
    """The offer's name, `cloud/region/zone/instance_type/capacity`, as PriceObserved and CapacityDenied carry it."""
    kind = "spot" if placement.capacity_type == events.CAPACITY_TYPE_SPOT else "on-demand"
    return f"{placement.cloud}/{placement.region}/{placement.zone}/{placement.instance_type}/{kind}"


def dns_label(name: str) -> str:
    return name.replace("_", "-").replace(".", "-")


@dataclass(frozen=True, slots=True)
class Program:
    """What the pods of one service run. A cluster has pods of one program: it neither sees nor touches the others'."""

    name: str  # "trainer" | "replica"
    module: str  # python -m ...
    managed_by: str  # the service that keeps its pods
    # Where it answers requests once it has loaded, /healthz and /readyz among them; told as SSKAI_NAME_PORT, beside
    # SSKAI_NAME_HOST, its machine's address. None: it answers nobody.
    port: int | None = None

    @property
    def variables(self) -> str:
        """How the names of variables that are its own begin."""
        return f"SSKAI_{self.name.upper()}"


@dataclass(frozen=True, slots=True)
class Pod:
    """One attempt to run. (job_id, attempt) names it: launching the same pod twice gives one machine.

    A replica of an endpoint is one, too: of the endpoint's id, and numbered as attempts are. With several `machines` it
    is a gang: all of them or none. Each member is told RANK, WORLD_SIZE and MASTER_ADDR.
    """

    job_id: str
    tenant_id: str
    attempt: int
    placement: events.Placement
    env: Mapping[str, str]
    secrets: tuple[str, ...] = ()  # names; the cluster knows their values
    machines: int = 1
    # The cluster ends the pod by itself after so long, whatever becomes of the scheduler; None: no limit.
    lifetime_seconds: float | None = None
    # So many pods of this job_id answer at any time: an eviction that would leave fewer has to wait; 0: no matter.
    keep_ready: int = 0

    @property
    def name(self) -> str:
        """A DNS label; ids are lower case base 32, with dots where one belongs to another."""
        return f"{dns_label(self.job_id)}-{self.attempt}"


@dataclass(frozen=True, slots=True)
class Machine:
    """What a launch gave. `machine_id` names the whole gang; `member_ids` are its machines, as a cloud's notice names
    them (none: the gang is one machine, named `machine_id`)."""

    machine_id: str
    launched_at: datetime
    member_ids: tuple[str, ...] = ()


class PodState(StrEnum):
    RUNNING = "running"
    EXITED = "exited"
    GONE = "gone"  # the machine is no more, and the pod with it


@dataclass(frozen=True, slots=True)
class Observation:
    """The cluster's word on one pod, or on one gang: exited when a member failed or all ended, gone when the first
    member's machine is. Others may be lost while it runs."""

    machine_id: str
    job_id: str
    attempt: int
    state: PodState
    exit_code: int | None = None
    ended_at: datetime | None = None  # None: the cluster does not know
    # The machine will be taken then: a notice that the cluster itself knows of (a node's taint).
    terminates_at: datetime | None = None
    # What the cluster says the pod waits for (an unschedulable pod, an image that cannot be pulled); empty: nothing.
    pending: str = ""
    # It waited for a machine longer than the cluster's limit: delete it, and count the offer as denied.
    denied: bool = False
    lost: int = 0  # members that are no more while the others go on
    lost_at: datetime | None = None  # when the last of them went; None: the cluster does not know
    # Who says that it will be taken, or was ("kubernetes", "imds"; empty: others tell it), and why in their words.
    source: str = ""
    why: str = ""
    # A hint that the risk has risen; nothing is taken yet.
    recommended: bool = False
    # False: no machine of it is left. A pod that exited in order says EXITED for ever, whatever became of its machine.
    stands: bool = True


@dataclass(frozen=True, slots=True)
class Line:
    text: str
    at: str | None = None  # RFC 3339, where the cluster knows when it was printed


@dataclass(frozen=True, slots=True)
class LogPage:
    """Some of what a pod printed. `after` is where the next page begins, in the cluster's own words."""

    lines: tuple[Line, ...]
    after: str
    truncated: bool = False  # lines before these were left out, or are no longer kept


class Cluster(Protocol):
    """Every method raises ClusterUnavailableError when the cluster does not answer."""

    async def launch(self, pod: Pod) -> Machine:
        """Start the pod on a machine of its placement; idempotent per (job_id, attempt).

        Raises NoCapacityError, RefusedError.
        """

    async def observe(self) -> list[Observation]:
        """Every pod that is ours, the ended ones included until they are deleted."""

    async def drain(self, machine_id: str) -> None:
        """SIGTERM to the pod, once: save and stop. A machine that is gone is no error."""

    async def delete(self, machine_id: str) -> None:
        """Kill the pod and give the machine back; idempotent."""

    async def log(self, machine_id: str, *, tail: int, after: str = "") -> LogPage:
        """What the pod (a gang's first member) printed: its last lines, or with `after` the next ones, in order.

        A page is bounded (LOG_PAGE_BYTES), so that whoever follows asks again. Raises NoLogError.
        """
