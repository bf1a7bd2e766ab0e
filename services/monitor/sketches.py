"""Values in a few hundred counters that add up: OpenTelemetry's base-2 exponential histogram at one fixed scale.

Bucket i counts the values in (BASE^i, BASE^(i+1)], BASE = 2^(2^-SCALE); ZERO_BUCKET counts zeros. Histograms merge by
adding their counts, so minutes make hours and replicas make a service; a quantile is off by at most
(BASE - 1) / (BASE + 1) = 1.1 %. Sources: OpenTelemetry metrics data model, "ExponentialHistogram"; the bound is that of
DDSketch (Masson et al., VLDB 2019).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

SCALE = 5
BUCKETS_PER_DOUBLING: int = 2**SCALE
BASE: float = 2 ** (1 / BUCKETS_PER_DOUBLING)
MAX_RELATIVE_ERROR = (BASE - 1) / (BASE + 1)
# Clocks tell nothing below a nanosecond or above some thirty years; the ends bound the number of buckets.
MIN_VALUE, MAX_VALUE = 1e-9, 1e9
ZERO_BUCKET = -10_000  # below every other one

# Kinds of errors come from outside. More different ones in one window are counted under OTHER.
MAX_ERROR_KINDS = 20
OTHER = "(other)"

MAX_EXEMPLARS = 5  # of a group: some may lead to traces that are kept no more


def bucket_of(value: float) -> int:
    """The bucket of a value. A negative one (a clock stepped back) counts as zero."""
    if value <= 0:
        return ZERO_BUCKET
    if not MIN_VALUE <= value <= MAX_VALUE:
        value = min(max(value, MIN_VALUE), MAX_VALUE)
    return math.ceil(math.log2(value) * BUCKETS_PER_DOUBLING) - 1


def value_of(bucket: int) -> float:
    """The value whose relative error is the same to both ends of the bucket."""
    return 0.0 if bucket == ZERO_BUCKET else 2 * BASE ** (bucket + 1) / (BASE + 1)


def quantile(counts: Mapping[int, int], fraction: float) -> float | None:
    """The value that `fraction` (0 to 1) of the counted do not exceed, by nearest rank; None of nothing."""
    total = sum(counts.values())
    if not total:
        return None
    rank = max(1, math.ceil(fraction * total))
    seen = 0
    for bucket in sorted(counts):
        seen += counts[bucket]
        if seen >= rank:
            return value_of(bucket)
    raise AssertionError("the ranks of a histogram end at its total")


def share_above(counts: Mapping[int, int], limit: float) -> int:
    """How many of the counted values lie above `limit`; those in its own bucket count as not above."""
    edge = bucket_of(limit)
    return sum(number for bucket, number in counts.items() if bucket > edge)


@dataclass(slots=True)
class Tally:
    """What was counted of one measure: how many, their exact sum, their histogram, errors by kind, and the largest
    values with the traces that they lead to."""

    spans: int = 0
    total: float = 0.0
    counts: dict[int, int] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)
    exemplars: list[tuple[float, str]] = field(default_factory=list)  # (value, trace id), largest first

    def add(self, value: float, trace_id: str, error: str = "") -> None:
        """Count one value. `error`: the kind of what went wrong, empty if nothing did."""
        self.spans += 1
        self.total += value
        bucket = bucket_of(value)
        self.counts[bucket] = self.counts.get(bucket, 0) + 1
        if error:
            self._count_error(error, 1)
        if not self.exemplars:
            self.exemplars.append((value, trace_id))
        elif value > self.exemplars[0][0]:
            self.exemplars[0] = (value, trace_id)

    def merge(self, other: Tally) -> None:
        """Add what another one counted; the order of merging changes no count."""
        self.spans += other.spans
        self.total += other.total
        for bucket, number in other.counts.items():
            self.counts[bucket] = self.counts.get(bucket, 0) + number
        for kind, number in other.errors.items():
            self._count_error(kind, number)
        self.exemplars = sorted({*self.exemplars, *other.exemplars}, reverse=True)[:MAX_EXEMPLARS]

    def _count_error(self, kind: str, number: int) -> None:
        if kind not in self.errors and len(self.errors) >= MAX_ERROR_KINDS:
            kind = OTHER
        self.errors[kind] = self.errors.get(kind, 0) + number

    @property
    def failed(self) -> int:
        return sum(self.errors.values())


@dataclass(frozen=True, slots=True)
class Red:
    """Rate, errors and duration over a time."""

    spans: int
    errors: int
    errors_by_kind: dict[str, int]
    spans_per_second: float
    error_fraction: float
    mean_seconds: float
    p50_seconds: float | None
    p95_seconds: float | None
    p99_seconds: float | None


def red(tally: Tally, over_seconds: float) -> Red:
    """RED figures of counted durations."""
    return Red(
        spans=tally.spans,
        errors=tally.failed,
        errors_by_kind=dict(sorted(tally.errors.items())),
        spans_per_second=tally.spans / over_seconds,
        error_fraction=tally.failed / tally.spans if tally.spans else 0.0,
        mean_seconds=tally.total / tally.spans if tally.spans else 0.0,
        p50_seconds=quantile(tally.counts, 0.50),
        p95_seconds=quantile(tally.counts, 0.95),
        p99_seconds=quantile(tally.counts, 0.99),
    )


@dataclass(frozen=True, slots=True)
class Spread:
    """How a measure's values were spread."""

    count: int
    total: float
    mean: float
    p50: float | None
    p95: float | None
    p99: float | None


def spread(tally: Tally) -> Spread:
    return Spread(
        count=tally.spans,
        total=tally.total,
        mean=tally.total / tally.spans if tally.spans else 0.0,
        p50=quantile(tally.counts, 0.50),
        p95=quantile(tally.counts, 0.95),
        p99=quantile(tally.counts, 0.99),
    )


def merged(tallies: Iterable[Tally]) -> Tally:
    """All of them in one."""
    whole = Tally()
    for tally in tallies:
        whole.merge(tally)
    return whole
