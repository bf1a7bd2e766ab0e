"""The newest price per offer: the catalogue's, replaced by what was observed since. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from services.optimizer.catalogue import Catalogue
from services.optimizer.values import Offer

# A typing error or an attack, not a market: spot has never cost ten times the list price.
MAX_TIMES_ON_DEMAND = 10
MAX_AHEAD = timedelta(minutes=5)  # of our clock


@dataclass(frozen=True, slots=True)
class Observed:
    """A price that somebody told."""

    price_usd_per_hour: float
    observed_at: datetime
    source: str


def verdict(known: Offer | None, observed: Observed, newest: Observed | None, now: datetime) -> str:
    """ "accepted", or why an observation is ignored: one word, for the metric."""
    price = observed.price_usd_per_hour
    if known is None:
        return "unknown-offer"
    if not math.isfinite(price) or price <= 0:
        return "not-a-price"
    if price > MAX_TIMES_ON_DEMAND * known.on_demand_price_usd_per_hour:
        return "implausible"
    if observed.observed_at > now + MAX_AHEAD:
        return "from-the-future"
    if newest is not None and observed.observed_at <= newest.observed_at:
        return "outdated"
    return "accepted"


def is_stale(offer: Offer, now: datetime, stale_seconds: float = 3600.0) -> bool:
    """Whether the price is older than can be trusted: an hour for spot, ninety days for on demand."""
    age_seconds = (now - datetime.fromisoformat(offer.price_as_of)).total_seconds()
    return age_seconds > (stale_seconds if offer.capacity_type == "spot" else 90 * 86_400.0)


def current(catalogue: Catalogue, observed: Mapping[str, Observed]) -> tuple[Offer, ...]:
    """Every offer of the catalogue at its newest price."""
    return tuple(
        offer if (seen := observed.get(offer.key)) is None else _repriced(offer, seen) for offer in catalogue.offers
    )


def _repriced(offer: Offer, seen: Observed) -> Offer:
    on_demand = offer.on_demand_price_usd_per_hour
    return replace(
        offer,
        price_usd_per_hour=seen.price_usd_per_hour,
        on_demand_price_usd_per_hour=seen.price_usd_per_hour if offer.capacity_type == "on-demand" else on_demand,
        price_as_of=seen.observed_at.isoformat(),
        price_source=seen.source,
    )
