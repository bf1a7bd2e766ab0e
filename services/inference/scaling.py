"""How many replicas an endpoint should have, by what they have to do. Pure: the clock is an argument.

Up as soon as the load has been there for seconds, by as many as it needs; down one at a time, when what is left would
still be half idle for minutes. Between the two lies a band in which nothing changes, so that a replica that comes or
goes never calls for the opposite.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

# Of what a replica can do: above the first there should be more, and below the second there may be fewer.
FULL, SLACK = 0.8, 0.5
# A replica takes a minute or more to come: what was ordered must be there before it is judged to be too little.
UP_SECONDS, UP_COOLDOWN_SECONDS = 3.0, 15.0
DOWN_SECONDS, DOWN_COOLDOWN_SECONDS = 120.0, 60.0


@dataclass(frozen=True, slots=True)
class Rules:
    """`sequences`: how many answers a replica draws at a time. `tokens_per_second`: what it gives at most; 0: any."""

    minimum: int
    maximum: int
    sequences: int
    tokens_per_second: float = 0.0
    idle_seconds: float = 300.0  # before the last one goes, where none is needed while nobody asks
    up_seconds: float = UP_SECONDS
    up_cooldown_seconds: float = UP_COOLDOWN_SECONDS
    down_seconds: float = DOWN_SECONDS
    down_cooldown_seconds: float = DOWN_COOLDOWN_SECONDS


@dataclass(frozen=True, slots=True)
class Load:
    """Of all ready replicas together. `asked_at`: when somebody came last and found none."""

    active: int = 0
    waiting: int = 0
    tokens_per_second: float = 0.0
    asked_at: datetime | None = None

    @property
    def busy(self) -> bool:
        return bool(self.active or self.waiting or self.tokens_per_second)


@dataclass(frozen=True, slots=True)
class Scale:
    """What is wanted now, and since when the load has asked for something else."""

    wanted: int
    above_since: datetime | None = None
    below_since: datetime | None = None
    scaled_at: datetime | None = None
    busy_at: datetime | None = None


def total(loads: Iterable[Load], asked_at: datetime | None) -> Load:
    several = list(loads)
    return Load(
        sum(one.active for one in several),
        sum(one.waiting for one in several),
        sum(one.tokens_per_second for one in several),
        asked_at,
    )


def needed(load: Load, rules: Rules, share: float) -> int:
    """How many replicas do this load with that share of what they can do."""
    by_sequences = (load.active + load.waiting) / (rules.sequences * share)
    by_tokens = load.tokens_per_second / (rules.tokens_per_second * share) if rules.tokens_per_second else 0.0
    return math.ceil(max(by_sequences, by_tokens))


def advance(scale: Scale, load: Load, rules: Rules, now: datetime) -> Scale:
    """The next look at the load."""
    asked = load.asked_at is not None and (scale.busy_at is None or load.asked_at > scale.busy_at)
    if load.busy:
        scale = replace(scale, busy_at=now)
    elif asked:
        scale = replace(scale, busy_at=load.asked_at)
    least = max(rules.minimum, 0 if _idle(scale, rules, now) else 1)
    if not least <= scale.wanted <= rules.maximum:
        # The wish itself has changed, somebody woke it, or nobody has asked for long: no load to watch first.
        wanted = max(least, min(rules.maximum, scale.wanted))
        return replace(scale, wanted=wanted, above_since=None, below_since=None, scaled_at=now)
    more = min(rules.maximum, needed(load, rules, FULL))
    fewer = max(least, needed(load, rules, SLACK))
    if more > scale.wanted:
        since = scale.above_since or now
        if _for(since, now) >= rules.up_seconds and _for(scale.scaled_at, now) >= rules.up_cooldown_seconds:
            return replace(scale, wanted=more, above_since=None, below_since=None, scaled_at=now)
        return replace(scale, above_since=since, below_since=None)
    if least == 0 and scale.wanted > 0:
        return replace(scale, wanted=0, above_since=None, below_since=None, scaled_at=now)
    if fewer < scale.wanted:
        since = scale.below_since or now
        if _for(since, now) >= rules.down_seconds and _for(scale.scaled_at, now) >= rules.down_cooldown_seconds:
            return replace(scale, wanted=scale.wanted - 1, above_since=None, below_since=None, scaled_at=now)
        return replace(scale, above_since=None, below_since=since)
    return replace(scale, above_since=None, below_since=None)


def _idle(scale: Scale, rules: Rules, now: datetime) -> bool:
    """Nobody has asked for so long that the last one may go."""
    return _for(scale.busy_at, now) >= rules.idle_seconds


def _for(since: datetime | None, now: datetime) -> float:
    return math.inf if since is None else (now - since).total_seconds()
