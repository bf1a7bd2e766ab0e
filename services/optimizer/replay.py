"""A stored decision made again from its snapshot, as it was made or as another policy would have made it. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from services.optimizer import domain, snapshot
from services.optimizer.snapshot import Inputs, Market
from services.optimizer.values import Candidate, Plan, Refusal
from services.optimizer.wording import duration, usd

# What a person takes who does not plan: one well-known machine, on demand.
NAIVE_TYPE = "g5.xlarge"

Outcome = Plan | Refusal
Policy = Callable[[Inputs, Market], Outcome]


@dataclass(frozen=True, slots=True)
class Decision:
    """A snapshot decided again."""

    inputs: Inputs
    market: Market
    outcome: Outcome


def decide(text: str, market_text: str, policy: str = "") -> Decision:
    """The decision of these texts, as it was made or as POLICIES[policy] would have made it.

    Raises ValueError where the texts do not belong together, cannot be read by this version, or name no policy.
    """
    if policy and policy not in POLICIES:
        raise ValueError(f"policy {policy!r} is not known; known are {', '.join(sorted(POLICIES))}")
    arguments = snapshot.thaw(text, market_text)
    market = Market(arguments["machines"], arguments["offers"])
    inputs = Inputs(*(arguments[name] for name in ("request", "profile", "assumptions", "now", "history")))
    return Decision(inputs, market, POLICIES[policy](inputs, market) if policy else _plan(inputs, market))


def differences(stored: Candidate | None, again: Candidate | None, policy: str) -> tuple[str, ...]:
    """What another policy takes, in words, beside what was taken. None: a refusal."""
    if again is None:
        return () if stored is None else (f"{policy} finds nothing that meets the constraints",)
    if stored is None:
        return (f"{policy} takes {_named(again)} where the plan was refused",)
    if stored.key == again.key:
        return ()
    hours = again.completion.hours.expected - stored.completion.hours.expected
    dollars = again.total_usd.expected - stored.total_usd.expected
    sooner = f"{duration(abs(hours) * 3600)} {'later' if hours > 0 else 'sooner'}"
    dearer = f"{usd(abs(dollars))} {'more' if dollars > 0 else 'less'}"
    return (
        f"{policy} takes {_named(again)} instead of {_named(stored)}: {sooner} for {dearer}",
        f"hours {stored.completion.hours.expected:.3g} -> {again.completion.hours.expected:.3g}",
        f"total {usd(stored.total_usd.expected)} -> {usd(again.total_usd.expected)}",
    )


def chosen(outcome: Outcome) -> Candidate | None:
    """What the outcome would launch."""
    return outcome.candidates[0] if isinstance(outcome, Plan) else None


def _named(candidate: Candidate) -> str:
    count = f"{candidate.pace.machines} x " if candidate.pace.machines > 1 else ""
    return f"{count}{candidate.offer.key}"


def _plan(inputs: Inputs, market: Market, **changes: Any) -> Outcome:
    offers = changes.pop("offers", market.offers)
    return domain.plan(
        replace(inputs.request, **changes),
        inputs.profile,
        machines=market.machines,
        offers=offers,
        assumptions=inputs.assumptions,
        now=inputs.now,
        history=inputs.history,
    )


def _cheapest_hour(inputs: Inputs, market: Market) -> Outcome:
    """By the price of the hour, as schedulers do that know no job: the first on the price list on which it runs."""
    for offer in sorted(market.offers, key=lambda each: (each.price_usd_per_hour, each.key)):
        outcome = _plan(inputs, market, offers=(offer,))
        if isinstance(outcome, Plan):
            return outcome
    return _plan(inputs, market)


def _naive(inputs: Inputs, market: Market) -> Outcome:
    return _plan(inputs, market, instance_types=(NAIVE_TYPE,), spot_policy="on-demand", objective="cheapest")


POLICIES: dict[str, Policy] = {
    "cheapest": lambda inputs, market: _plan(inputs, market, objective="cheapest"),
    "fastest": lambda inputs, market: _plan(inputs, market, objective="fastest"),
    "spot": lambda inputs, market: _plan(inputs, market, spot_policy="spot"),
    "on-demand": lambda inputs, market: _plan(inputs, market, spot_policy="on-demand"),
    "cheapest-hour": _cheapest_hour,
    "naive": _naive,
}
