"""Schedules: known answers, what is refused, and every answer against a search minute by minute."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sskai.cron import ScheduleError, parse


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("schedule", "after", "then"),
    [
        ("* * * * *", "2026-11-29T16:00:30", "2026-11-29T16:01:00"),
        ("0 3 * * *", "2026-11-29T03:00:00", "2026-11-30T03:00:00"),
        ("0 3 * * *", "2026-11-29T02:59:59", "2026-11-29T03:00:00"),
        ("0 3 * * mon", "2026-11-29T16:00:00", "2026-11-30T03:00:00"),
        ("0 0 * * 7", "2026-11-29T00:00:00", "2026-12-06T00:00:00"),
        ("0 0 * * sun", "2026-11-29T00:00:00", "2026-12-06T00:00:00"),
        ("*/20 9-17/4 * * *", "2026-11-29T09:40:00", "2026-11-29T13:00:00"),
        ("5/25 * * * *", "2026-11-29T09:30:00", "2026-11-29T09:55:00"),
        ("0 0 1 jan,jul *", "2026-11-29T00:00:00", "2027-01-01T00:00:00"),
        # Either day when both are named; both when one of them is a star with a step.
        ("0 0 13 * fri", "2026-11-29T00:00:00", "2026-12-04T00:00:00"),
        ("0 0 */2 * fri", "2026-11-29T00:00:00", "2026-12-11T00:00:00"),
        ("0 0 29 2 *", "2026-11-29T00:00:00", "2028-02-29T00:00:00"),
        ("0 0 29 2 *", "2097-01-01T00:00:00", "2104-02-29T00:00:00"),
        ("@weekly", "2026-11-29T00:00:00", "2026-12-06T00:00:00"),
        ("@MONTHLY", "2026-11-29T00:00:00", "2026-12-01T00:00:00"),
    ],
)
def test_when_it_is_time_next(schedule: str, after: str, then: str) -> None:
    assert parse(schedule).next_after(moment(after)) == moment(then)


@pytest.mark.parametrize(
    ("schedule", "problem"),
    [
        ("", "is no schedule"),
        ("daily", "is no schedule"),
        ("0 3 * *", "is no schedule"),
        ("0 3 * * * *", "is no schedule"),
        ("0 " * 300, "is no schedule"),
        ("60 * * * *", "minute: write"),
        ("0 24 * * *", "hour: write"),
        ("0 0 0 * *", "day-of-month: write"),
        ("0 0 * 13 *", "month: write"),
        ("0 0 * * 8", "day-of-week: write"),
        ("0 0 * * funday", "day-of-week: write"),
        ("*/0 * * * *", "minute: write"),
        ("5-3 * * * *", "minute: write"),
        ("1,,2 * * * *", "minute: write"),
        ("-1 * * * *", "minute: write"),
        ("٣ * * * *", "is no schedule"),
        ("0 0 30 2 *", "day-of-month: write"),
        ("0 0 31 4,6 *", "day-of-month: write"),
    ],
)
def test_what_is_no_schedule_names_the_field(schedule: str, problem: str) -> None:
    with pytest.raises(ScheduleError) as error:
        parse(schedule)
    assert problem in str(error.value)


@st.composite
def fields(draw: st.DrawFn, low: int, high: int) -> tuple[str, set[int], bool]:
    """A field's text, the values it means by its definition, and whether it is a star."""
    if draw(st.booleans()):
        step = draw(st.integers(1, max(1, high // 3)))
        return f"*/{step}", set(range(low, high + 1, step)), True
    first = draw(st.integers(low, high))
    last = draw(st.integers(first, high))
    return f"{first}-{last}", set(range(first, last + 1)), False


@given(
    minute=fields(0, 59),
    hour=fields(0, 23),
    day=fields(1, 31),
    weekday=fields(0, 6),
    at=st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1)),  # noqa: DTZ001
)
def test_the_next_time_is_the_first_minute_that_every_field_allows(
    minute: tuple[str, set[int], bool],
    hour: tuple[str, set[int], bool],
    day: tuple[str, set[int], bool],
    weekday: tuple[str, set[int], bool],
    at: datetime,
) -> None:
    at = at.replace(tzinfo=UTC)
    found = parse(f"{minute[0]} {hour[0]} {day[0]} * {weekday[0]}").next_after(at)
    assert found is not None
    assert found > at
    assert (found.second, found.microsecond) == (0, 0)

    def allowed(moment: datetime) -> bool:
        days = (moment.day in day[1], moment.isoweekday() % 7 in weekday[1])
        of_day = all(days) if day[2] or weekday[2] else any(days)
        return moment.minute in minute[1] and moment.hour in hour[1] and of_day

    assert allowed(found)
    moment = at.replace(second=0, microsecond=0) + timedelta(minutes=1)
    for _ in range(3_000):  # two days of minutes: what comes later is rarer, and follows the same rules
        if moment >= found:
            break
        assert not allowed(moment)
        moment += timedelta(minutes=1)
