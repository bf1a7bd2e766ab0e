"""The decision: where a job should run, and what that will cost. Pure: clock, prices and measurements are arguments.

`plan` looks at every offer (instance type x zone x spot or on-demand) and either ranks those that meet every constraint
by the price, or the time, of the whole job, or refuses and says which constraint binds and by how much.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from services.optimizer import completion, constraints, wording, work
from services.optimizer.completion import Completion, Pace, Range
from services.optimizer.constraints import ConstraintError, Demand
from services.optimizer.throughput import Machine
from services.optimizer.values import Assumptions, Candidate, History, Misfit, Offer, Plan, Refusal, Rejection
from services.optimizer.wording import duration, usd
from services.optimizer.work import GIB, ModelProfile, Request

MAX_CANDIDATES = 20
MAX_REJECTIONS = 50
# A type that is short in one zone tends to be short in the next: alternates should not all be one type.
MAX_ZONES_PER_TYPE = 4
SAME_TIME_FRACTION = 0.02


@dataclass(frozen=True, slots=True)
class Limits:
    """What is left of the user's time and money; None: no limit."""

    seconds_left: float | None
    usd_left: float | None


def plan(
    request: Request,
    profile: ModelProfile,
    *,
    machines: dict[str, Machine],
    offers: Sequence[Offer],
    assumptions: Assumptions,
    now: datetime,
    history: History,
) -> Plan | Refusal:
    """Rank what can be rented for this job, or refuse. Equal arguments give an equal answer, to the bit."""
    limits = _limits(request, now, history)
    if isinstance(limits, Refusal):
        return limits
    try:
        demand = constraints.demand(request, machines)
    except ConstraintError as error:
        return Refusal("resources", str(error), "Correct this field of the job file.")
    judge = _Judge(
        request,
        profile,
        machines=machines,
        assumptions=assumptions,
        history=history,
        demand=demand,
        limits=limits,
    )
    fitting: list[Candidate] = []
    rejected: list[Rejection] = []
    for offer in offers:
        if request.spot_policy not in ("auto", offer.capacity_type):
            continue
        verdict = judge.verdict(offer)
        if isinstance(verdict, Misfit):
            rejected.append(Rejection(offer, verdict))
        else:
            fitting.append(verdict)
    if not fitting:
        return wording.refusal(rejected, request)
    fitting.sort(key=_cheapest_first if request.objective == "cheapest" else _fastest_first)
    ranked, denied = _without_denied(fitting, history)
    rejected += [Rejection(each.offer, Misfit("denied", "had no machine a short while ago")) for each in denied]
    return Plan(
        work=judge.work,
        candidates=_shortlist(ranked),
        rejections=_summary(rejected),
        fitting=len(ranked),
        explanation=wording.explanation(request, ranked, judge.work, now),
    )


def _limits(request: Request, now: datetime, history: History) -> Limits | Refusal:
    seconds_left = usd_left = None
    if request.rows == 0:
        return Refusal("resources", "the dataset has no rows", "Upload a dataset with at least one row.")
    if request.deadline:
        seconds_left = (datetime.fromisoformat(request.deadline) - now).total_seconds()
        if seconds_left <= 0:
            detail = f"the deadline {request.deadline} passed {duration(-seconds_left)} ago"
            return Refusal("deadline", detail, "Give a later deadline, or none.")
    if request.budget_usd is not None:
        usd_left = request.budget_usd - history.spent_usd
        if usd_left <= 0:
            detail = f"of a budget of {usd(request.budget_usd)}, {usd(history.spent_usd)} is spent: nothing is left"
            return Refusal("budget", detail, "Raise budget.total_usd.")
    return Limits(seconds_left, usd_left)


class _Judge:
    """Decides one offer after another; what depends only on the machine type is computed once per type."""

    def __init__(
        self,
        request: Request,
        profile: ModelProfile,
        *,
        machines: dict[str, Machine],
        assumptions: Assumptions,
        history: History,
        demand: Demand,
        limits: Limits,
    ) -> None:
        self.work = work.resolve(request, profile, history.steps_done)
        self._request = request
        self._profile = profile
        self._machines = machines
        self._assumptions = assumptions
        self._history = history
        self._demand = demand
        self._limits = limits
        self._of_type: dict[str, Pace | Misfit] = {}
        self._completions: dict[tuple[str, str, int | None], Completion] = {}

    def verdict(self, offer: Offer) -> Candidate | Misfit:
        """The candidate that this offer is, or the first thing that it fails at."""
        pace = self._of_type.get(offer.instance_type)
        if pace is None:
            pace = self._of_type[offer.instance_type] = self._judge_type(self._machines[offer.instance_type])
        misfit = self._place(offer)
        if isinstance(pace, Misfit) and (pace.reason != "memory" or misfit is None):
            return pace
        if misfit is not None:
            return misfit
        assert isinstance(pace, Pace)
        return self._whole_job(offer, pace)

    def _judge_type(self, machine: Machine) -> Pace | Misfit:
        if not constraints.matches(machine.instance_type, self._assumptions.offered_instance_types):
            return Misfit("not-offered", "this installation does not offer the type")
        if mismatch := self._demand.mismatch(machine):
            return Misfit("resources", mismatch)
        pace = completion.pace(
            self._request,
            self._profile,
            self.work,
            machine,
            self._history.measured,
            machine_start_seconds=self._assumptions.machine_start_seconds,
            pinned_micro_batch_size=self._history.micro_batch_size,
        )
        if pace is not None:
            return pace
        needed = work.footprint(self._profile, machine, 1).peak_bytes / GIB
        usable = work.usable_bytes(machine) / GIB
        detail = f"needs {needed:.1f} GiB for one sequence, {usable:.1f} GiB are usable"
        return Misfit("memory", detail, shortfall=needed - usable)

    def _place(self, offer: Offer) -> Misfit | None:
        if self._assumptions.regions and offer.region not in self._assumptions.regions:
            return Misfit("not-offered", "this installation does not use the region")
        if self._demand.regions and offer.region not in self._demand.regions:
            return Misfit("resources", f"regions asks for {', '.join(self._demand.regions)}")
        price, ceiling = offer.price_usd_per_hour, self._request.max_price_usd_per_hour
        if ceiling is not None and price > ceiling:
            return Misfit("max-price", f"{price:g} USD/h is over max_price {ceiling:g}", shortfall=price - ceiling)
        return None

    def _whole_job(self, offer: Offer, pace: Pace) -> Candidate | Misfit:
        """Judge by the 95th percentile: what was promised must hold on a slow day, too.

        The estimate holds the last evaluation, checkpoint and export, so those are paid for in advance.
        """
        alike = (offer.instance_type, offer.capacity_type, offer.interruption_band)
        done = self._completions.get(alike)
        if done is None:
            risk = completion.hazard(offer.capacity_type, offer.interruption_band)
            done = completion.complete(pace, self.work, risk, self._request.checkpoint_interval_steps)
            self._completions[alike] = done
        seconds, seconds_left = done.hours.high * 3600, self._limits.seconds_left
        if seconds_left is not None and seconds > seconds_left:
            detail = f"takes up to {duration(seconds)}, and {duration(seconds_left)} are left"
            return Misfit("deadline", detail, shortfall=seconds - seconds_left)
        total = _priced(done, offer.price_usd_per_hour)
        usd_left = self._limits.usd_left
        if usd_left is not None and total.high > usd_left:
            detail = f"costs up to {usd(total.high)}, and {usd(usd_left)} are left"
            return Misfit("budget", detail, shortfall=total.high - usd_left)
        return Candidate(offer, pace, done, total)


def _priced(done: Completion, usd_per_hour: float) -> Range:
    billed = done.billed_hours
    return Range(billed.expected * usd_per_hour, billed.low * usd_per_hour, billed.high * usd_per_hour)


def _cheapest_first(candidate: Candidate) -> tuple[float, float, str]:
    return candidate.total_usd.expected, candidate.completion.hours.expected, candidate.offer.key


def _fastest_first(candidate: Candidate) -> tuple[int, float, str]:
    """By time in steps of two per cent: a smaller difference is noise, and not worth a dearer machine."""
    time_class = round(math.log(candidate.completion.hours.expected) / math.log1p(SAME_TIME_FRACTION))
    return time_class, candidate.total_usd.expected, candidate.offer.key


def _without_denied(fitting: list[Candidate], history: History) -> tuple[list[Candidate], list[Candidate]]:
    """Leave out offers that had no machine lately, unless there is nothing else: waiting for one beats giving up."""
    denied = [candidate for candidate in fitting if candidate.offer.key in history.denied]
    if not denied or len(denied) == len(fitting):
        return fitting, []
    return [candidate for candidate in fitting if candidate.offer.key not in history.denied], denied


def _shortlist(ranked: list[Candidate]) -> tuple[Candidate, ...]:
    """The best few, not all of one type, with an on-demand machine among them where there is one.

    The last matters when spot vanishes: the scheduler needs somewhere to go before the deadline is out of reach.
    """
    listed: list[Candidate] = []
    zones: dict[tuple[str, str], int] = {}
    for candidate in ranked:
        alike = (candidate.offer.instance_type, candidate.offer.capacity_type)
        zones[alike] = zones.get(alike, 0) + 1
        if zones[alike] <= MAX_ZONES_PER_TYPE:
            listed.append(candidate)
        if len(listed) == MAX_CANDIDATES:
            break
    if all(candidate.offer.capacity_type == "spot" for candidate in listed):
        fallback = next((each for each in ranked if each.offer.capacity_type == "on-demand"), None)
        if fallback is not None:
            listed = [*listed[: MAX_CANDIDATES - 1], fallback]
    return tuple(listed)


def _summary(rejected: list[Rejection]) -> tuple[Rejection, ...]:
    """The cheapest zone of each reason, type and way to pay, cheapest first; what is not offered here comes last."""
    best: dict[tuple[str, str, str], Rejection] = {}
    for rejection in rejected:
        alike = (rejection.misfit.reason, rejection.offer.instance_type, rejection.offer.capacity_type)
        if alike not in best or _cheapness(rejection) < _cheapness(best[alike]):
            best[alike] = rejection
    ordered = sorted(best.values(), key=lambda each: (each.misfit.reason == "not-offered", *_cheapness(each)))
    return tuple(ordered[:MAX_REJECTIONS])


def _cheapness(rejection: Rejection) -> tuple[float, str]:
    return rejection.offer.price_usd_per_hour, rejection.offer.key
