"""What each of our price feeds does with the prices that it found: it tells those that are new, once, as anybody would.

They go out as `PriceObserved` and are stored when they come back (`handlers.note_price`), so that every subscriber sees
what the planner saw.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from services.optimizer import prices
from services.optimizer.messages import CAPACITY_TYPES
from services.optimizer.prices import Observed, OfferKey
from services.optimizer.settings import Settings
from sskai.contract import timestamp
from sskai.database import Database
from sskai.delivery import tell
from sskai.events import v1 as events

TOLD_AT_ONCE = 200


@dataclass
class Teller:
    """The voice of one feed."""

    database: Database
    settings: Settings
    # What went out and has not come back yet: told again only when it differs, however long the broker is away.
    _told: dict[str, Observed] = field(default_factory=dict, init=False)

    def newest(self, key: OfferKey, known: Mapping[str, Observed]) -> Observed | None:
        """Of what is known and what was told."""
        return max(filter(None, (known.get(key.text), self._told.get(key.text))), key=_observed_at, default=None)

    async def tell(self, found: Sequence[tuple[OfferKey, Observed]], known: Mapping[str, Observed]) -> int:
        """Tell what differs from the newest that is known, or is known for long; returns how many."""
        stale_seconds = self.settings.price_stale_seconds
        news = [
            (key, observed)
            for key, observed in found
            if prices.is_news(key, observed, self.newest(key, known), stale_seconds)
        ]
        for start in range(0, len(news), TOLD_AT_ONCE):
            batch = news[start : start + TOLD_AT_ONCE]
            async with self.database.transaction() as session:
                await tell(session, *(_price_observed(key, observed) for key, observed in batch))
            self._told |= {key.text: observed for key, observed in batch}
        return len(news)


def _observed_at(observed: Observed) -> datetime:
    return observed.observed_at


def _price_observed(key: OfferKey, observed: Observed) -> events.PriceObserved:
    return events.PriceObserved(
        offer=key.text,
        cloud=key.cloud,
        region=key.region,
        zone=key.zone,
        instance_type=key.instance_type,
        capacity_type=CAPACITY_TYPES[key.capacity_type],
        price_usd_per_hour=observed.price_usd_per_hour,
        source=observed.source,
        observed_at=timestamp(observed.observed_at),
    )
