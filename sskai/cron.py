"""Schedules as crontab(5) writes them, in UTC, by cronsim: five fields, or a word such as @daily."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from cronsim import CronSim, CronSimError

MAX_CHARACTERS = 200
_FIELDS = 5  # cronsim takes a sixth, for seconds
_MACROS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}


class ScheduleError(ValueError):
    """What is no schedule, with the field and what to write."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """`text`: five fields that cronsim takes. `minutes`: of the hour, in which it can be time."""

    text: str
    minutes: frozenset[int]

    def next_after(self, at: datetime) -> datetime | None:
        """The first whole minute after `at` that is of the schedule; None: there is none within 50 years."""
        return next(CronSim(self.text, at.astimezone(UTC)), None)


def parse(text: str) -> Schedule:
    """Raises ScheduleError, which names the field."""
    fields = _MACROS.get(text.strip().lower(), text)
    if len(text) > MAX_CHARACTERS or len(fields.split()) != _FIELDS or not text.isascii():
        raise ScheduleError(
            "is no schedule: write minute, hour, day of the month, month and day of the week, such as 0 3 * * mon"
        )
    try:
        known = CronSim(fields, datetime(2000, 1, 1, tzinfo=UTC))
    except CronSimError as error:
        field = str(error).removeprefix("Bad ")
        raise ScheduleError(f"{field}: write values that it can have, such as 5, 1-5, */10, mon or jan") from error
    return Schedule(fields, frozenset(known.minutes))
