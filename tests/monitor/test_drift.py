"""The sequential test: false alarms are as rare as asked for, whatever the numbers are; changes are found and dated."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.monitor.drift import COUNT, FLAG, NATS, SHARE, Scale, Sides, Test, bets_at, p_value, tie_break

SCALES = [FLAG, SHARE, COUNT, NATS]


def alarm_at(test: Test, values: list[float], dice: np.random.Generator, threshold: float) -> tuple[int, Test] | None:
    """At which value the test alarms, from 1, and the test then."""
    for number, value in enumerate(values, 1):
        test = test.observe(value, float(dice.random()), at_seconds=float(number))
        if test.alarming(threshold, 1):
            return number, test
    return None


@pytest.mark.parametrize("sides", list(Sides))
@pytest.mark.parametrize("kind", ["smooth", "flags", "heavy tail"])
def test_false_alarms_are_as_rare_as_asked_for(kind: str, sides: Sides) -> None:
    """60 exchangeable streams, looked at after each of 150 samples: at 5 % some 3 alarm at most, 10 hardly ever."""
    alarms = 0
    for seed in range(60):
        dice = np.random.default_rng(seed)
        drawn = {
            "smooth": (SHARE, dice.random(250)),
            "flags": (FLAG, (dice.random(250) < 0.1).astype(float)),
            "heavy tail": (COUNT, dice.pareto(0.8, 250) * 20),
        }
        scale, values = drawn[kind]
        test = Test.start(scale, sides, values[:100].tolist())
        alarms += alarm_at(test, values[100:].tolist(), dice, 20) is not None
    assert alarms < 10


def test_the_gamblers_capital_is_a_martingale() -> None:
    """Each makes 1 of 1 in the mean over uniform p-values (the integral of e p^(e-1) is 1)."""
    # Mean over p by substitution p = u^10, which tames the pole at 0; the other side has its pole at 1.
    u = (np.arange(200_000) + 0.5) / 200_000
    p = u**10
    weights = 10 * u**9
    upward = np.array([bets_at(float(one), Sides.UP) for one in p[::20]])
    assert (upward * weights[::20, None]).mean(axis=0) == pytest.approx(1, rel=1e-3)
    both = np.array([bets_at(float(1 - one), Sides.BOTH)[5:] for one in p[::20]])
    # 1 - p is kept off 0, which takes a little from the boldest gambler and gives to none.
    lower = (both * weights[::20, None]).mean(axis=0)
    assert lower == pytest.approx(1, rel=0.07)
    assert (lower < 1.001).all()


@pytest.mark.parametrize(
    ("sides", "shift", "found"), [(Sides.UP, 0.3, True), (Sides.UP, -0.3, False), (Sides.BOTH, -0.3, True)]
)
def test_a_change_is_found_on_the_sides_that_are_watched_and_dated(sides: Sides, shift: float, found: bool) -> None:
    dice = np.random.default_rng(1)
    test = Test.start(SHARE, sides, (0.35 + dice.random(200) * 0.3).tolist())
    before, after = 0.35 + dice.random(400) * 0.3, 0.35 + shift + dice.random(100) * 0.3
    alarm = alarm_at(test, [*before, *after], dice, 1000)
    assert (alarm is not None) == found
    if alarm is not None:
        number, test = alarm
        assert 400 < number <= 430
        assert test.began_at_seconds == pytest.approx(401, abs=4)
        assert test.recent_mean == pytest.approx(0.5 + shift, abs=0.1)
        assert test.reference_mean == pytest.approx(0.5, abs=0.05)
        assert test.recent_samples == number - test.began_at_seconds + 1


def test_each_alarm_in_a_row_needs_twice_the_samples() -> None:
    dice = np.random.default_rng(2)
    test = Test.start(FLAG, Sides.UP, [0.0] * 100)
    needed = []
    for _ in range(9):
        samples = 0
        while not test.alarming(100, 10):
            samples += 1
            test = test.observe(1.0, float(dice.random()))
        needed.append(samples)
        test = test.anew()
        assert (test.samples, test.capital, test.reference_size) == (0, 1.0, 100)
    assert needed == [10, 20, 40, 80, 160, 320, 640, 640, 640]


def test_after_a_long_quiet_the_next_alarm_is_soon() -> None:
    dice = np.random.default_rng(3)
    values = dice.random(2200)
    test = Test.start(SHARE, Sides.UP, values[:200].tolist()).anew().anew()
    assert test.alarms == 2
    for value in values[200:]:
        test = test.observe(float(value), float(dice.random()))
    assert test.alarms == 0


@given(
    st.sampled_from(SCALES),
    st.lists(st.floats(0, 1e7), max_size=30),
    st.floats(allow_nan=True),
    st.floats(0, 0.999),
)
@example(SHARE, [], 7e305, 0.0)  # over a step it is more than a float holds
def test_a_p_value_is_a_probability(scale: Scale, others: list[float], value: float, die: float) -> None:
    assert 0 <= scale.bin(value) < scale.bins
    test = Test.start(scale, Sides.BOTH, others)
    assert 0 < test.p(value, die) <= 1
    seen = test.observe(value, die)
    assert seen.samples == 1
    assert int(seen.pool.sum()) == len(others) + 1
    assert np.isfinite(seen.capital)


@given(st.sampled_from(SCALES), st.floats(0, 1e6), st.floats(0, 1e6))
def test_bins_keep_the_order(scale: Scale, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert scale.bin(low) <= scale.bin(high)


def test_ties_are_spread_by_the_die() -> None:
    pool = np.array([0, 9, 0])
    assert [p_value(1, pool, die) for die in (0.0, 0.5, 0.999)] == pytest.approx([1.0, 0.5, 0.001])


def test_a_die_falls_the_same_way_for_the_same_sample() -> None:
    assert tie_break("inf_1") == tie_break("inf_1") != tie_break("inf_2")
    assert np.mean([tie_break(f"inf_{n}") for n in range(2000)]) == pytest.approx(0.5, abs=0.03)
