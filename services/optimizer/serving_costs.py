"""What an endpoint costs a month in each way of serving it, and how often it meets nobody awake. Pure.

A day is its busiest hour and 23 even ones. Arrivals are Poisson. A replica that scales to zero is an M/D/infinity
system that stays awake while anybody came within the last service time plus idle timeout: its mean busy period is
(e^(rate x hold) - 1) / rate (Takacs, Introduction to the Theory of Queues, 1962).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from services.optimizer.charges import HOURS_PER_MONTH
from services.optimizer.completion import MINIMUM_BILLED_SECONDS, hazard
from services.optimizer.serving_rates import Replica
from services.optimizer.values import Offer

HOURS_PER_DAY = 24.0
DAYS_PER_MONTH = HOURS_PER_MONTH / HOURS_PER_DAY
SECONDS_PER_DAY = 86_400.0

KINDS = ("serverless", "spot", "on-demand", "adapter")
# What each kind pays for its first replica; a request that waits for a machine cannot wait for a spot market.
CAPACITY_TYPES = {"serverless": "on-demand", "spot": "spot", "on-demand": "on-demand", "adapter": "on-demand"}

# The engine's own default (SSKAI_IDLE_SECONDS of inference).
IDLE_SECONDS = 300.0
# So that all spot machines can be taken at once and somebody still answers.
ON_DEMAND_FLOOR = 1
# How long a spot machine that was taken away stays missing: its market is dry for a while, then the cold start.
REPLACEMENT_SECONDS = 3600.0
# How much of what a running base bears is taken by those who use it already.
BASE_TAKEN = 0.5

# A cold start is a nuisance: who saves less than a hundredth by it keeps a warm machine instead.
COLD_START_HANDICAP = 1.01

# Where break-even traffic is looked for: in so many steps up and down from the asked traffic (24 doublings), then by
# bisection. Whole replicas make costs cross back and forth, so the steps are short.
STEPS = 96
STEP = 2**0.25
BISECTIONS = 60


@dataclass(frozen=True, slots=True)
class Traffic:
    requests_per_day: float
    peak_to_mean: float

    @property
    def peak_per_second(self) -> float:
        return self.requests_per_day * self.peak_to_mean / SECONDS_PER_DAY

    @property
    def hours(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """(hours of a day, requests per second) of the busiest hour and of the others."""
        others = HOURS_PER_DAY - 1
        quiet = self.requests_per_day * (HOURS_PER_DAY - self.peak_to_mean) / others / SECONDS_PER_DAY
        return (1.0, self.peak_per_second), (others, max(quiet, 0.0))


@dataclass(frozen=True, slots=True)
class Way:
    """A kind on an offer: everything about its costs but the traffic."""

    kind: str
    offer: Offer
    replica: Replica
    bearable_per_second: float  # of one replica, as wished
    cold_start_seconds: float

    @property
    def taken_per_second(self) -> float:
        """Requests of others that the first replica answers as well."""
        return BASE_TAKEN * self.bearable_per_second if self.kind == "adapter" else 0.0

    @property
    def spare_share(self) -> float:
        """Spot replicas beyond those that are needed: the share that is missing at any time on a bad month."""
        missing_seconds = REPLACEMENT_SECONDS + self.cold_start_seconds
        return hazard("spot", self.offer.interruption_band).high * missing_seconds / 3600

    @property
    def hold_seconds(self) -> float:
        """How long one request alone keeps a machine awake; what is billed anyway is used."""
        return max(self.replica.service_seconds(1) + IDLE_SECONDS, MINIMUM_BILLED_SECONDS - self.cold_start_seconds)

    def replicas(self, requests_per_second: float) -> int:
        """That bear so many requests, never less than the kind's own minimum."""
        needed = math.ceil((requests_per_second + self.taken_per_second) / self.bearable_per_second)
        return max(needed, ON_DEMAND_FLOOR + 1 if self.kind == "spot" else 1)

    def usd_per_hour(self, requests_per_second: float) -> float:
        """Every kind follows the traffic from hour to hour; they differ in the first replica, and in the price."""
        price, replicas = self.offer.price_usd_per_hour, self.replicas(requests_per_second)
        if self.kind == "serverless":
            first = billed_share(requests_per_second, self.hold_seconds, self.cold_start_seconds)
            return price * (replicas - 1 + first)
        if self.kind == "adapter":
            return price * (replicas - 1)
        if self.kind == "on-demand":
            return price * replicas
        floor = ON_DEMAND_FLOOR * self.offer.on_demand_price_usd_per_hour
        return floor + (replicas - ON_DEMAND_FLOOR) * price * (1 + self.spare_share)

    def usd_per_month(self, traffic: Traffic) -> float:
        return DAYS_PER_MONTH * sum(hours * self.usd_per_hour(rate) for hours, rate in traffic.hours)

    @property
    def weight(self) -> float:
        """What a dollar of this kind counts when kinds are compared."""
        return COLD_START_HANDICAP if self.kind == "serverless" else 1.0

    def weighed_usd(self, traffic: Traffic) -> float:
        return self.weight * self.usd_per_month(traffic)

    def cold_fraction(self, traffic: Traffic) -> float:
        """Of the day's requests, those that wait for a machine to start."""
        total = sum(hours * rate for hours, rate in traffic.hours)
        cold = sum(
            hours * rate * cold_share(rate, self.hold_seconds, self.cold_start_seconds) for hours, rate in traffic.hours
        )
        return cold / total


def billed_share(rate: float, hold_seconds: float, start_seconds: float) -> float:
    """The share of time in which a machine that sleeps when nobody comes is paid for.

    A cycle is a sleep of 1/rate, a start, and a busy period: (rate x start + e^x) / rate with x = rate x hold.
    """
    asleep = math.exp(-rate * hold_seconds)
    return 1 - asleep / (1 + rate * start_seconds * asleep)


def cold_share(rate: float, hold_seconds: float, start_seconds: float) -> float:
    """The share of requests that meet no warm replica: of each cycle the first, and who comes while it starts."""
    asleep = math.exp(-rate * hold_seconds)
    return (1 + rate * start_seconds) * asleep / (1 + rate * start_seconds * asleep)


def break_even(one: Way, other: Way, traffic: Traffic) -> float:
    """The requests a day nearest to the asked ones at which the cheaper of two ways becomes the dearer; 0: nowhere.

    Machines, prices and the day's shape stay; replicas follow the traffic. Costs rise in steps of whole replicas, so it
    is the first traffic beyond the crossing, not one at which both are equal.
    """

    def sign(requests_per_day: float) -> int:
        at = Traffic(requests_per_day, traffic.peak_to_mean)
        mine, theirs = one.weighed_usd(at), other.weighed_usd(at)
        return (mine > theirs) - (mine < theirs)

    asked = traffic.requests_per_day
    here = sign(asked)
    if here == 0:
        return 0.0
    for step in range(1, STEPS + 1):
        for factor in (STEP, 1 / STEP):
            far = asked * factor**step
            if sign(far) == -here:
                return _first(lambda at: sign(at) == -here, far / factor, far)
    return 0.0


def _first(beyond: Callable[[float], bool], near: float, far: float) -> float:
    """By bisection between a traffic that is not beyond the crossing and one that is."""
    for _ in range(BISECTIONS):
        middle = (near + far) / 2
        near, far = (near, middle) if beyond(middle) else (middle, far)
    return far
