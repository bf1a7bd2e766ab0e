"""Bounds and intervals: against published figures, against each other, and against chance itself."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from services.inference.evidence import (
    Interval,
    bounds,
    mean_difference,
    proportion_difference,
    student,
    wilson,
    win_rate,
)


@given(st.integers(1, 5_000), st.floats(0, 1), st.floats(1e-6, 0.2))
def test_the_bounds_hold_what_was_seen_and_stay_between_0_and_1(count: int, share: float, alpha: float) -> None:
    total = min(share * count, count)
    found = bounds(total, count, alpha)
    assert 0.0 <= found.low <= total / count + 1e-9
    assert total / count - 1e-9 <= found.high <= 1.0
    assert bounds(total, count, alpha / 10).low <= found.low + 1e-12  # surer is wider


@given(st.integers(1, 1_000), st.integers(0, 1_000))
def test_the_bounds_of_what_did_not_happen_mirror_those_of_what_did(count: int, happened: int) -> None:
    happened = min(happened, count)
    one, other = bounds(happened, count, 0.05), bounds(count - happened, count, 0.05)
    assert one.low == pytest.approx(1 - other.high, abs=1e-9)


def test_nothing_seen_excludes_nothing() -> None:
    assert bounds(0, 0, 0.05) == Interval(0.0, 1.0)


def test_no_failure_in_a_thousand_bounds_the_rate_as_the_formula_says() -> None:
    # e(p) = 1 / (1001 (1 - p)^1000) = 1 / alpha at the border.
    assert bounds(0, 1_000, 0.05).high == pytest.approx(1 - (0.05 / 1001) ** (1 / 1000), rel=1e-9)


@pytest.mark.parametrize("rate", [0.02, 0.3])
def test_looking_again_and_again_is_wrong_no_more_often_than_alpha(rate: float) -> None:
    """200 runs of 200 requests, looked at every fourth: at alpha 0.1 at most 10 % may ever exclude the truth."""
    dice, wrong = random.Random(7), 0
    for _ in range(200):
        total = 0
        for count in range(4, 201, 4):
            total += sum(dice.random() < rate for _ in range(4))
            found = bounds(total, count, 0.1)
            if not found.low <= rate <= found.high:
                wrong += 1
                break
    assert wrong <= 20 + 13  # three standard deviations of a binomial count


def test_wilsons_interval_is_the_published_one() -> None:
    # Newcombe, "Two-sided confidence intervals for the single proportion" (1998), table I, method 3: 81/263, 15/148.
    found = wilson(81, 263, 1.95996)
    assert (found.low, found.high) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    found = wilson(15, 148, 1.95996)
    assert (found.low, found.high) == pytest.approx((0.0624, 0.1605), abs=1e-4)


def test_a_difference_of_proportions_covers_it_and_shrinks() -> None:
    few, many = (proportion_difference(0.7, 0.6, count, 1.96) for count in (80, 8_000))
    assert few.low < 0 < 0.1 < few.high
    assert 0 < many.low < 0.1 < many.high


def test_a_difference_of_means_is_as_sure_as_its_standard_error() -> None:
    found = mean_difference(2.0, 2.5, 0.1, 1.96)
    assert (found.low, found.high) == pytest.approx((-0.696, -0.304))


@pytest.mark.parametrize("degrees", [4, 5, 7, 9, 15, 31, 63, 1_000, 10**9])
def test_students_quantile_is_scipys(degrees: int) -> None:
    assert student(1.96, degrees) == pytest.approx(stats.t.ppf(stats.norm.cdf(1.96), degrees), rel=0.01)


def test_one_or_two_differences_say_nothing() -> None:
    assert student(1.96, 0) == student(1.96, 1) == float("inf")


@given(st.lists(st.booleans(), min_size=1, max_size=40), st.lists(st.booleans(), min_size=1, max_size=40))
def test_the_win_rate_of_thumbs_is_that_of_all_pairs(champion: list[bool], canary: list[bool]) -> None:
    found = win_rate((sum(champion), len(champion)), (sum(canary), len(canary)), 1.96)
    assert found is not None
    value, interval = found
    statistic = stats.mannwhitneyu(np.array(canary, float), np.array(champion, float), method="asymptotic").statistic
    assert value == pytest.approx(statistic / (len(champion) * len(canary)))
    assert -1e-9 <= interval.low <= value + 1e-9
    assert value - 1e-9 <= interval.high <= 1 + 1e-9


def test_the_win_rates_interval_is_newcombes() -> None:
    # Newcombe 1998, table II, (a): 56/70 against 48/80, method 10: 0.0524 to 0.3339.
    found = win_rate((48.0, 80), (56.0, 70), 1.959964)
    assert found is not None
    assert found[0] == pytest.approx(0.6)
    assert (2 * found[1].low - 1, 2 * found[1].high - 1) == pytest.approx((0.0524, 0.3339), abs=1e-4)


def test_without_feedback_on_both_sides_there_is_no_win_rate() -> None:
    assert win_rate((0.0, 0), (3.0, 4), 1.96) is None
    assert win_rate((3.0, 4), (0.0, 0), 1.96) is None
