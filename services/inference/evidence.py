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
    one, other = wilson(first * count, count, z), wilson(second * count, count, z)
    difference = first - second
    low = math.hypot(first - one.low, other.high - second)
    high = math.hypot(one.high - first, second - other.low)
    return Interval(difference - low, difference + high)


def mean_difference(first: float, second: float, standard_error: float, z: float) -> Interval:
    """An interval of `first - second`, two means, by the standard error of their difference.

    Welch (1947): sqrt(s1^2 / n1 + s2^2 / n2), or that of the paired differences. With samples of hundreds his t
    distribution is the normal one.
    """
    return Interval(first - second - z * standard_error, first - second + z * standard_error)
