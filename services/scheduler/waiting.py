"""How long a waiting job will still wait, with an interval that is held to what happened. Pure; seconds from now.

Where the wait is for places, it is the remaining time of those that have them, then of those ahead. Where it is for the
market or for an answer, it is what past waits were like, given that it has lasted so long already (Kaplan-Meier, so
that waits which were given up count for as long as they lasted; a prior counts as ten waits). Either interval is then
stretched by two factors a rule, one a side, which follow the misses as they come (quantile tracking, Angelopoulos,
Candès and Tibshirani, NeurIPS 2023): in the long run 5 % of the starts come before it and 5 % after it, whatever the
market does.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from statistics import NormalDist

from services.scheduler.admission import Line
from services.scheduler.places import FAR_SECONDS, Span

# What the market or the optimizer lets go of, not another job's end.
MARKET_RULES = ("waiting-for-spot", "no-capacity")
LOW, MEDIAN, HIGH = 0.05, 0.5, 0.95

# (median seconds, spread as sigma of the logarithm) of waits before any was seen: a guess each, soon outweighed.
PRIORS: Mapping[str, tuple[float, float]] = {"no-plan": (5.0, 1.0), "waiting-for-spot": (600.0, 1.5)}
OTHER_PRIOR = (300.0, 1.5)
PRIOR_WAITS = 10
NEWEST_WAITS = 200  # of a kind that count: markets change

MAX_AHEAD = 500  # jobs ahead that are gone through one by one; of a longer line the rest is taken to be alike

STEP = 0.2  # of a factor's logarithm: one miss widens its side by 19 %, one hit narrows it by 1 %
MAX_LOG_FACTOR = 3.5
LEAST_RATIO = 1.2  # an interval is never narrower than this on either side before it is stretched
FURTHEST_SECONDS = FAR_SECONDS

RATE_SECONDS = 60.0  # between two tellings under one rule
MOVED_FRACTION = 0.25  # of what is left: less is not worth telling


@dataclass(frozen=True, slots=True)
class PastWait:
    """One wait; `ended` false: it was given up, or it is still going on."""

    seconds: float
    ended: bool = True


@dataclass(frozen=True, slots=True)
class Calibration:
    """Logarithms of the factors that an interval's two sides are stretched by."""

    low: float = 0.0
    high: float = 0.0


@dataclass(frozen=True, slots=True)
class Told:
    """What the user was last told: the rule, and the moments (None: nobody could say)."""

    rule: str
    at: datetime
    earliest: datetime | None = None
    expected: datetime | None = None
    latest: datetime | None = None


def in_line(line: Line) -> Span | None:
    """Until so many places are free for a job that stands in line; None: nobody can say."""

    def start(length: Callable[[Span], float]) -> float:
        free = line.limit - sum(count for count, _ in line.taken)
        ends = [(max(1.0, length(left)), count) for count, left in line.taken]
        heapq.heapify(ends)
        clock = 0.0
        shown = line.ahead[:MAX_AHEAD]
        for count, seconds in (*shown, (line.need, Span(0, 0, 0))):
            while free < count and ends:
                clock, freed = heapq.heappop(ends)
                free += freed
            if free < count:
                return FAR_SECONDS
            heapq.heappush(ends, (clock + max(1.0, length(seconds)), count))
            free -= count
        return clock * (len(line.ahead) + 1) / (len(shown) + 1)

    expected = start(lambda span: span.expected)
    if expected >= FAR_SECONDS:
        return None
    return _ordered(start(lambda span: span.low), expected, start(lambda span: span.high))


def of_past_waits(rule: str, past: Sequence[PastWait], waited_seconds: float) -> Span:
    """What is left of a wait that has lasted so long, from waits of its kind (newest first) and the rule's prior."""
    median, spread = PRIORS.get(rule, OTHER_PRIOR)
    normal = NormalDist(math.log(median), spread)
    prior = [PastWait(math.exp(normal.inv_cdf((rank + 0.5) / PRIOR_WAITS))) for rank in range(PRIOR_WAITS)]
    waits = [*past[:NEWEST_WAITS], *prior]
    low, expected, high = (_remaining(waits, waited_seconds, quantile) for quantile in (LOW, MEDIAN, HIGH))
    return _ordered(low, expected, high)


def _remaining(waits: Iterable[PastWait], waited: float, quantile: float) -> float:
    """When, from now, the Kaplan-Meier survival of those that lasted longer than `waited` falls to 1 - quantile."""
    later = sorted((wait for wait in waits if wait.seconds > waited), key=lambda wait: (wait.seconds, not wait.ended))
    survival = 1.0
    for index, wait in enumerate(later):
        if wait.ended:
            survival *= 1 - 1 / (len(later) - index)
        if survival <= 1 - quantile + 1e-9:
            return wait.seconds - waited
    # Longer than any: such waits have heavy tails, and one that has lasted t lasts longer than 2t in half of the cases.
    last = max(waited, later[-1].seconds if later else 1.0)
    return survival * last / (1 - quantile) - waited


def at_most(span: Span, seconds: float) -> Span:
    """Not later than another way is taken (on-demand machines once patience is over)."""
    limit = max(0.0, seconds)
    return Span(min(span.low, limit), min(span.expected, limit), min(span.high, limit))


def known(seconds: float) -> Span:
    """A wait whose end is set; starting takes a moment more."""
    return Span(max(0.0, seconds), max(0.0, seconds), max(0.0, seconds) * 1.05 + 5.0)


def stretched(span: Span, calibration: Calibration) -> Span:
    """The interval by its factors, which act on ratios: a wait may be twice as long, and never less than nothing."""
    middle = max(1.0, span.expected)
    down = max(LEAST_RATIO, middle / max(1e-3, span.low))
    up = max(LEAST_RATIO, span.high / middle)
    low = middle / _power(down, math.exp(calibration.low))
    high = middle * _power(up, math.exp(calibration.high))
    # Nobody looks more often than every second: less than that is now.
    return Span(low if low >= 1.0 else 0.0, span.expected, min(FURTHEST_SECONDS, high))


def covers(span: Span, actual_seconds: float) -> bool:
    return span.low <= actual_seconds <= span.high


def learned(calibration: Calibration, told: Span, actual_seconds: float) -> Calibration:
    """The factors after one prediction met its outcome."""
    low = calibration.low + STEP * ((actual_seconds < told.low) - LOW)
    high = calibration.high + STEP * ((actual_seconds > told.high) - (1 - HIGH))
    return replace(calibration, low=_bounded(low), high=_bounded(high))


def moments(now: datetime, span: Span | None) -> tuple[datetime, datetime, datetime] | None:
    """(earliest, expected, latest)."""
    if span is None:
        return None
    low, expected, high = (now + timedelta(seconds=seconds) for seconds in (span.low, span.expected, span.high))
    return low, expected, high


def worth_telling(told: Told | None, rule: str, expected: datetime | None, now: datetime) -> bool:
    """Another rule, or, not too often, another expectation."""
    if told is None or told.rule != rule:
        return True
    if (now - told.at).total_seconds() < RATE_SECONDS:
        return False
    if expected is None or told.expected is None:
        return expected is not told.expected
    if told.latest is not None and now > told.latest:
        return True
    moved = abs((expected - told.expected).total_seconds())
    return moved > max(RATE_SECONDS, MOVED_FRACTION * (expected - now).total_seconds())


def _power(ratio: float, exponent: float) -> float:
    return math.exp(min(30.0, exponent * math.log(ratio)))


def _ordered(low: float, expected: float, high: float) -> Span:
    return Span(min(low, expected), expected, max(expected, high))


def _bounded(value: float) -> float:
    return max(-MAX_LOG_FACTOR, min(MAX_LOG_FACTOR, value))
