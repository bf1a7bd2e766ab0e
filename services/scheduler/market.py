"""What was seen of each spot offer, as a belief about it now. Pure.

Offers are seen when a launch succeeds or is denied, while a machine of theirs runs, and when one is taken. Between two
sights the belief drifts to what is usual; a machine that runs says that its offer was up all the while.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from services.scheduler.availability import Model, Vector

# Of what runs one sight a minute is enough.
SIGHT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Sight:
    """The last sight of an offer: `belief` at `seen_at`, and what was seen."""

    belief: Vector
    seen_at: datetime
    available: bool


@dataclass(frozen=True, slots=True)
class Market:
    """Offers by name, as last seen."""

    model: Model
    sights: Mapping[str, Sight]

    def belief(self, offer: str, now: datetime) -> Vector:
        """What is believed of an offer at a moment."""
        sight = self.sights.get(offer)
        if sight is None:
            return self.model.stationary
        seconds = (now - sight.seen_at).total_seconds()
        return self.model.moved(sight.belief, seconds, now.hour if seconds <= 3600 else None)

    def chance_up(self, offer: str, now: datetime) -> float:
        """The probability that an offer has machines at a moment."""
        return float(self.belief(offer, now)[: self.model.ups].sum())

    def seen(self, offer: str, available: bool, now: datetime, *, all_the_while: bool = False) -> Sight | None:
        """The offer after a look; None: nothing new. `all_the_while`: what was seen then held until now (it runs)."""
        sight = self.sights.get(offer)
        if sight is not None:
            seconds = (now - sight.seen_at).total_seconds()
            if seconds < 0 or (seconds < SIGHT_SECONDS and sight.available == available):
                return None
            if all_the_while and sight.available == available:
                return Sight(self.model.stayed(sight.belief, seconds, available), now, available)
        return Sight(self.model.seen(self.belief(offer, now), available), now, available)
