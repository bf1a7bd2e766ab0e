"""How many replicas there should be: by table for what must happen, by random loads for what must never."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.inference.scaling import FULL, Load, Rules, Scale, advance, needed, total

START = datetime(2026, 11, 24, 12, tzinfo=UTC)
RULES = Rules(minimum=1, maximum=8, sequences=10)


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def run(scale: Scale, load: Load, rules: Rules, seconds: int, begin: int = 0) -> list[Scale]:
    """The scale at each second of a load that stays."""
    scales = []
    for second in range(begin, begin + seconds):
        scale = advance(scale, load, rules, after(second))
        scales.append(scale)
    return scales


@pytest.mark.parametrize(
    ("load", "tokens_per_second", "expected"),
    [
        (Load(), 0, 0),
        (Load(active=1), 0, 1),
        (Load(active=8), 0, 1),
        (Load(active=8, waiting=1), 0, 2),
        (Load(active=20, waiting=30), 0, 7),
        (Load(active=1, tokens_per_second=900), 0, 1),
        (Load(active=1, tokens_per_second=900), 500, 3),
        (Load(active=30, tokens_per_second=100), 500, 4),
    ],
)
def test_a_load_needs_so_many(load: Load, tokens_per_second: float, expected: int) -> None:
    rules = Rules(minimum=0, maximum=8, sequences=10, tokens_per_second=tokens_per_second)
    assert needed(load, rules, FULL) == expected


def test_a_load_that_lasts_is_answered_at_once_by_as_many_as_it_needs() -> None:
    scales = run(Scale(1, scaled_at=after(-100)), Load(active=10, waiting=20), RULES, 5)
    assert [one.wanted for one in scales] == [1, 1, 1, 4, 4]


def test_a_burst_of_a_second_changes_nothing() -> None:
    scale = run(Scale(1), Load(active=10, waiting=20), RULES, 2)[-1]
    scale = run(scale, Load(active=5), RULES, 1, begin=2)[-1]
    assert run(scale, Load(active=10, waiting=20), RULES, 3, begin=3)[-1].wanted == 1


def test_what_was_ordered_may_come_before_it_is_judged() -> None:
    """Another replica is not ordered for a queue that grows while the first one loads."""
    scale = Scale(2, scaled_at=after(0))
    assert run(scale, Load(active=20, waiting=4), RULES, 14)[-1].wanted == 2
    assert run(scale, Load(active=20, waiting=4), RULES, 17)[-1].wanted == 3


def test_they_go_one_at_a_time_after_minutes() -> None:
    wanted = [one.wanted for one in run(Scale(4, scaled_at=after(-1000)), Load(active=2), RULES, 600)]
    assert wanted[119] == 4
    assert wanted[120] == 3
    steps = [second for second in range(1, 600) if wanted[second] != wanted[second - 1]]
    assert len(steps) == 3
    assert wanted[-1] == 1
    assert all(later - earlier >= 120 for earlier, later in pairwise(steps))


def test_none_is_left_where_none_is_needed_and_one_comes_when_somebody_asks() -> None:
    rules = Rules(minimum=0, maximum=3, sequences=10, idle_seconds=60)
    scales = run(Scale(1, busy_at=after(0)), Load(), rules, 62)
    assert [one.wanted for one in scales[58:]] == [1, 1, 0, 0]
    woken = advance(scales[-1], Load(asked_at=after(70)), rules, after(70))
    assert woken.wanted == 1
    assert advance(woken, Load(asked_at=after(70)), rules, after(129)).wanted == 1
    assert advance(woken, Load(asked_at=after(70)), rules, after(131)).wanted == 0, "asked once, and then no more"


def test_a_minimum_holds_though_nobody_asks() -> None:
    assert run(Scale(2, busy_at=after(-10_000)), Load(), Rules(2, 4, 10, idle_seconds=1), 600)[-1].wanted == 2


def test_loads_of_several_replicas_add_up() -> None:
    assert total([Load(1, 2, 3.0), Load(4, 5, 6.0)], START) == Load(5, 7, 9.0, START)


LOADS = st.builds(
    Load, st.integers(0, 200), st.integers(0, 200), st.floats(0, 5_000, allow_nan=False), st.sampled_from([None, START])
)
ALL_RULES = st.builds(
    lambda minimum, more, sequences, tokens: Rules(minimum, max(1, minimum + more), sequences, tokens),
    st.integers(0, 4),
    st.integers(0, 12),
    st.integers(1, 64),
    st.sampled_from([0.0, 50.0, 500.0]),
)


@given(rules=ALL_RULES, loads=st.lists(st.tuples(LOADS, st.integers(1, 300)), max_size=12), wanted=st.integers(0, 30))
def test_the_wish_stays_within_its_limits(rules: Rules, loads: list[tuple[Load, int]], wanted: int) -> None:
    scale, now = Scale(wanted), 0
    for load, seconds in loads:
        now += seconds
        scale = advance(scale, load, rules, after(now))
        assert rules.minimum <= scale.wanted <= rules.maximum
        if load.busy:
            assert scale.wanted >= 1


@given(rules=ALL_RULES, load=LOADS, wanted=st.integers(0, 16))
def test_a_load_that_stays_ends_in_one_number_that_bears_it(rules: Rules, load: Load, wanted: int) -> None:
    scales = run(Scale(wanted, busy_at=after(0)), load, rules, 17 * 125)
    assert len({one.wanted for one in scales[-200:]}) == 1, "it never flaps"
    assert scales[-1].wanted >= min(rules.maximum, needed(load, rules, FULL))
    falls = [(one.wanted, other.wanted) for one, other in pairwise(scales)]
    directions = {(other > one) - (other < one) for one, other in falls if other != one}
    assert len(directions) <= 1, "up or down, never both"
