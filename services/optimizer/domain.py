"""The decision: where a job should run, and what that will cost. Pure: clock, prices and measurements are arguments.

`plan` looks at every offer (instance type x zone x spot or on-demand) and either ranks those that meet every constraint
by the price, or the time, of the whole job, or refuses and says which constraint binds and by how much.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from services.optimizer import charges, completion, constraints, memory, wording, work
from services.optimizer.completion import Completion, Pace, Range
from services.optimizer.constraints import ConstraintError, Demand
from services.optimizer.memory import GIB, Layout, ModelProfile
from services.optimizer.throughput import Machine
from services.optimizer.values import (
    STAGES,
    Assumptions,
    Candidate,
    Dollars,
    History,
    Misfit,
    Offer,
    Plan,
    Refusal,
    Rejection,
)
from services.optimizer.wording import duration, usd
from services.optimizer.work import PREFERENCE, Request

# Changes whenever equal inputs may be decided differently: what decided a stored plan is stored with it.
PLANNER_VERSION = "4"

MAX_RANKED = 20
MAX_PARETO = 12  # of the front, beside the best-ranked ones
MAX_REJECTIONS = 50
# A type that is short in one zone tends to be short in the next: alternates should not all be one type.
MAX_ZONES_PER_TYPE = 4
SAME_TIME_FRACTION = 0.02
MOVE_FRACTION = 0.10
MOVE_USD = 0.02
FASTEST = ("fastest", "fastest-within-budget")
MACHINE_COUNTS = (1, 2, 4, 8)
LOCAL = "local"  # the cloud whose machines are all this one computer
NO_CHECKPOINTS = Refusal(
    "resources",
    "spot without checkpoints loses all work at every interruption",
    "Let checkpoint.interval be auto or a number of steps, or ask for spot_policy on-demand.",
)


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
        demand = constraints.demand(request, machines, request.nodes)
    except ConstraintError as error:
        return Refusal("resources", str(error), "Correct this field of the job file.")
    if request.spot_policy == "spot" and not request.checkpoints:
        return NO_CHECKPOINTS
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
    fitting.sort(key=_fastest_first if request.objective in FASTEST else _cheapest_first)
    ranked, denied = _without_denied(fitting, history)
    rejected += [Rejection(each.offer, Misfit("denied", "had no machine a short while ago")) for each in denied]
    front = _pareto_front(ranked)
    listed = [judge.with_reference(each, on_front=id(each) in front) for each in _shortlist(ranked, front)]
    return Plan(
        work=judge.work,
        candidates=tuple(listed),
        rejections=_summary(rejected),
        fitting=len(ranked),
        explanation=wording.explanation(request, ranked, judge.work, now, assumptions.price_stale_seconds),
        point_of_no_return=_point_of_no_return(request, ranked),
    )


def worth_moving(current: tuple[str, int], plan: Plan) -> bool:
    """Whether prices have moved so far that a job that waits should be planned elsewhere.

    Hysteresis: the better choice must save a good part of the total and more than a few cents, or every wiggle of a
    market would be a new plan. A placement that is no candidate any more is always worth leaving.
    """
    best = plan.candidates[0]
    if best.key == current:
        return False
    now = next((each for each in plan.candidates if each.key == current), None)
    if now is None:
        return True
    saving = now.total_usd.expected - best.total_usd.expected
    return saving > max(MOVE_FRACTION * now.total_usd.expected, MOVE_USD)


def _limits(request: Request, now: datetime, history: History) -> Limits | Refusal:
    seconds_left = usd_left = None
    if request.rows == 0:
        return Refusal("resources", "the dataset has no rows", "Upload a dataset with at least one row.")
    if request.objective == "cheapest-within-deadline" and not request.deadline:
        return Refusal("deadline", "objective cheapest-within-deadline has no deadline", "Give a deadline.")
    if request.objective == "fastest-within-budget" and request.budget_usd is None:
        return Refusal("budget", "objective fastest-within-budget has no budget", "Give budget.total_usd.")
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
        self._of_type: dict[str, list[Pace] | Misfit] = {}
        self._completions: dict[tuple[str, int, str, int | None, str, int | None], Completion] = {}
        self._exposures = {(each.region, each.instance_type): each for each in history.exposures}
        measured = history.save_seconds > 0
        self._saving = (history.save_seconds, history.stall_seconds) if measured else None

    def verdict(self, offer: Offer) -> Candidate | Misfit:
        """The candidate that this offer makes, or what it fails at. Of the numbers of machines, the first that meets
        every constraint is taken, in the objective's order: so an offer makes one candidate, however many there are."""
        paces = self._of_type.get(offer.instance_type)
        if paces is None:
            paces = self._of_type[offer.instance_type] = self._judge_type(self._machines[offer.instance_type])
        misfit = self._place(offer)
        if isinstance(paces, Misfit):
            return paces if misfit is None or paces.reason != "memory" else misfit
        if misfit is not None:
            return misfit
        verdicts: list[Misfit] = []
        one_is_enough = any(pace.machines == 1 for pace in paces)
        for pace in paces:
            if offer.cloud == LOCAL and pace.machines > 1 and one_is_enough:
                continue  # two workers on one computer without GPUs are slower than one (benchmarks/trainer)
            verdict = self._whole_job(offer, pace)
            if isinstance(verdict, Candidate):
                return verdict
            verdicts.append(verdict)
        return max(verdicts, key=lambda each: (STAGES.index(each.reason), -each.shortfall))

    def _judge_type(self, machine: Machine) -> list[Pace] | Misfit:
        if not constraints.matches(machine.instance_type, self._assumptions.offered_instance_types):
            return Misfit("not-offered", "this installation does not offer the type")
        if mismatch := self._demand.mismatch(machine):
            return Misfit("resources", mismatch)
        if self._request.method == "qlora" and not machine.accelerator_name:
            return Misfit("resources", "a 4-bit base needs an accelerator")
        counts = self._counts(machine)
        if not counts:
            limit = self._assumptions.max_workers
            return Misfit("resources", f"nodes asks for more machines than this installation's {limit} worker(s)")
        paces: list[Pace] = []
        for machines, workers in counts:
            pace = completion.pace(
                self._request,
                self._profile,
                self.work,
                machine,
                self._history.measured,
                machines=machines,
                workers=workers,
                machine_start_seconds=self._assumptions.machine_start_seconds,
                pinned_micro_batch_size=self._history.micro_batch_size,
                saving=self._saving,
            )
            if pace is not None:
                paces.append(pace)
        if not paces:
            return self._too_large(machine, max(workers for _, workers in counts))
        return sorted(paces, key=self._soonest if self._request.objective in FASTEST else self._fewest_machine_hours)

    def _soonest(self, pace: Pace) -> tuple[int, int]:
        """Fewer machines where more of them gain less than two per cent."""
        return _time_class(self._undisturbed_seconds(pace)), pace.machines

    def _fewest_machine_hours(self, pace: Pace) -> tuple[float, int]:
        return pace.machines * self._undisturbed_seconds(pace), pace.machines

    def _undisturbed_seconds(self, pace: Pace) -> float:
        return pace.startup_seconds + self.work.steps_left * pace.step_seconds.expected + pace.finish_seconds

    def _counts(self, machine: Machine) -> list[tuple[int, int]]:
        """(machines, workers) to consider: a worker per accelerator, each with a sequence of its own in each step."""
        most = min(self._assumptions.max_workers, self.work.batch_size)
        each = max(machine.accelerator_count, 1)
        counts = []
        for machines in MACHINE_COUNTS:
            if self._demand.nodes is not None and machines not in self._demand.nodes:
                continue
            if machines == 1:
                counts.append((1, min(each, most)))
            elif machines * each <= most:
                counts.append((machines, machines * each))
        return counts

    def _too_large(self, machine: Machine, workers: int) -> Misfit:
        request, reference = self._request, self._request.dataset_format == PREFERENCE
        split = memory.can_shard(self._profile, machine, request.method, workers, reference=reference)
        layout = Layout(workers if split else 1, self.work.sequences_per_sample, reference)
        smallest = min(
            (
                memory.footprint(
                    self._profile, machine, request.method, 1, checkpointing=on, accumulating=True, layout=layout
                )
                for on in (False, True)
                if request.gradient_checkpointing in (None, on)
            ),
            key=lambda each: each.peak_bytes,
        )
        needed, usable = smallest.peak_bytes / GIB, memory.usable_bytes(machine) / GIB
        parts = f" on each of {workers} accelerators" if split else ""
        detail = (
            f"needs {needed:.1f} GiB for one sequence{parts}, {usable:.1f} GiB are usable; "
            f"the most, {smallest.terms[smallest.largest_term] / GIB:.1f} GiB, are {smallest.largest_term}"
        )
        return Misfit("memory", detail, shortfall=needed - usable)

    def _place(self, offer: Offer) -> Misfit | None:
        if self._assumptions.regions and offer.region not in self._assumptions.regions:
            return Misfit("not-offered", "this installation does not use the region")
        if self._demand.regions and offer.region not in self._demand.regions:
            return Misfit("resources", f"regions asks for {', '.join(self._demand.regions)}")
        if offer.capacity_type == "spot" and not self._request.checkpoints:
            return Misfit("checkpoints", "without checkpoints all work is lost at every interruption")
        price, ceiling = offer.price_usd_per_hour, self._request.max_price_usd_per_hour
        if ceiling is not None and price > ceiling:
            return Misfit("max-price", f"{price:g} USD/h is over max_price {ceiling:g}", shortfall=price - ceiling)
        return None

    def _whole_job(self, offer: Offer, pace: Pace) -> Candidate | Misfit:
        """Judge by the 95th percentile: what was promised must hold on a slow day, too.

        The estimate holds the last evaluation, checkpoint and export, so those are paid for in advance.
        """
        done = self._completion(offer, pace)
        seconds, seconds_left = done.hours.high * 3600, self._limits.seconds_left
        if seconds_left is not None and seconds > seconds_left:
            detail = f"takes up to {duration(seconds)}, and {duration(seconds_left)} are left"
            return Misfit("deadline", detail, shortfall=seconds - seconds_left)
        dollars, total = self._priced(offer, pace, done)
        usd_left = self._limits.usd_left
        if usd_left is not None and total.high > usd_left:
            detail = f"costs up to {usd(total.high)}, and {usd(usd_left)} are left"
            return Misfit("budget", detail, shortfall=total.high - usd_left)
        return Candidate(offer, pace, done, total, dollars)

    def with_reference(self, candidate: Candidate, *, on_front: bool) -> Candidate:
        """The candidate with what is said of the listed ones only: the front, and the same machines on demand."""
        offer, pace, total = candidate.offer, candidate.pace, candidate.total_usd.expected
        if offer.capacity_type == "spot":
            steady = replace(offer, capacity_type="on-demand", price_usd_per_hour=offer.on_demand_price_usd_per_hour)
            total = self._priced(steady, pace, self._completion(steady, pace))[1].expected
        return replace(candidate, on_pareto_front=on_front, on_demand_total_usd=total)

    def _completion(self, offer: Offer, pace: Pace) -> Completion:
        spot = offer.capacity_type == "spot"
        exposure = self._exposures.get((offer.region, offer.instance_type)) if spot else None
        alike = (
            offer.instance_type,
            pace.machines,
            offer.capacity_type,
            offer.interruption_band if spot else None,
            offer.region if exposure else "",
            offer.placement_score if spot else None,
        )
        done = self._completions.get(alike)
        if done is None:
            risk = completion.hazard(offer.capacity_type, offer.interruption_band, exposure, offer.placement_score)
            done = self._completions[alike] = completion.complete(pace, self.work, risk, self._request)
        return done

    def _priced(self, offer: Offer, pace: Pace, done: Completion) -> tuple[Dollars, Range]:
        hourly = offer.price_usd_per_hour * pace.machines
        dearer = max(offer.on_demand_price_usd_per_hour - offer.price_usd_per_hour, 0.0) * pace.machines
        billed = done.billed_hours
        dollars = Dollars(
            compute=billed.expected * hourly,
            on_demand_fallback=done.fallback_hours * dearer,
            storage=charges.storage_usd(pace.baggage, billed.expected * pace.machines, done.hours.expected),
            egress=charges.egress_usd(
                pace.baggage,
                offer.region,
                self._assumptions.objects_region if offer.cloud == "aws" else "",
                launches=(1 + done.expected_interruptions) * pace.machines,
                saves=done.saves,
            ),
        )
        beside = dollars.on_demand_fallback + dollars.storage + dollars.egress
        return dollars, Range(
            dollars.compute + beside, billed.low * hourly, billed.high * hourly + beside * billed.high / billed.expected
        )


def _pareto_front(ranked: list[Candidate]) -> set[int]:
    """The identities of the candidates that no other is both cheaper and faster than."""
    front = set()
    cheapest = math.inf
    for candidate in sorted(ranked, key=lambda each: (each.completion.hours.expected, each.total_usd.expected)):
        if candidate.total_usd.expected < cheapest:
            cheapest = candidate.total_usd.expected
            front.add(id(candidate))
    return front


def _point_of_no_return(request: Request, ranked: list[Candidate]) -> str:
    """The last moment at which an on-demand machine, on a slow day, still meets the deadline."""
    steady = [each.completion.hours.high for each in ranked if each.offer.capacity_type == "on-demand"]
    if not request.deadline or not steady:
        return ""
    return (datetime.fromisoformat(request.deadline) - timedelta(hours=min(steady))).isoformat()


def _cheapest_first(candidate: Candidate) -> tuple[float, float, str, int]:
    return candidate.total_usd.expected, candidate.completion.hours.expected, *candidate.key


def _fastest_first(candidate: Candidate) -> tuple[int, float, str, int]:
    """By time in steps of two per cent: a smaller difference is noise, and not worth a dearer machine."""
    return _time_class(candidate.completion.hours.expected), candidate.total_usd.expected, *candidate.key


def _time_class(time: float) -> int:
    return round(math.log(max(time, 1e-9)) / math.log1p(SAME_TIME_FRACTION))


def _without_denied(fitting: list[Candidate], history: History) -> tuple[list[Candidate], list[Candidate]]:
    """Leave out offers that had no machine lately, unless there is nothing else: waiting for one beats giving up."""
    denied = [candidate for candidate in fitting if candidate.offer.key in history.denied]
    if not denied or len(denied) == len(fitting):
        return fitting, []
    return [candidate for candidate in fitting if candidate.offer.key not in history.denied], denied


def _shortlist(ranked: list[Candidate], front: set[int]) -> list[Candidate]:
    """The best few, not all of one type, the Pareto front, and an on-demand machine where there is one.

    The last matters when spot vanishes: the scheduler needs somewhere to go before the deadline is out of reach.
    """
    listed: list[Candidate] = []
    zones: dict[tuple[str, str], int] = {}
    for candidate in ranked:
        alike = (candidate.offer.instance_type, candidate.offer.capacity_type)
        zones[alike] = zones.get(alike, 0) + 1
        if zones[alike] <= MAX_ZONES_PER_TYPE:
            listed.append(candidate)
        if len(listed) == MAX_RANKED:
            break
    known = {id(each) for each in listed}
    listed += [each for each in ranked if id(each) in front and id(each) not in known][:MAX_PARETO]
    if all(candidate.offer.capacity_type == "spot" for candidate in listed):
        fallback = next((each for each in ranked if each.offer.capacity_type == "on-demand"), None)
        if fallback is not None:
            listed.append(fallback)
    return listed


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
