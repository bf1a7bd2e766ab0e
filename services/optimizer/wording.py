"""Decisions in sentences: why this placement, or which constraint stands in the way and what to do. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from services.optimizer import prices
from services.optimizer.values import STAGES, Candidate, Refusal, Rejection
from services.optimizer.work import Request, Work

ADVICE = {
    "not-offered": "Ask for instance_types that this installation offers, or widen its SSKAI_OFFERED_INSTANCE_TYPES.",
    "resources": "Loosen resources: fewer constraints on accelerators, cpus, memory, regions or instance_types.",
    "max-price": "Raise max_price, or leave it out: budget.total_usd limits the whole job.",
    "checkpoints": "Let checkpoint.interval be auto or a number of steps, or ask for spot_policy on-demand.",
    "memory": "Choose a smaller model, a shorter sequence_length, or machines with more memory or more accelerators.",
    "deadline": "Give a later deadline, fewer n_epochs or max_steps, or allow faster machines and spot_policy auto.",
    "budget": "Raise budget.total_usd, or train less: fewer n_epochs, max_steps, or a smaller model.",
}
# What the contract calls them; the rest is called by its own name.
REFUSED_FOR = {"not-offered": "resources", "max-price": "resources", "checkpoints": "resources"}


def refusal(rejected: Sequence[Rejection], request: Request) -> Refusal:
    """The constraint that binds is the last one that any offer reached; told by the offer that came closest to it."""
    if not rejected:
        return Refusal(
            "resources",
            f"the catalogue has no offer at all for spot_policy {request.spot_policy!r}",
            "Use spot_policy auto.",
        )
    binding = max((rejection.misfit.reason for rejection in rejected), key=STAGES.index)
    of_it = [rejection for rejection in rejected if rejection.misfit.reason == binding]
    closest = min(of_it, key=lambda each: (each.misfit.shortfall, each.offer.price_usd_per_hour, each.offer.key))
    others = len(rejected) - len(of_it)
    detail = f"{len(of_it)} of {len(rejected)} offers fail at {binding}; the closest, {closest.offer.key}: "
    detail += closest.misfit.detail
    if others:
        earlier = sorted({each.misfit.reason for each in rejected} - {binding}, key=STAGES.index)
        detail += f" ({others} others are out for {', '.join(earlier)})"
    return Refusal(REFUSED_FOR.get(binding, binding), detail, ADVICE[binding])


def explanation(request: Request, ranked: Sequence[Candidate], work: Work, now: datetime, stale_seconds: float) -> str:
    """One paragraph: the choice, what it costs and saves, how old the price is, and how each "auto" was resolved."""
    best = ranked[0]
    offer, done = best.offer, best.completion
    count = f"{best.pace.machines} x " if best.pace.machines > 1 else ""
    text = (
        f"{count}{offer.instance_type} {offer.capacity_type} in {_place(offer.region, offer.zone)} at "
        f"{offer.price_usd_per_hour:g} USD/h is the {request.objective} of {len(ranked)} placements that fit: "
        f"{work.steps_left} steps in about {duration(done.hours.expected * 3600)} for about "
        f"{usd(best.total_usd.expected)}"
    )
    if best.pace.checkpointing:
        text += ", with gradient checkpointing"
    if best.pace.shard:
        text += f", the model split over {best.pace.workers} accelerators"
    on_demand = [each for each in ranked if each.offer.capacity_type == "on-demand"]
    if on_demand and offer.capacity_type == "spot":
        reference = min(on_demand, key=lambda each: (each.total_usd.expected, each.offer.key))
        saving = 1 - best.total_usd.expected / reference.total_usd.expected
        if saving > 0:
            text += (
                f", {saving:.0%} below the cheapest on-demand placement "
                f"({reference.offer.instance_type}, {usd(reference.total_usd.expected)})"
            )
    age_seconds = (now - datetime.fromisoformat(offer.price_as_of)).total_seconds()
    stale = f" ({duration(age_seconds)} old)" if prices.is_stale(offer, now, stale_seconds) else ""
    text += f". Price: {offer.price_source}, {offer.price_as_of[:10]}{stale}."
    if work.reasons:
        text += " Resolved: " + "; ".join(work.reasons) + "."
    return text


def usd(amount: float) -> str:
    """Dollars and cents, or three digits of less than a dollar."""
    return f"{amount:.2f} USD" if amount >= 0.995 else f"{amount:.3g} USD"


def duration(seconds: float) -> str:
    """Seconds, minutes, hours or days: whichever a person would say."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86400:.0f} days"


def _place(region: str, zone: str) -> str:
    return region if zone == "*" else zone
