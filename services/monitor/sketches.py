"""Durations in a few hundred counters that add up: OpenTelemetry's base-2 exponential histogram at one fixed scale.

Bucket i counts the durations in (BASE^i, BASE^(i+1)], BASE = 2^(2^-SCALE). Histograms merge by adding
their counts, so minutes make hours and replicas make a service; a quantile is off by at most
(BASE - 1) / (BASE + 1) = 1.1 %. Sources: OpenTelemetry metrics data model, "ExponentialHistogram"; the bound is that of
DDSketch (Masson et al., VLDB 2019).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

SCALE = 5
BUCKETS_PER_DOUBLING: int = 2**SCALE
BASE: float = 2 ** (1 / BUCKETS_PER_DOUBLING)
MAX_RELATIVE_ERROR = (BASE - 1) / (BASE + 1)
# Clocks tell nothing below a nanosecond or above some thirty years; the ends bound the number of buckets.
MIN_SECONDS, MAX_SECONDS = 1e-9, 1e9


def bucket_of(seconds: float) -> int:
    """The bucket of a duration. Negative ones (a clock stepped back) count as the shortest."""
    clamped = min(max(seconds, MIN_SECONDS), MAX_SECONDS)
    return math.ceil(math.log2(clamped) * BUCKETS_PER_DOUBLING) - 1


def seconds_of(bucket: int) -> float:
    """The value whose relative error is the same to both ends of the bucket."""
    return 2 * BASE ** (bucket + 1) / (BASE + 1)


def quantile(counts: Mapping[int, int], fraction: float) -> float | None:
    """The seconds that `fraction` (0 to 1) of the durations do not exceed, by nearest rank; None of nothing."""
    total = sum(counts.values())
    if not total:
        return None
    rank = max(1, math.ceil(fraction * total))
    seen = 0
    for bucket in sorted(counts):
        seen += counts[bucket]
        if seen >= rank:
            return seconds_of(bucket)
    raise AssertionError("the ranks of a histogram end at its total")


@dataclass(frozen=True, slots=True)
class Cell:
    """What one bucket holds: how many spans, how many of them failed, and the exact sum of their durations."""

    spans: int
    errors: int
    seconds: float

    def __add__(self, other: Cell) -> Cell:
        return Cell(self.spans + other.spans, self.errors + other.errors, self.seconds + other.seconds)


@dataclass(frozen=True, slots=True)
class Red:
    """Rate, errors and duration over a time."""

    spans: int
    errors: int
    spans_per_second: float
    error_fraction: float
    mean_seconds: float
    p50_seconds: float | None
    p95_seconds: float | None
    p99_seconds: float | None


def red(cells: Iterable[tuple[int, Cell]], over_seconds: float) -> Red:
    """RED figures of (bucket, cell) pairs, in any order and from any number of histograms."""
    counts: dict[int, int] = {}
    total = Cell(0, 0, 0.0)
    for bucket, cell in cells:
        counts[bucket] = counts.get(bucket, 0) + cell.spans
        total += cell
    return Red(
        spans=total.spans,
        errors=total.errors,
        spans_per_second=total.spans / over_seconds,
        error_fraction=total.errors / total.spans if total.spans else 0.0,
        mean_seconds=total.seconds / total.spans if total.spans else 0.0,
        p50_seconds=quantile(counts, 0.50),
        p95_seconds=quantile(counts, 0.95),
        p99_seconds=quantile(counts, 0.99),
    )
