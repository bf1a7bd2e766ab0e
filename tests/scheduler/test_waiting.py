"""How long a job will wait: the arithmetic by tables and properties, the interval against drifting waits."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scheduler import waiting
from services.scheduler.admission import Line
from services.scheduler.places import FAR_SECONDS, Span
from services.scheduler.waiting import NEWEST_WAITS, Calibration, PastWait, Told

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def about(seconds: float) -> Span:
    return Span(0.5 * seconds, seconds, 2 * seconds)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        pytest.param(Line(1, ((1, about(60)),), (), 1), (30, 60, 120), id="the next waits for who runs"),
        pytest.param(Line(2, ((1, about(60)), (1, about(20))), (), 1), (10, 20, 40), id="the first place that is free"),
        pytest.param(Line(2, ((1, about(60)), (1, about(20))), (), 2), (30, 60, 120), id="a gang waits for all"),
        pytest.param(
            Line(1, ((1, about(60)),), ((1, about(100)), (1, about(10))), 1), (85, 170, 340), id="and for those ahead"
        ),
        pytest.param(Line(3, ((3, about(0)),), (), 1), (1, 1, 1), id="who should be gone is gone in a moment"),
    ],
)
def test_in_line(line: Line, expected: tuple[float, float, float]) -> None:
    span = waiting.in_line(line)
    assert span is not None
    assert (span.low, span.expected, span.high) == expected


def test_nobody_can_say_when_a_job_without_an_end_will_end() -> None:
    unknown = Span(FAR_SECONDS, FAR_SECONDS, FAR_SECONDS)
    assert waiting.in_line(Line(1, ((1, unknown),), (), 1)) is None
    assert waiting.in_line(Line(2, ((1, about(9)),), ((2, about(9)),), 4)) is None, "and never what cannot be"


def test_a_long_line_is_gone_through_as_far_as_it_has_to_be() -> None:
    ahead = tuple((1, about(10)) for _ in range(10 * waiting.MAX_AHEAD))
    span = waiting.in_line(Line(1, ((1, about(10)),), ahead, 1))
    assert span is not None
    assert span.expected == pytest.approx(10 * (len(ahead) + 1), rel=0.01)


def test_past_waits_outweigh_the_prior() -> None:
    before = waiting.of_past_waits("waiting-for-spot", [], 0)
    assert before.expected == pytest.approx(600, rel=0.5)
    after = waiting.of_past_waits("waiting-for-spot", [PastWait(60.0 + number) for number in range(200)], 0)
    assert 100 < after.expected < 200
    assert after.low < 80
    assert after.high < 600


def test_what_has_lasted_long_is_expected_to_last_longer() -> None:
    past = [PastWait(60.0)] * 50 + [PastWait(7200.0)] * 10
    fresh, old, older = (waiting.of_past_waits("no-capacity", past, waited) for waited in (0, 600, 50_000))
    assert fresh.expected == 60
    assert old.expected == 6600
    assert older.expected == pytest.approx(50_000), "beyond all that was seen: as long again"


def test_waits_that_were_given_up_count_for_as_long_as_they_lasted() -> None:
    ended = [PastWait(100.0)] * 40
    given_up = [PastWait(50.0, ended=False)] * 60
    dropped = waiting.of_past_waits("no-capacity", [PastWait(50.0)] * 60 + ended, 0)
    kept = waiting.of_past_waits("no-capacity", given_up + ended, 0)
    assert dropped.expected == 50
    assert kept.expected == 100


waits = st.lists(st.builds(PastWait, st.floats(0.1, 1e6), st.booleans()), max_size=60)


@given(waits, st.floats(0, 1e6))
def test_intervals_are_in_order_and_never_in_the_past(past: list[PastWait], waited: float) -> None:
    span = waiting.of_past_waits("no-capacity", past, waited)
    assert 0 <= span.low <= span.expected <= span.high


@given(
    st.tuples(st.floats(0, 1e7), st.floats(0, 1e7), st.floats(0, 1e7)).map(sorted),
    st.floats(-3.5, 3.5),
    st.floats(-3.5, 3.5),
)
def test_a_stretched_interval_still_holds_its_median(bounds: list[float], low: float, high: float) -> None:
    span = Span(*bounds)
    wide = waiting.stretched(span, Calibration(low, high))
    assert 0 <= wide.low <= max(1.0, wide.expected)
    assert wide.expected == span.expected
    assert wide.high >= wide.expected or wide.high == waiting.FURTHEST_SECONDS
    wider = waiting.stretched(span, Calibration(low + 0.5, high + 0.5))
    assert wider.low <= wide.low
    assert wider.high >= wide.high


def coverage_of_drifting_waits(*, calibrated: bool) -> list[float]:
    """Waits that grow three-hundredfold, fall back at once, and spread more and more: coverage by 1,000 predictions."""
    draw = random.Random(11)
    past: list[PastWait] = []
    calibration, blocks = Calibration(), []
    for turn in range(6000):
        level = 60 * 2 ** ((turn % 1000) / 120)
        actual = draw.lognormvariate(0, 0.3 + turn / 6000) * level
        waited = 0.0
        # Asked at the start, and again by chance while it lasts, as jobs are.
        if draw.random() < 0.3 and actual > 30:
            waited = 30.0
        span = waiting.of_past_waits("waiting-for-spot", past[-NEWEST_WAITS:][::-1], waited)
        told = waiting.stretched(span, calibration)
        if calibrated:
            calibration = waiting.learned(calibration, told, actual - waited)
        past.append(PastWait(actual))
        if turn % 1000 == 0:
            blocks.append(0.0)
        blocks[-1] += waiting.covers(told, actual - waited) / 1000
    return blocks


def test_intervals_cover_nine_of_ten_whatever_the_market_does() -> None:
    told = coverage_of_drifting_waits(calibrated=True)
    assert sum(told) / len(told) == pytest.approx(0.90, abs=0.01)
    assert all(block == pytest.approx(0.90, abs=0.03) for block in told), told
    raw = coverage_of_drifting_waits(calibrated=False)
    assert min(raw) < 0.85, "the waits are hard enough to need it"


def test_runs_that_always_last_longer_than_planned_widen_the_later_side_only() -> None:
    draw = random.Random(3)
    calibration, hits = Calibration(), []
    for _ in range(2000):
        told = waiting.stretched(Span(50, 60, 70), calibration)
        actual = 60 * draw.lognormvariate(1.0, 0.2)
        hits.append(waiting.covers(told, actual))
        calibration = waiting.learned(calibration, told, actual)
    assert sum(hits[200:]) / 1800 == pytest.approx(0.95, abs=0.02), "none comes too early, 5 % too late"
    assert calibration.high > 1 > 0 > calibration.low


@pytest.mark.parametrize(
    ("rule", "seconds_ago", "expected_before", "expected_now", "told"),
    [
        ("quota", 5, 600, 600, False),
        ("priority", 5, 600, 600, True),
        ("quota", 5, 600, 6000, False),
        ("quota", 61, 600, 6000, True),
        ("quota", 61, 600, 650, False),
        ("quota", 61, 600, None, True),
        ("quota", 61, None, None, False),
        ("quota", 5000, 600, 6000, True),
    ],
)
def test_told_when_it_says_something_new(
    rule: str, seconds_ago: float, expected_before: float | None, expected_now: float | None, told: bool
) -> None:
    def at(seconds: float | None) -> datetime | None:
        return None if seconds is None else NOW + timedelta(seconds=seconds)

    before = Told("quota", NOW - timedelta(seconds=seconds_ago), at(0), at(expected_before), at(1e4))
    assert waiting.worth_telling(before, rule, at(expected_now), NOW) is told
    assert waiting.worth_telling(None, rule, at(expected_now), NOW)
