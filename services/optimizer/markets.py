"""The market of a moment: the catalogue at the prices that were observed, shared by everybody who decides on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from services.optimizer import catalogue, prices
from services.optimizer.prices import Observed
from services.optimizer.snapshot import Market
from services.optimizer.store import Store


class KnowsMarket(Protocol):
    """The market as planners see it."""

    async def at(self, store: Store, now: datetime) -> Market: ...


@dataclass
class Markets:
    """The same object as before while no price changed: its text and hash are costly."""

    _observed: Mapping[str, Observed] | None = field(default=None, init=False)
    _market: Market | None = field(default=None, init=False)

    async def at(self, store: Store, _now: datetime) -> Market:
        observed = await store.observed_prices()
        if self._market is None or observed != self._observed:
            known = catalogue.snapshot()
            self._market = Market(known.machines, prices.current(known, observed))
            self._observed = observed
        return self._market
