"""Schedules as crontab(5) writes them, in UTC: when is it time next? Pure.

Five fields: minute, hour, day of the month, month, day of the week (0 and 7 are Sunday; names have three letters). Each
is `*`, a value, a range `a-b`, any of them with a step `/n`, or several with commas between. As in Vixie's cron a day
counts if either of the day fields names it, unless one of them is `*` (or begins with it): then both must.
"""

from __future__ import annotations

from calendar import monthrange
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

MAX_CHARACTERS = 200
# Between two 29ths of February there are eight years at most (1896 to 1904, 2096 to 2104), and any weekday falls on one
# of them within 40 years, with such a gap.
HORIZON_YEARS = 48

_MACROS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


class ScheduleError(ValueError):
    """What is no schedule, with the field and what to write."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """The values of each field, in order. Of the days of the week Sunday is 0."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either_day: bool  # a day of one of the two fields is enough

    def next_after(self, at: datetime) -> datetime | None:
        """The first whole minute after `at` that is of the schedule; None: there is none (the 30th of February)."""
        after = at.astimezone(UTC).replace(second=0, microsecond=0) + timedelta(minutes=1)
        year, month = after.year, after.month
        while year <= after.year + HORIZON_YEARS:
            if month in self.months:
                for day in range(1, monthrange(year, month)[1] + 1):
                    if datetime(year, month, day, 23, 59, tzinfo=UTC) < after or not self._is_day(year, month, day):
                        continue
                    for hour in self.hours:
                        for minute in self.minutes:
                            found = datetime(year, month, day, hour, minute, tzinfo=UTC)
                            if found >= after:
                                return found
            year, month = (year, month + 1) if month < 12 else (year + 1, 1)
        return None

    def _is_day(self, year: int, month: int, day: int) -> bool:
        in_month = day in self.days
        in_week = (datetime(year, month, day, tzinfo=UTC).weekday() + 1) % 7 in self.weekdays
        return in_month or in_week if self.either_day else in_month and in_week


def parse(text: str) -> Schedule:
    """Raises ScheduleError, which names the field."""
    fields = _MACROS.get(text.strip().lower(), text).lower().split()
    if len(text) > MAX_CHARACTERS or len(fields) != 5:
        raise ScheduleError(
            "is no schedule: write minute, hour, day of the month, month and day of the week, such as 0 3 * * mon"
        )
    minutes = _values("minute", fields[0], 0, 59)
    hours = _values("hour", fields[1], 0, 23)
    days = _values("day of the month", fields[2], 1, 31)
    months = _values("month", fields[3], 1, 12, _MONTHS)
    weekdays = _values("day of the week", fields[4], 0, 7, _WEEKDAYS)
    schedule = Schedule(
        minutes=tuple(sorted(minutes)),
        hours=tuple(sorted(hours)),
        days=frozenset(days),
        months=frozenset(months),
        weekdays=frozenset(day % 7 for day in weekdays),
        either_day=not fields[2].startswith("*") and not fields[4].startswith("*"),
    )
    if schedule.next_after(datetime(2000, 1, 1, tzinfo=UTC)) is None:
        raise ScheduleError("day of the month: no month of the schedule has this day")
    return schedule


def _values(name: str, field: str, low: int, high: int, names: tuple[str, ...] = ()) -> set[int]:
    values: set[int] = set()
    for part in field.split(","):
        span, slash, step_text = part.partition("/")
        first_text, dash, last_text = span.partition("-")
        if span == "*":
            first, last = low, high
        else:
            first = _value(name, first_text, low, high, names)
            # `5/15` begins at 5 and goes on to the end, as most crons read it.
            last = _value(name, last_text, low, high, names) if dash else high if slash else first
        step = _value(f"{name}, step", step_text, 1, high, ()) if slash else 1
        if last < first:
            raise ScheduleError(f"{name}: {part} ends before it begins")
        values.update(range(first, last + 1, step))
    return values


def _value(name: str, text: str, low: int, high: int, names: tuple[str, ...]) -> int:
    if text in names:
        return names.index(text) + low
    if text.isascii() and text.isdecimal() and len(text) <= 4 and low <= int(text) <= high:
        return int(text)
    words = f", or {names[0]} to {names[-1]}" if names else ""
    raise ScheduleError(f"{name}: {text[:20]!r} is none; write {low} to {high}{words}")
