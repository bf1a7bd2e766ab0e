"""Decisions about endpoints in sentences: why this one, or which wish stands in the way and what to do. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from services.optimizer import prices, serving_costs
from services.optimizer.serving_values import Option, Spec
from services.optimizer.values import Refusal, Rejection
from services.optimizer.wording import duration, usd

# What an offer fails at, in the order it is asked, and the contract's word for it.
STAGES = {"not-offered": "resources", "resources": "resources", "max-price": "resources", "memory": "memory"}
ADVICE = {
    "not-offered": "Ask for instance_types that this installation offers, or widen its SSKAI_OFFERED_INSTANCE_TYPES.",
    "resources": "Loosen resources: fewer constraints on accelerators, cpus, memory, regions or instance_types.",
    "max-price": "Raise max_price, or leave it out: budget_usd_per_month limits the whole endpoint.",
    "memory": "Choose a smaller model, shorter requests, or machines with more memory.",
    "tokens_per_second": "Ask for fewer tokens_per_second, choose a smaller model, or allow faster machines.",
    "p95_latency_seconds": "Allow a longer p95_latency_seconds, shorter answers, or faster machines.",
    "budget_usd_per_month": "Raise budget_usd_per_month, loosen the other wishes, or choose a smaller model.",
    "replicas": "Split the traffic over several endpoints, or allow larger machines.",
}
# A wish about time is the deadline of each answer.
REFUSED_FOR = {
    "tokens_per_second": "deadline",
    "p95_latency_seconds": "deadline",
    "budget_usd_per_month": "budget",
    "replicas": "resources",
}


def no_machine(rejected: Sequence[Rejection]) -> Refusal:
    """The constraint that binds is the last one that any offer reached; told by the offer that came closest to it."""
    if not rejected:
        return Refusal("resources", "the catalogue has no offer at all", "Ask the operator for a catalogue.")
    order = list(STAGES)
    binding = max((each.misfit.reason for each in rejected), key=order.index)
    of_it = [each for each in rejected if each.misfit.reason == binding]
    closest = min(of_it, key=lambda each: (each.misfit.shortfall, each.offer.price_usd_per_hour, each.offer.key))
    detail = f"{len(of_it)} of {len(rejected)} offers fail at {binding}; the closest, {closest.offer.key}: "
    return Refusal(STAGES[binding], detail + closest.misfit.detail, ADVICE[binding])


def no_way(closest: Option) -> Refusal:
    """No kind keeps every wish: told by the option that misses them by the least, and by its worst miss."""
    worst = max(closest.misses, key=lambda miss: miss.by)
    words = "; ".join(miss.detail for miss in closest.misses)
    text = f"no way of serving it keeps every wish; the closest, {_named(closest)}, {words}"
    return Refusal(REFUSED_FOR[worst.wish], text, ADVICE[worst.wish])


def detail(option: Option) -> str:
    """Which wishes an option misses and by how much, or what it rests on."""
    if option.misses:
        return "; ".join(miss.detail for miss in option.misses)
    way, service = option.way, option.service
    slots = way.replica.slots
    side_by_side = (
        f"up to {slots} answers side by side on each (SSKAI_MAX_CONCURRENT_SEQUENCES={slots}), "
        f"{way.replica.requests_per_second * way.replica.output_tokens:.0f} tokens/s in all"
    )
    if option.kind == "serverless":
        return (
            f"scales to zero after {duration(serving_costs.IDLE_SECONDS)} without a request, on demand; "
            f"{service.cold_fraction:.1%} of the requests wait {duration(way.cold_start_seconds)} for a machine; "
            f"{side_by_side}"
        )
    if option.kind == "spot":
        return (
            f"always warm; {_by_the_hour(2, option)}, {option.on_demand_floor} of them on demand; "
            f"{way.spare_share:.1%} spare of the others for interruptions; {side_by_side}"
        )
    if option.kind == "on-demand":
        return f"always warm, never taken away; {_by_the_hour(1, option)}; {side_by_side}"
    return (
        f"rests on the base running on {way.offer.instance_type} or better with {1 - serving_costs.BASE_TAKEN:.0%} of "
        f"what it bears free; up to {service.replicas - 1} further replicas; {side_by_side}"
    )


def explanation(spec: Spec, options: Sequence[Option], now: datetime, stale_seconds: float) -> str:
    """One paragraph: the choice, its cost, where the others would pay, and how old the price is."""
    chosen = options[0]
    text = (
        f"{_named(chosen)} at {chosen.offer.price_usd_per_hour:g} USD/h costs {usd(chosen.usd_per_month)} a month for "
        f"{_count(spec.requests_per_day)} requests a day ({usd(chosen.usd_per_million_tokens)} per million tokens), "
        f"the least of what keeps every wish: {detail(chosen)}."
    )
    for other in options[1:]:
        text += f" {_named(other).capitalize()} costs {usd(other.usd_per_month)}"
        crossing = other.break_even_requests_per_day
        text += f" and crosses it at {_count(crossing)} requests a day" if crossing else " and never crosses it"
        text += f", but {detail(other)}." if other.misses else "."
    if not spec.base_is_running:
        text += " No endpoint on this base runs, so an adapter on one is not offered."
    age_seconds = (now - datetime.fromisoformat(chosen.offer.price_as_of)).total_seconds()
    stale = f" ({duration(age_seconds)} old)" if prices.is_stale(chosen.offer, now, stale_seconds) else ""
    return f"{text} Price: {chosen.offer.price_source}, {chosen.offer.price_as_of[:10]}{stale}."


def _by_the_hour(least: int, option: Option) -> str:
    most = option.service.replicas
    return f"{least} to {most} replicas by the hour" if most > least else f"replicas: {most}"


def _count(requests: float) -> str:
    return f"{requests:,.0f}" if requests >= 10 else f"{requests:.2g}"


def _named(option: Option) -> str:
    offer = option.offer
    place = offer.region if offer.zone == "*" else offer.zone
    count = "" if option.kind == "adapter" else f"{option.service.replicas} x "
    return f"{option.kind} on {count}{offer.instance_type} in {place}"
