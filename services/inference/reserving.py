"""Money that an endpoint's replicas reserve before they spend it, where a budget stops what passes it. Pure.

The monitor keeps the accounts of budgets. A set of replicas spends no more than it was granted: it asks for an hour of
what it runs in advance, launches nothing that the grant does not bear, and drains before the grant is spent.
"""

from __future__ import annotations

from dataclasses import dataclass

from sskai.cluster.metering import interval_nano_usd

# An answer takes a second; a broker that is away for a minute stops nobody.
ANSWER_SECONDS = 60.0
AHEAD_SECONDS = 3600.0
LATE_SECONDS = 10.0  # by which a turn, or the end of a machine, may come late


@dataclass(frozen=True, slots=True)
class Purse:
    """What was granted in all (None: never asked), what the ledger was told, and whether a request stands open."""

    limit_nano_usd: int | None
    spent_nano_usd: int
    asking: bool = False

    @property
    def left(self) -> int:
        return (self.limit_nano_usd or 0) - self.spent_nano_usd


@dataclass(frozen=True, slots=True)
class Terms:
    """How late money is known: seconds between rows, and from the word to drain to the end of a machine."""

    metering_seconds: float
    drain_seconds: float

    @property
    def stretch_seconds(self) -> float:
        """Until a request is answered, noticed, and what runs has drained."""
        return 2 * self.metering_seconds + self.drain_seconds + ANSWER_SECONDS


@dataclass(frozen=True, slots=True)
class Verdict:
    """`ask`: (at least, wanted) to have spent in all; None: nothing."""

    may_launch: bool = True
    must_stop: bool = False
    ask: tuple[int, int] | None = None


def look(purse: Purse, running_usd_per_hour: float, new_usd_per_hour: float, terms: Terms) -> Verdict:
    """What the purse bears of replicas that run and of those that would be launched."""
    price = running_usd_per_hour + new_usd_per_hour
    if price <= 0:
        return Verdict()
    needed = interval_nano_usd(price, terms.stretch_seconds)
    soon = interval_nano_usd(price, 2 * terms.metering_seconds)
    ask = None
    if not purse.asking and (purse.limit_nano_usd is None or purse.left < needed + soon):
        wanted = purse.spent_nano_usd + needed + interval_nano_usd(price, AHEAD_SECONDS)
        ask = purse.spent_nano_usd + needed + soon, wanted
    last = interval_nano_usd(running_usd_per_hour, 2 * terms.metering_seconds + terms.drain_seconds + LATE_SECONDS)
    return Verdict(
        may_launch=purse.limit_nano_usd is not None and purse.left >= needed,
        # Not before the first answer: the budget may just have been set.
        must_stop=running_usd_per_hour > 0 and purse.limit_nano_usd is not None and purse.left <= last,
        ask=ask,
    )
