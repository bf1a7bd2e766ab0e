"""The values that planning works with: what can be rented, what happened so far, and what was decided. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from services.optimizer.completion import Completion, Exposure, Pace, Range
from services.optimizer.throughput import Measured
from services.optimizer.work import Work

# What an offer can fail at, in the order it is asked; a refusal names the last one that any offer reached.
STAGES = ("not-offered", "resources", "max-price", "checkpoints", "memory", "deadline", "budget")


@dataclass(frozen=True, slots=True)
class Offer:
    """A machine type in a place at a price."""

    cloud: str
    region: str
    zone: str  # "*" where the price is the region's
    instance_type: str
    capacity_type: str  # "spot" | "on-demand"
    price_usd_per_hour: float
    on_demand_price_usd_per_hour: float
    interruption_band: int | None  # of the Spot Instance Advisor, 0 (best) to 4
    price_as_of: str  # RFC 3339
    price_source: str
    placement_score: int | None = None  # AWS's, of spot in one zone: 1 (unlikely to be had) to 10; None: nobody asked

    @property
    def key(self) -> str:
        """The key of `sskai.machines.v1` for prices and capacity."""
        return f"{self.cloud}/{self.region}/{self.zone}/{self.instance_type}/{self.capacity_type}"


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What the operator says about the fleet."""

    offered_instance_types: tuple[str, ...] = ("*",)
    regions: tuple[str, ...] = ()  # empty: all
    machine_start_seconds: float = 120.0  # order to the first step's code: boot, join, image, imports
    price_stale_seconds: float = 3600.0  # a spot price that is older is marked
    max_workers: int = 1  # processes that the trainer can spread one job over
    objects_region: str = ""  # where data and checkpoints are; empty: nobody said, and no traffic is charged


@dataclass(frozen=True, slots=True)
class History:
    """What happened to the job so far, and what was learnt on all jobs."""

    steps_done: int = 0
    spent_usd: float = 0.0
    micro_batch_size: int = 0  # of the job's first attempt; 0: there was none
    denied: tuple[str, ...] = ()  # keys of offers that had no machine lately
    measured: tuple[Measured, ...] = ()
    exposures: tuple[Exposure, ...] = ()  # what was seen of spot machines lately
    save_seconds: float = 0.0  # of this job's checkpoints, measured; 0: there was none yet
    stall_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """So many machines of an offer that meet every constraint."""

    offer: Offer
    pace: Pace
    completion: Completion
    total_usd: Range
    usd: Dollars
    on_demand_total_usd: float = 0.0  # the same work on the same machines on demand
    on_pareto_front: bool = False  # nothing else is both cheaper and faster

    @property
    def usd_per_hour(self) -> float:
        """Of all its machines together."""
        return self.offer.price_usd_per_hour * self.pace.machines

    @property
    def key(self) -> tuple[str, int]:
        """Names the candidate among all others."""
        return self.offer.key, self.pace.machines


@dataclass(frozen=True, slots=True)
class Dollars:
    """Where the expected dollars go."""

    compute: float
    on_demand_fallback: float
    storage: float
    egress: float


@dataclass(frozen=True, slots=True)
class Misfit:
    """Why an offer is out. `shortfall` orders offers of one reason: the smallest came closest."""

    reason: str  # one of STAGES, or "denied"
    detail: str
    shortfall: float = 0.0


@dataclass(frozen=True, slots=True)
class Rejection:
    offer: Offer
    misfit: Misfit


@dataclass(frozen=True, slots=True)
class Plan:
    """Candidates best first; the first is the choice."""

    work: Work
    candidates: tuple[Candidate, ...]
    rejections: tuple[Rejection, ...]
    fitting: int  # that met every constraint, before the list was cut
    explanation: str
    point_of_no_return: str = ""  # RFC 3339; empty: there is no deadline, or nothing on demand meets it


@dataclass(frozen=True, slots=True)
class Refusal:
    """No offer meets every constraint: which one binds, by how much, and what the user can do."""

    reason: str  # "deadline" | "budget" | "memory" | "resources" | "model"
    detail: str
    advice: str
