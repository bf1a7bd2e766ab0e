"""The decision how a model should be served: which kind, on which machine, for how much a month. Pure.

`plan_endpoint` looks at every offer in each way that it can be used (serverless, spot with an on-demand floor, on
demand, an adapter on a running base), keeps the best offer of each kind, and ranks the kinds by what they cost a month
among those that keep every wish; or it refuses and says which wish stands in the way, by how much, and what to do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime

from services.optimizer import constraints, memory, serving_costs, serving_rates, serving_wording
from services.optimizer.constraints import ConstraintError, Demand
from services.optimizer.memory import GIB
from services.optimizer.serving_costs import KINDS, Traffic, Way
from services.optimizer.serving_rates import ServingProfile, Shape
from services.optimizer.serving_values import EndpointPlan, Miss, Option, Service, Spec
from services.optimizer.throughput import Machine
from services.optimizer.values import Assumptions, Misfit, Offer, Refusal, Rejection
from services.optimizer.wording import usd

VERSION = "endpoints-2"  # changes with every change of a decision

MAX_PEAK_TO_MEAN = serving_costs.HOURS_PER_DAY  # all of a day's requests in one hour
MAX_REQUESTS_PER_DAY = 1e10
MAX_TOKENS = 1e7
MAX_WISH = 1e12
MAX_REPLICAS = 1000
# Kinds whose machines we choose, and how many others a plan names for each.
RENTED = ("spot", "on-demand")
MAX_ALTERNATIVES = 8

TAIL = 0.05  # what the 95th percentile leaves
# Of the requests that may be late, half may meet no warm replica; the other half may wait in the queue.
COLD_TAIL = TAIL / 2


def plan_endpoint(
    spec: Spec,
    profile: ServingProfile,
    *,
    machines: dict[str, Machine],
    offers: Sequence[Offer],
    assumptions: Assumptions,
    now: datetime,
) -> EndpointPlan | Refusal:
    """Rank the ways to serve this model, or refuse. Equal arguments give an equal answer, to the bit."""
    broken = _broken(spec, profile)
    if broken is not None:
        return broken
    try:
        demand = constraints.demand(spec, machines)
    except ConstraintError as error:
        return Refusal("resources", str(error), "Correct this field of the endpoint's resources.")
    judge = _Judge(spec, profile, machines=machines, assumptions=assumptions, demand=demand)
    best: dict[str, Option] = {}
    meeting: dict[str, list[Option]] = {kind: [] for kind in RENTED}
    closest: Option | None = None  # to keeping every wish
    rejected: list[Rejection] = []
    for offer in offers:
        misfit = judge.misfit(offer)
        if misfit is not None:
            rejected.append(Rejection(offer, misfit))
            continue
        for option in judge.options(offer):
            if option.kind not in best or _best_of_kind(option) < _best_of_kind(best[option.kind]):
                best[option.kind] = option
            if option.meets and option.kind in meeting:
                meeting[option.kind].append(option)
            # Where a running base runs is not ours to choose, so other machines for it come no closer.
            rented = option.kind != "adapter"
            if rented and (closest is None or _closest_first(option) < _closest_first(closest)):
                closest = option
    if closest is None:
        return serving_wording.no_machine(rejected)
    closest = min(closest, *best.values(), key=_closest_first)
    if not closest.meets:
        return serving_wording.no_way(closest)
    ranked = [_with_alternatives(each, meeting.get(each.kind, [])) for each in sorted(best.values(), key=_best_first)]
    options = _with_break_even(ranked, spec.traffic)
    return EndpointPlan(options, serving_wording.explanation(spec, options, now, assumptions.price_stale_seconds))


def _broken(spec: Spec, profile: ServingProfile) -> Refusal | None:
    """What no machine could make up for."""
    limits = {
        "requests_per_day": (spec.requests_per_day, MAX_REQUESTS_PER_DAY),
        "input_tokens_per_request": (spec.input_tokens_per_request, MAX_TOKENS),
        "output_tokens_per_request": (spec.output_tokens_per_request, MAX_TOKENS),
        "tokens_per_second": (spec.tokens_per_second, MAX_WISH),
        "p95_latency_seconds": (spec.p95_latency_seconds, MAX_WISH),
        "budget_usd_per_month": (spec.budget_usd_per_month, MAX_WISH),
    }
    for name, (value, most) in limits.items():
        if value is not None and not 0 < value <= most:
            reason = serving_wording.REFUSED_FOR.get(name, "resources")
            return Refusal(reason, f"{name} is {value:g}", f"Give {name} as a number above 0 and up to {most:g}.")
    if not 1 <= spec.peak_to_mean <= MAX_PEAK_TO_MEAN:
        detail = f"peak_to_mean is {spec.peak_to_mean:g}"
        return Refusal("resources", detail, "Give the busiest hour over the mean hour of a day: 1 to 24.")
    tokens = spec.input_tokens_per_request + spec.output_tokens_per_request
    if 0 < profile.context_length < tokens:
        detail = f"a request has {tokens:g} tokens, {tokens - profile.context_length:g} over the model's context of "
        detail += f"{profile.context_length}"
        return Refusal("model", detail, "Shorten input or output, or choose a model with a longer context.")
    return None


class _Judge:
    """Decides one offer after another; what depends only on the machine type is computed once per type."""

    def __init__(
        self,
        spec: Spec,
        profile: ServingProfile,
        *,
        machines: dict[str, Machine],
        assumptions: Assumptions,
        demand: Demand,
    ) -> None:
        self._spec = spec
        self._profile = profile
        self._machines = machines
        self._assumptions = assumptions
        self._demand = demand
        self._alone = Shape(spec.input_tokens_per_request, spec.output_tokens_per_request, spec.adapter_rank)
        self._misfits: dict[str, Misfit | None] = {}
        self._services: dict[tuple[str, str], tuple[Way, Service] | None] = {}
        self._tokens_per_month = (
            spec.requests_per_day
            * serving_costs.DAYS_PER_MONTH
            * (spec.input_tokens_per_request + spec.output_tokens_per_request)
        )

    def misfit(self, offer: Offer) -> Misfit | None:
        """The first thing that this offer fails at, whatever the kind."""
        if offer.instance_type not in self._misfits:
            self._misfits[offer.instance_type] = self._misfit_of_type(self._machines[offer.instance_type])
        of_type = self._misfits[offer.instance_type]
        if of_type is not None and of_type.reason != "memory":
            return of_type
        if self._assumptions.regions and offer.region not in self._assumptions.regions:
            return Misfit("not-offered", "this installation does not use the region")
        if self._demand.regions and offer.region not in self._demand.regions:
            return Misfit("resources", f"regions asks for {', '.join(self._demand.regions)}")
        price, ceiling = offer.price_usd_per_hour, self._spec.max_price_usd_per_hour
        if offer.capacity_type == "spot":
            price = max(price, offer.on_demand_price_usd_per_hour)  # of the floor
        if ceiling is not None and price > ceiling:
            return Misfit("max-price", f"{price:g} USD/h is over max_price {ceiling:g}", shortfall=price - ceiling)
        return of_type

    def _misfit_of_type(self, machine: Machine) -> Misfit | None:
        if not constraints.matches(machine.instance_type, self._assumptions.offered_instance_types):
            return Misfit("not-offered", "this installation does not offer the type")
        if mismatch := self._demand.mismatch(machine):
            return Misfit("resources", mismatch)
        if serving_rates.replica(self._profile, machine, self._alone) is not None:
            return None
        needed = serving_rates.fixed_bytes(self._profile, machine, self._alone)
        needed += serving_rates.bytes_per_answer(self._profile, machine, self._alone)
        usable = memory.usable_bytes(machine)
        detail = f"needs {needed / GIB:.1f} GiB for the model and one answer, {usable / GIB:.1f} GiB are usable"
        return Misfit("memory", detail, shortfall=needed - usable)

    def options(self, offer: Offer) -> Iterator[Option]:
        """In each kind that this offer can serve."""
        for kind in KINDS:
            if serving_costs.CAPACITY_TYPES[kind] != offer.capacity_type:
                continue
            if kind == "adapter" and not self._spec.base_is_running:
                continue
            known = (offer.instance_type, kind)
            if known not in self._services:
                self._services[known] = self._serve(kind, offer)
            served = self._services[known]
            if served is not None:
                yield self._option(replace(served[0], offer=offer), served[1])

    def _serve(self, kind: str, offer: Offer) -> tuple[Way, Service] | None:
        spec, machine = self._spec, self._machines[offer.instance_type]
        shape = replace(self._alone, shared=kind == "adapter")
        replica = serving_rates.replica(self._profile, machine, shape)
        if replica is None:
            return None
        tail = COLD_TAIL if kind == "serverless" else TAIL
        cold_start = self._assumptions.machine_start_seconds + replica.load_seconds
        way = Way(kind, offer, replica, replica.bearable_per_second(spec.wishes, tail), cold_start)
        peak = spec.traffic.peak_per_second + way.taken_per_second
        replicas = way.replicas(spec.traffic.peak_per_second)
        each = peak / replicas
        cold_fraction = way.cold_fraction(spec.traffic) if kind == "serverless" else 0.0
        return way, Service(
            replicas=replicas,
            tokens_per_second=replica.tokens_per_second(each),
            p95_latency_seconds=replica.latency_seconds(each, TAIL),
            cold_fraction=cold_fraction,
            utilisation=each / replica.requests_per_second,
            misses=tuple(self._misses(way, replicas, each, tail, cold_fraction)),
        )

    def _misses(self, way: Way, replicas: int, each: float, tail: float, cold_fraction: float) -> Iterator[Miss]:
        """The wishes that this kind on this machine type does not keep; money is looked at later."""
        wishes, replica = self._spec.wishes, way.replica
        pace = replica.tokens_per_second(each)
        if wishes.tokens_per_second is not None and pace < wishes.tokens_per_second:
            short = wishes.tokens_per_second - pace
            detail = f"streams {pace:.1f} tokens/s, {short:.1f} short of {wishes.tokens_per_second:g}"
            yield Miss("tokens_per_second", detail, short / pace)
        if wishes.p95_latency_seconds is not None:
            latency, why = replica.latency_seconds(each, tail), ""
            if cold_fraction > COLD_TAIL:
                latency += way.cold_start_seconds
                why = f", because {cold_fraction:.1%} of the requests wait for a machine to start"
            over = latency - wishes.p95_latency_seconds
            if over > 0:
                detail = f"95 % of the answers take up to {latency:.2f} s, {over:.2f} s over "
                detail += f"{wishes.p95_latency_seconds:g}{why}"
                yield Miss("p95_latency_seconds", detail, over / wishes.p95_latency_seconds)
        if replicas > MAX_REPLICAS:
            detail = f"takes {replicas} replicas, {replicas - MAX_REPLICAS} over the limit of {MAX_REPLICAS}"
            yield Miss("replicas", detail, replicas / MAX_REPLICAS - 1)

    def _option(self, way: Way, service: Service) -> Option:
        cost, budget = way.usd_per_month(self._spec.traffic), self._spec.budget_usd_per_month
        misses = service.misses
        if budget is not None and cost > budget:
            detail = f"costs {usd(cost)} a month, {usd(cost - budget)} over {usd(budget)}"
            misses = (*misses, Miss("budget_usd_per_month", detail, cost / budget - 1))
        return Option(way, service, cost, cost / self._tokens_per_month * 1e6, misses)


def _best_first(option: Option) -> tuple[int, float, float, int, str]:
    """Whoever keeps the wishes, or misses the fewest; then the cheapest."""
    cost, price = option.way.weight * option.usd_per_month, option.offer.price_usd_per_hour
    return len(option.misses), cost, price, KINDS.index(option.kind), option.offer.key


def _best_of_kind(option: Option) -> tuple[int, float, float, float, int, str]:
    """As above, but nobody knows where a running base runs: it is taken to be the cheapest machine that is fast enough.

    Its own owner chose it, for other traffic; a better machine would make the adapter look cheaper than it may be.
    """
    best_first = _best_first(option)
    if option.kind != "adapter":
        return best_first[0], 0.0, *best_first[1:]
    too_slow = sum(miss.wish in ("tokens_per_second", "p95_latency_seconds") for miss in option.misses)
    return too_slow, option.offer.price_usd_per_hour, *best_first[1:]


def _closest_first(option: Option) -> tuple[float, int, float, float, int, str]:
    """Whoever misses its wishes by less, all together."""
    return sum(miss.by for miss in option.misses), *_best_first(option)


def _with_alternatives(option: Option, meeting: Sequence[Option]) -> Option:
    """Where else its replicas may go: capacity that is not to be had in one place may be in another."""
    best = sorted((one for one in meeting if one.offer != option.offer), key=_best_of_kind)
    return replace(option, alternatives=tuple(one.offer for one in best[:MAX_ALTERNATIVES]))


def _with_break_even(ranked: Sequence[Option], traffic: Traffic) -> tuple[Option, ...]:
    """Each option against the choice, and the choice against the next."""
    chosen = ranked[0]
    crossings = [serving_costs.break_even(each.way, chosen.way, traffic) for each in ranked[1:]]
    of_chosen = crossings[0] if crossings else 0.0
    return tuple(
        replace(each, break_even_requests_per_day=crossing)
        for each, crossing in zip(ranked, [of_chosen, *crossings], strict=True)
    )
