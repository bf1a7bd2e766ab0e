"""The newest price per offer: the catalogue's, replaced by what was observed since. Pure.

An observed price also makes offers that the catalogue does not list: spot in a zone that it has no row for, and both
ways to pay for a type or in a region that it lacks, as soon as the machine and its on-demand price are known.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TypeAlias

from services.optimizer.catalogue import (
    CLOUD,
    LOCAL_CLOUD,
    LOCAL_PREFIX,
    Catalogue,
    list_prices,
    offers_by_key,
    playable,
    snapshot,
)
from services.optimizer.values import Offer

# A typing error or an attack, not a market: spot has never cost ten times the list price.
MAX_TIMES_ON_DEMAND = 10
# What a first on-demand price is held against; EC2's list ends at some hundred dollars an hour (p6-b200.48xlarge).
DEAREST_USD_PER_HOUR = 200.0
MAX_AHEAD = timedelta(minutes=5)  # of our clock

# Spot prices move every few minutes to hours; list prices a few times a year.
STALE_SECONDS = 3600.0
ON_DEMAND_STALE_SECONDS = 90 * 86_400.0
SCORE_SECONDS = 6 * 3600.0  # how long a placement score says anything

SPOT, ON_DEMAND = "spot", "on-demand"
EVERY_ZONE = "*"
# Zone ids as AWS gives them: use1-az1, apne2-az3. They begin with the two letters that their region begins with.
_ZONE_ID = re.compile(r"[a-z]{3,6}\d{1,2}-az\d{1,2}")

Place: TypeAlias = tuple[str, str, str]  # cloud, region, instance type: what has one on-demand price


@dataclass(frozen=True, slots=True)
class Observed:
    """A price that somebody told."""

    price_usd_per_hour: float
    observed_at: datetime
    source: str


@dataclass(frozen=True, slots=True)
class Score:
    """AWS's word on how likely spot is to be had in a zone, 1 to 10."""

    score: int
    seen_at: datetime


@dataclass(frozen=True, slots=True)
class OfferKey:
    """The parts of `Offer.key`."""

    cloud: str
    region: str
    zone: str
    instance_type: str
    capacity_type: str

    @classmethod
    def parse(cls, text: str) -> OfferKey | None:
        """None: no offer is called that."""
        parts = text.split("/")
        if len(parts) != 5 or not all(parts) or parts[4] not in (SPOT, ON_DEMAND):
            return None
        return cls(*parts)

    @property
    def text(self) -> str:
        return f"{self.cloud}/{self.region}/{self.zone}/{self.instance_type}/{self.capacity_type}"

    @property
    def place(self) -> Place:
        return self.cloud, self.region, self.instance_type

    @property
    def played(self) -> OfferKey:
        """AWS's offer behind one of this computer; any other is itself."""
        if self.cloud != LOCAL_CLOUD or not self.instance_type.startswith(LOCAL_PREFIX):
            return self
        return replace(self, cloud=CLOUD, instance_type=self.instance_type.removeprefix(LOCAL_PREFIX))

    @property
    def of_region(self) -> OfferKey:
        """The on-demand offer that has this machine's price for the whole region."""
        return replace(self, zone=EVERY_ZONE, capacity_type=ON_DEMAND)

    @property
    def in_a_zone(self) -> bool:
        return self.zone[:2] == self.region[:2] and _ZONE_ID.fullmatch(self.zone) is not None


def reference_usd_per_hour(key: OfferKey, *, told: Observed | None, described: bool) -> float | None:
    """The on-demand price that a price of this offer is held against. None: there is no such offer, and cannot be.

    Of the machine in this region (`key.played.of_region`), `told` is the newest on-demand price; `described`: by AWS.
    """
    real = key.played
    if real != key and not playable(real.instance_type):
        return None
    listed = offers_by_key().get(real.text)
    if listed is not None:
        return listed.on_demand_price_usd_per_hour
    if real.cloud != CLOUD or not (described or real.instance_type in snapshot().machines):
        return None
    usd = told.price_usd_per_hour if told is not None else list_prices().get((real.region, real.instance_type))
    if real.capacity_type == ON_DEMAND:
        return (usd or DEAREST_USD_PER_HOUR) if real.zone == EVERY_ZONE else None
    return usd if real.in_a_zone or real.zone == EVERY_ZONE else None


def verdict(reference: float | None, observed: Observed, newest: Observed | None, now: datetime) -> str:
    """ "accepted", or why an observation is ignored: one word, for the metric."""
    price = observed.price_usd_per_hour
    if reference is None:
        return "unknown-offer"
    if not math.isfinite(price) or price <= 0:
        return "not-a-price"
    if price > MAX_TIMES_ON_DEMAND * reference:
        return "implausible"
    if observed.observed_at > now + MAX_AHEAD:
        return "from-the-future"
    if newest is not None and observed.observed_at <= newest.observed_at:
        return "outdated"
    return "accepted"


def is_news(key: OfferKey, observed: Observed, newest: Observed | None, stale_seconds: float) -> bool:
    """Whether a price is worth telling: it differs, or what is known is half-way to being stale."""
    if newest is None or newest.price_usd_per_hour != observed.price_usd_per_hour:
        return True
    age_seconds = (observed.observed_at - newest.observed_at).total_seconds()
    return age_seconds > _lifetime_seconds(key.capacity_type, stale_seconds) / 2


def is_stale(offer: Offer, now: datetime, stale_seconds: float = STALE_SECONDS) -> bool:
    """Whether the price is older than can be trusted: an hour for spot, ninety days for on demand."""
    age_seconds = (now - datetime.fromisoformat(offer.price_as_of)).total_seconds()
    return age_seconds > _lifetime_seconds(offer.capacity_type, stale_seconds)


def _lifetime_seconds(capacity_type: str, stale_seconds: float) -> float:
    return stale_seconds if capacity_type == SPOT else ON_DEMAND_STALE_SECONDS


def current(
    known: Catalogue,
    observed: Mapping[str, Observed],
    now: datetime,
    *,
    scores: Mapping[str, Score] | None = None,
    stale_seconds: float = STALE_SECONDS,
) -> tuple[Offer, ...]:
    """Every offer at its newest price: the catalogue's in its order, then those that observed prices make.

    The price of a whole region's spot is a mean over its zones: it is left out where a zone's own price is fresh and it
    is not fresh itself.
    """
    seen = _seen(known, observed)
    on_demand: dict[Place, Observed] = {}
    for key, each in seen.items():
        if key.capacity_type == ON_DEMAND:
            newest = on_demand.get(key.place)
            on_demand[key.place] = each if newest is None or newest.observed_at < each.observed_at else newest
    by_text = {key.text: each for key, each in seen.items()}
    offers = [_repriced(offer, by_text.get(offer.key), on_demand.get(_place(offer))) for offer in known.offers]
    offers += _made(known, offers, seen, on_demand)
    fresh_zones = {
        _place(offer)
        for offer in offers
        if offer.capacity_type == SPOT and offer.zone != EVERY_ZONE and not is_stale(offer, now, stale_seconds)
    }
    return tuple(
        _scored(offer, scores or {}, now)
        for offer in offers
        if offer.capacity_type != SPOT
        or offer.zone != EVERY_ZONE
        or _place(offer) not in fresh_zones
        or not is_stale(offer, now, stale_seconds)
    )


def changes_at(
    observed: Mapping[str, Observed], scores: Mapping[str, Score], now: datetime, stale_seconds: float
) -> datetime | None:
    """The last moment at which `current` still answers as it does now; None: for ever, as long as nothing is told."""
    lifetimes = [(each.observed_at, stale_seconds) for key, each in observed.items() if key.endswith(f"/{SPOT}")]
    lifetimes += [(each.seen_at, SCORE_SECONDS) for each in scores.values()]
    ends = (moment + timedelta(seconds=seconds) for moment, seconds in lifetimes)
    return min((end for end in ends if end >= now), default=None)


def _seen(known: Catalogue, observed: Mapping[str, Observed]) -> dict[OfferKey, Observed]:
    """By parsed key, in the keys' order, so that equal markets have equal hashes.

    What this computer plays costs what the played machine does, unless its own price is newer.
    """
    seen = {key: each for text, each in observed.items() if (key := OfferKey.parse(text)) is not None}
    for name, played in known.plays.items():
        for key in [key for key in seen if key.cloud == CLOUD and key.instance_type == played]:
            ours = replace(key, cloud=LOCAL_CLOUD, instance_type=name)
            own = seen.get(ours)
            if own is None or own.observed_at < seen[key].observed_at:
                seen[ours] = seen[key]
    return {key: seen[key] for key in sorted(seen, key=_text)}


def _made(
    known: Catalogue, listed: Sequence[Offer], seen: Mapping[OfferKey, Observed], on_demand: Mapping[Place, Observed]
) -> Iterator[Offer]:
    """The offers that no row lists. What nobody lists has the band of its place's spot."""
    keys = {offer.key for offer in listed}
    usd = {_place(offer): offer.on_demand_price_usd_per_hour for offer in listed}
    payable = {_place(offer) for offer in listed if offer.capacity_type == ON_DEMAND}
    bands = {
        _place(offer): offer.interruption_band
        for offer in listed
        if offer.capacity_type == SPOT and offer.interruption_band is not None
    }
    usd |= {place: each.price_usd_per_hour for place, each in on_demand.items()}
    for key, each in seen.items():
        cloud = LOCAL_CLOUD if key.instance_type in known.plays else CLOUD
        if key.text in keys or key.instance_type not in known.machines or key.cloud != cloud or key.place not in usd:
            continue
        if key.capacity_type == ON_DEMAND and (key.place in payable or key.zone != EVERY_ZONE):
            continue
        yield Offer(
            cloud=key.cloud,
            region=key.region,
            zone=key.zone,
            instance_type=key.instance_type,
            capacity_type=key.capacity_type,
            price_usd_per_hour=each.price_usd_per_hour,
            on_demand_price_usd_per_hour=usd[key.place],
            interruption_band=bands.get(key.place) if key.capacity_type == SPOT else None,
            price_as_of=each.observed_at.isoformat(),
            price_source=each.source,
        )


def _repriced(offer: Offer, own: Observed | None, on_demand: Observed | None) -> Offer:
    """At its own newest price; the on-demand price is the whole region's, whatever zone it was told of."""
    price = on_demand if offer.capacity_type == ON_DEMAND else own
    if on_demand is not None:
        offer = replace(offer, on_demand_price_usd_per_hour=on_demand.price_usd_per_hour)
    if price is None:
        return offer
    return replace(
        offer,
        price_usd_per_hour=price.price_usd_per_hour,
        price_as_of=price.observed_at.isoformat(),
        price_source=price.source,
    )


def _scored(offer: Offer, scores: Mapping[str, Score], now: datetime) -> Offer:
    score = scores.get(offer.key) if offer.capacity_type == SPOT and offer.cloud == CLOUD else None
    if score is None or (now - score.seen_at).total_seconds() > SCORE_SECONDS:
        return offer
    return replace(offer, placement_score=score.score)


def _text(key: OfferKey) -> str:
    return key.text


def _place(offer: Offer) -> Place:
    return offer.cloud, offer.region, offer.instance_type
