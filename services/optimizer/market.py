"""What can be rented at this moment, put together once per change and shared by the plans in between."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Protocol

from pydantic import TypeAdapter, ValidationError

from services.optimizer import catalogue, prices
from services.optimizer.catalogue import DESCRIBED, MEASURED, MachineFacts, ThisComputer
from services.optimizer.snapshot import Market
from services.optimizer.store import Store

_FACTS = TypeAdapter(MachineFacts)


class KnowsMarket(Protocol):
    """The market as planners see it."""

    async def at(self, store: Store, now: datetime) -> Market: ...


class LiveMarket:
    """The snapshot with live facts and prices in it, and this computer's machines where it plays some."""

    def __init__(self, local_machine_types: Sequence[str], price_stale_seconds: float) -> None:
        self._local_machine_types = local_machine_types
        self._stale_seconds = price_stale_seconds
        self._version: tuple[Any, ...] | None = None
        self._until: datetime | None = None
        self._market: Market | None = None

    async def at(self, store: Store, now: datetime) -> Market:
        """The same object as before while nothing changed and no price went stale: its text and hash are costly."""
        version = await store.market_version()
        outlived = self._until is not None and now > self._until
        if self._market is None or version != self._version or outlived:
            self._market = await self._build(store, now)
            self._version = version
        return self._market

    async def _build(self, store: Store, now: datetime) -> Market:
        observed, scores = await store.observed_prices(), await store.scores()
        described = (described_machine(each) for each in (await store.machine_facts(DESCRIBED)).values())
        known = catalogue.with_facts(catalogue.snapshot(), (each for each in described if each is not None))
        if self._local_machine_types:
            measured = (await store.machine_facts(MEASURED)).get(catalogue.THIS_COMPUTER)
            computer = None if measured is None else ThisComputer.of(measured)
            known = catalogue.with_this_computer(known, self._local_machine_types, computer)
        offers = prices.current(known, observed, now, scores=scores, stale_seconds=self._stale_seconds)
        self._until = prices.changes_at(observed, scores, now, self._stale_seconds)
        offered = {offer.instance_type for offer in offers}
        return Market({name: machine for name, machine in known.machines.items() if name in offered}, offers)


def described_machine(facts: dict[str, Any]) -> MachineFacts | None:
    """Facts as they were kept; None for what another version of this program kept otherwise."""
    try:
        return _FACTS.validate_python(facts)
    except ValidationError:
        return None
