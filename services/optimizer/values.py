"""The values that planning works with: what can be rented, what happened so far, and what was decided. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from services.optimizer.completion import Completion, Pace, Range
from services.optimizer.throughput import Measured
from services.optimizer.work import Work

# What an offer can fail at, in the order it is asked; a refusal names the last one that any offer reached.
STAGES = ("not-offered", "resources", "max-price", "memory", "deadline", "budget")


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


@dataclass(frozen=True, slots=True)
class History:
    """What happened to the job so far, and what was learnt on all jobs."""

    steps_done: int = 0
    spent_usd: float = 0.0
    micro_batch_size: int = 0  # of the job's first attempt; 0: there was none
    denied: tuple[str, ...] = ()  # keys of offers that had no machine lately
    measured: tuple[Measured, ...] = ()


@dataclass(frozen=True, slots=True)
class Candidate:
    """An offer that meets every constraint."""

    offer: Offer
    pace: Pace
    completion: Completion
    total_usd: Range


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
    fitting: int  # offers that met every constraint, before the list was cut
    explanation: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """No offer meets every constraint: which one binds, by how much, and what the user can do."""

    reason: str  # "deadline" | "budget" | "memory" | "resources" | "model"
    detail: str
    advice: str
