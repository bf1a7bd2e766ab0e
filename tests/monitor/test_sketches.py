"""Histograms that add up: any quantile within 2 %, however the durations were spread over them."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.monitor.sketches import MAX_RELATIVE_ERROR, Cell, bucket_of, quantile, red, seconds_of

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


@pytest.mark.parametrize("seconds", [0.0, -1.0, 1e-12, 1e30, math.inf])
def test_absurd_durations_have_a_bucket_too(seconds: float) -> None:
    assert 0 < seconds_of(bucket_of(seconds)) <= 1.1e9


def test_nothing_has_no_quantile() -> None:
    assert quantile({}, 0.5) is None
    assert red([], 60).p95_seconds is None


def test_red_counts_rate_and_errors_exactly() -> None:
    figures = red([(bucket_of(0.1), Cell(90, 0, 9.0)), (bucket_of(2.0), Cell(10, 5, 20.0))], over_seconds=50)
    assert (figures.spans, figures.errors, figures.spans_per_second) == (100, 5, 2.0)
    assert figures.error_fraction == 0.05
    assert figures.mean_seconds == pytest.approx(0.29)
    assert figures.p50_seconds == pytest.approx(0.1, rel=0.02)
    assert figures.p95_seconds == pytest.approx(2.0, rel=0.02)
