"""The values that planning endpoints works with: what is wished for, and what was decided. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from services.optimizer import serving_costs
from services.optimizer.serving_costs import Traffic, Way
from services.optimizer.serving_rates import Wishes
from services.optimizer.values import Offer

DEFAULT_PEAK_TO_MEAN = 3.0


@dataclass(frozen=True, slots=True)
class Spec:
    """An endpoint that somebody thinks of. None and empty text mean "any"."""

    requests_per_day: float
    input_tokens_per_request: float
    output_tokens_per_request: float
    peak_to_mean: float = DEFAULT_PEAK_TO_MEAN
    tokens_per_second: float | None = None
    p95_latency_seconds: float | None = None
    budget_usd_per_month: float | None = None
    accelerators: str = ""
    cpus: str = ""
    memory: str = ""
    regions: tuple[str, ...] = ()
    instance_types: tuple[str, ...] = ()
    max_price_usd_per_hour: float | None = None
    base_is_running: bool = False
    adapter_rank: int = 0  # 0: the base itself

    @property
    def traffic(self) -> Traffic:
        return Traffic(self.requests_per_day, self.peak_to_mean)

    @property
    def wishes(self) -> Wishes:
        return Wishes(self.tokens_per_second, self.p95_latency_seconds)


@dataclass(frozen=True, slots=True)
class Miss:
    """A wish that is not kept: which one, in words, and by which share of it."""

    wish: str
    detail: str
    by: float


@dataclass(frozen=True, slots=True)
class Service:
    """How a kind on a machine type answers the asked traffic, whatever the price."""

    replicas: int
    tokens_per_second: float
    p95_latency_seconds: float
    cold_fraction: float
    utilisation: float
    misses: tuple[Miss, ...]


@dataclass(frozen=True, slots=True)
class Option:
    """The best offer of one kind."""

    way: Way
    service: Service
    usd_per_month: float
    usd_per_million_tokens: float
    misses: tuple[Miss, ...]
    break_even_requests_per_day: float = 0.0
    alternatives: tuple[Offer, ...] = ()  # others of this kind that keep every wish, best first

    @property
    def kind(self) -> str:
        return self.way.kind

    @property
    def offer(self) -> Offer:
        return self.way.offer

    @property
    def meets(self) -> bool:
        return not self.misses

    @property
    def on_demand_floor(self) -> int:
        if self.kind == "spot":
            return serving_costs.ON_DEMAND_FLOOR
        return self.service.replicas if self.kind == "on-demand" else 0

    @property
    def cold_start_seconds(self) -> float:
        """0: always warm."""
        return self.way.cold_start_seconds if self.kind == "serverless" else 0.0


@dataclass(frozen=True, slots=True)
class EndpointPlan:
    """Options best first, one of each kind; the first is the choice."""

    options: tuple[Option, ...]
    explanation: str
