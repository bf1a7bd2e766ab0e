"""How sure a comparison is: bounds that hold however often one looks, and intervals of a single look. No I/O."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

_HALVINGS = 60  # of an interval inside [0, 1]: down to a float's own precision


@dataclass(frozen=True, slots=True)
class Interval:
    low: float
    high: float


def bounds(total: float, count: int, alpha: float) -> Interval:
    """A confidence sequence for the mean of values of [0, 1] of which `count` were seen, `total` in sum.

    With probability 1 - `alpha` it holds the mean at every count at once, so a loop may look at it after every request
    and act on what it sees. It is the set of means m whose beta-binomial mixture e-value, with the uniform prior
    B(total + 1, count - total + 1) / (m^total (1 - m)^(count - total)), is below 1 / alpha (Ville's inequality).
    Robbins, "Statistical methods related to the law of the iterated logarithm" (1970); Howard et al., "Time-uniform,
    nonparametric, nonasymptotic confidence sequences" (2021), proposition 7. It is valid for all values of [0, 1], not
    only for 0 and 1, because exp(a x) <= 1 - x + x exp(a) there.
    """
    if count == 0:
        return Interval(0.0, 1.0)
    mixture = math.lgamma(total + 1) + math.lgamma(count - total + 1) - math.lgamma(count + 2)
    limit = math.log(1 / alpha)
    mean = total / count

    def excluded(candidate: float) -> bool:
        return mixture - _log_likelihood(total, count, candidate) >= limit

    return Interval(_edge(mean, 0.0, excluded), _edge(mean, 1.0, excluded))


def _log_likelihood(total: float, count: int, mean: float) -> float:
    low = total * math.log(mean) if total > 0 else 0.0
    high = (count - total) * math.log1p(-mean) if total < count else 0.0
    return low + high


def _edge(inside: float, outside: float, excluded: Callable[[float], bool]) -> float:
    """The border between `inside`, the mean seen, and `outside`, 0 or 1: the e-value rises on the way, so halve."""
    if inside == outside:
        return outside
    for _ in range(_HALVINGS):
        middle = (inside + outside) / 2
        if not 0.0 < middle < 1.0:
            break
        inside, outside = (inside, middle) if excluded(middle) else (middle, outside)
    return outside


def wilson(total: float, count: int, z: float) -> Interval:
    """Wilson's score interval of a proportion (1927), of one look; `z`: 1.96 for 95 %, two-sided."""
    if count == 0:
        return Interval(0.0, 1.0)
    mean, square = total / count, z * z
    centre = (mean + square / (2 * count)) / (1 + square / count)
    half = z / (1 + square / count) * math.sqrt(mean * (1 - mean) / count + square / (4 * count * count))
    return Interval(max(0.0, centre - half), min(1.0, centre + half))


def proportion_difference(first: float, second: float, count: int, z: float) -> Interval:
    """An interval of `first - second`, two proportions of `count` each.

    Newcombe, "Interval estimation for the difference between independent proportions" (1998), method 10: from Wilson's
    intervals of both. Of answers to the same questions it is wider than it needs to be.
    """
    return _difference((first * count, count), (second * count, count), z)[1]


def student(z: float, degrees: int) -> float:
    """The quantile of Student's t distribution where the normal one has `z`: a held-out split has tens of rows, not
    hundreds, and 1.96 of a few is too sure. Infinite below 2 degrees, where the series says nothing.

    Abramowitz and Stegun, "Handbook of Mathematical Functions" (1964), 26.7.5; within 1 % from 4 degrees on for 95 %.
    """
    if degrees < 2:
        return math.inf
    terms: tuple[float, ...] = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return z + math.fsum(term / degrees**power for power, term in enumerate(terms, start=1))


def win_rate(champion: tuple[float, int], canary: tuple[float, int], z: float) -> tuple[float, Interval] | None:
    """How often an answer of the canary is liked better than one of the champion, a tie counting half, and its
    interval of one look. Each side: the sum of scores of [0, 1], and their number. None: one was never scored.

    Of thumbs up and down P(better) + P(equal) / 2 is exactly (1 + p - q) / 2 with the shares p and q of those that are
    up; of finer scores it is the same with their means, a net preference. By Newcombe's interval of p - q.
    """
    if not champion[1] or not canary[1]:
        return None
    difference, found = _difference(canary, champion, z)
    return (1 + difference) / 2, Interval((1 + found.low) / 2, (1 + found.high) / 2)


def _difference(first: tuple[float, int], second: tuple[float, int], z: float) -> tuple[float, Interval]:
    """Of two proportions, (sum, count) each, and Newcombe's interval of it."""
    one, other = wilson(*first, z), wilson(*second, z)
    share, reference = first[0] / first[1], second[0] / second[1]
    low = math.hypot(share - one.low, other.high - reference)
    high = math.hypot(one.high - share, reference - other.low)
    return share - reference, Interval(share - reference - low, share - reference + high)


def mean_difference(first: float, second: float, standard_error: float, z: float) -> Interval:
    """An interval of `first - second`, two means, by the standard error of their difference: Welch's (1947),
    sqrt(s1^2 / n1 + s2^2 / n2), or that of paired differences. `z`: the quantile, see `student`.
    """
    return Interval(first - second - z * standard_error, first - second + z * standard_error)
