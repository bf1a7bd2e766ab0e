"""One clock for all replicas of a service: the database's.

A machine's own clock may be minutes off, and may be set back while a process runs. What one replica writes down (when a
job is due, since when a machine costs) another one reads, so all of them go by the clock that their leases go by.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta


class DatabaseClock:
    """What the database said last, and how long ago that was by the monotonic clock. Until it is set: the machine's."""

    def __init__(self) -> None:
        self._said: datetime | None = None
        self._at_monotonic = 0.0

    @property
    def is_set(self) -> bool:
        return self._said is not None

    def now(self) -> datetime:
        """Aware, in UTC."""
        if self._said is None:
            return datetime.now(UTC)
        return self._said + timedelta(seconds=time.monotonic() - self._at_monotonic)

    def set(self, said: datetime, asked_monotonic: float) -> None:
        """The database's answer to a question that was asked at that moment; it was given in the middle of the way."""
        answered = time.monotonic()
        self._said = said.astimezone(UTC)
        self._at_monotonic = (asked_monotonic + answered) / 2

    def ahead_seconds(self) -> float:
        """How far the machine's own clock is ahead of the database's; negative: behind."""
        return (datetime.now(UTC) - self.now()).total_seconds()
