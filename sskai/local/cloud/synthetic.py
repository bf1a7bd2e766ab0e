"""A spot market without a record: each zone has capacity for a while and then has none, some of it together, and
prices rise and fall with the day. The same words and the same zone's name give the same market, everywhere."""

from __future__ import annotations

import math
import random
import re
from dataclasses import dataclass, field, fields
from typing import Any

from sskai.local.cloud.records import Trace

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
TICKS_PER_RUN = 10  # so that a run of mean length is seen well
SHORTEST_GAP_SECONDS, LONGEST_GAP_SECONDS = 10.0, 300.0
PRICE_NOISE = 0.03
MAX_ZONES_KEPT = 1_000


@dataclass(frozen=True)
class Synthetic:
    """What the market is like. Capacity comes and goes with constant hazards, so runs are geometric with these means.

    `correlation`: the share of ticks in which all zones draw the same lot, and so fall or rise together; `instances`:
    on offer in a zone that has capacity; `price_swing`: how far a day's highest price is above its mean; `days`: after
    so many it begins again.
    """

    mean_up: float = 2 * 3600.0  # seconds, as `mean_down`
    mean_down: float = 1800.0
    seed: int = 0
    correlation: float = 0.3
    instances: int = 4
    price_swing: float = 0.2
    days: float = 14.0
    _made: dict[str, Trace] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def parse(cls, text: str) -> Synthetic:
        """`mean_up=2h,mean_down=30m,seed=7`. Raises ValueError that names the word and what it should be."""
        values: dict[str, Any] = {}
        for part in filter(None, map(str.strip, text.split(","))):
            name, _, value = part.partition("=")
            if name not in _READERS:
                raise ValueError(f"SSKAI_MARKET_SYNTHETIC: {part!r} is unknown; there are {', '.join(_READERS)}")
            try:
                values[name] = _READERS[name](value)
            except ValueError as error:
                raise ValueError(f"SSKAI_MARKET_SYNTHETIC: {part!r}: {error}") from error
        return cls(**values)

    @property
    def gap_seconds(self) -> float:
        """Fine enough for the shorter of the two runs."""
        wanted = min(self.mean_up, self.mean_down) / TICKS_PER_RUN
        return min(max(wanted, SHORTEST_GAP_SECONDS), LONGEST_GAP_SECONDS)

    def trace(self, zone: str) -> Trace:
        """The zone's record, made at the first question."""
        if zone not in self._made:
            if len(self._made) >= MAX_ZONES_KEPT:
                self._made.clear()
            self._made[zone] = self._make(zone)
        return self._made[zone]

    def _make(self, zone: str) -> Trace:
        gap = self.gap_seconds
        ticks = max(1, round(self.days * 86_400 / gap))
        shared, own = random.Random(f"{self.seed}"), random.Random(f"{self.seed}/{zone}")
        falls, rises = 1 - math.exp(-gap / self.mean_up), 1 - math.exp(-gap / self.mean_down)
        up = own.random() < self.mean_up / (self.mean_up + self.mean_down)
        phase, noise = own.uniform(-2, 2), 0.0  # hours that this zone's day is early or late
        available: list[int] = []
        prices: list[float] = []
        for tick in range(ticks):
            # Both are drawn at every tick, so that zones stay in step with what they share.
            together, common, alone = shared.random() < self.correlation, shared.random(), own.random()
            lot = common if together else alone
            up = lot >= falls if up else lot > 1 - rises
            available.append(self.instances if up else 0)
            hour = int(tick * gap // 3600)
            if not prices or hour != int((tick - 1) * gap // 3600):
                noise = own.uniform(-PRICE_NOISE, PRICE_NOISE)
            # Dearest in the afternoon: offices are open then.
            day = math.sin(2 * math.pi * (hour - 9 + phase) / 24)
            prices.append(round(1 + self.price_swing * day + noise, 3))
        return Trace(gap, tuple(available), tuple(prices))


def seconds(text: str) -> float:
    """`30m` as seconds. Raises ValueError."""
    match = _DURATION.fullmatch(text)
    if match is None or float(match[1]) == 0:
        raise ValueError("it should be a duration such as 90s, 30m, 2h or 1d")
    return float(match[1]) * _UNITS[match[2]]


def _whole(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise ValueError("it should be a whole number")
    return int(text)


def _instances(text: str) -> int:
    number = _whole(text)
    if not 1 <= number <= 1000:
        raise ValueError("it should be a whole number between 1 and 1000")
    return number


def _days(text: str) -> float:
    number = float(text)
    if not 0 < number <= 60:
        raise ValueError("it should be more than 0 and at most 60")
    return number


def _share(text: str) -> float:
    number = float(text)
    if not 0 <= number <= 0.9:
        raise ValueError("it should be between 0 and 0.9")
    return number


_READERS: dict[str, Any] = {
    "mean_up": seconds,
    "mean_down": seconds,
    "seed": _whole,
    "correlation": _share,
    "instances": _instances,
    "price_swing": _share,
    "days": _days,
}
assert set(_READERS) == {each.name for each in fields(Synthetic) if each.init and not each.name.startswith("_")}
