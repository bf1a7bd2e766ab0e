"""Histograms that add up: any quantile within 2 %, however the durations were spread over them."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.monitor.sketches import (
    MAX_ERROR_KINDS,
    MAX_EXEMPLARS,
    MAX_RELATIVE_ERROR,
    OTHER,
    Tally,
    bucket_of,
    merged,
    quantile,
    red,
    share_above,
    spread,
    value_of,
)

durations = st.lists(st.floats(1e-7, 1e6), min_size=1, max_size=200)


@given(durations, st.sampled_from([0.01, 0.5, 0.9, 0.95, 0.99, 1.0]))
def test_a_quantile_is_within_two_percent_of_the_exact_one(values: list[float], fraction: float) -> None:
    exact = sorted(values)[max(1, math.ceil(fraction * len(values))) - 1]
    told = quantile(Counter(map(bucket_of, values)), fraction)
    assert told is not None
    assert abs(told - exact) / exact <= MAX_RELATIVE_ERROR + 1e-9 <= 0.02


@given(durations, durations)
def test_two_histograms_merge_into_the_one_of_all(left: list[float], right: list[float]) -> None:
    merged = Counter(map(bucket_of, left)) + Counter(map(bucket_of, right))
    assert merged == Counter(map(bucket_of, left + right))


@pytest.mark.parametrize("value", [1e-12, 1e30, math.inf])
def test_absurd_values_have_a_bucket_too(value: float) -> None:
    assert 0 < value_of(bucket_of(value)) <= 1.1e9


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_nothing_and_a_clock_that_stepped_back_are_zero(value: float) -> None:
    assert value_of(bucket_of(value)) == 0
    assert quantile({bucket_of(value): 9, bucket_of(5.0): 1}, 0.5) == 0


def test_nothing_has_no_quantile() -> None:
    assert quantile({}, 0.5) is None
    assert red(Tally(), 60).p95_seconds is None


def tally(*values: float, error: str = "") -> Tally:
    told = Tally()
    for place, value in enumerate(values):
        told.add(value, f"trace {place}", error)
    return told


def test_red_counts_rate_and_errors_exactly() -> None:
    figures = red(merged([tally(*[0.1] * 90), tally(*[2.0] * 5), tally(*[2.0] * 5, error="timeout")]), over_seconds=50)
    assert (figures.spans, figures.errors, figures.spans_per_second) == (100, 5, 2.0)
    assert figures.errors_by_kind == {"timeout": 5}
    assert figures.error_fraction == 0.05
    assert figures.mean_seconds == pytest.approx(0.29)
    assert figures.p50_seconds == pytest.approx(0.1, rel=0.02)
    assert figures.p95_seconds == pytest.approx(2.0, rel=0.02)


def test_values_are_told_with_their_exact_sum() -> None:
    told = spread(tally(1, 2, 3, 90))
    assert (told.count, told.total, told.mean) == (4, 96, 24)
    assert told.p99 == pytest.approx(90, rel=0.02)


@given(durations, durations, durations)
def test_tallies_merge_in_any_order_and_keep_the_largest_as_exemplars(
    left: list[float], middle: list[float], right: list[float]
) -> None:
    parts = [tally(*left), tally(*middle, error="a"), tally(*right, error="b")]
    there, back = merged(parts), merged(reversed(parts))
    assert (there.spans, there.counts, there.errors, there.exemplars) == (
        back.spans, back.counts, back.errors, back.exemplars
    )  # fmt: skip
    assert there.exemplars[0][0] == max(*left, *middle, *right)
    assert len(there.exemplars) <= MAX_EXEMPLARS


def test_more_kinds_of_errors_than_there_is_room_for_are_counted_together() -> None:
    told = merged(tally(1.0, error=f"kind {number}") for number in range(100))
    assert told.failed == 100
    assert len(told.errors) == MAX_ERROR_KINDS + 1
    assert told.errors[OTHER] == 100 - MAX_ERROR_KINDS


@given(durations, st.floats(1e-6, 1e6))
def test_how_many_lie_above_a_limit_is_exact_up_to_its_own_bucket(values: list[float], limit: float) -> None:
    above = share_above(Counter(map(bucket_of, values)), limit)
    wide = 1 + 2.1 * MAX_RELATIVE_ERROR
    assert sum(value > limit * wide for value in values) <= above <= sum(value > limit for value in values)
