"""When a request is tried again, and after which pause. Pure but for the clock and the dice."""

from __future__ import annotations

import random
import time

import httpx2

from sskai.client.errors import SskaiError, UnreachableError, problem_of

RETRIED_STATUSES = {429, 502, 503, 504}
FIRST_PAUSE_SECONDS = 0.2
LAST_PAUSE_SECONDS = 5.0
RETRY_SECONDS = 60.0


class Patience:
    """Of one request, or of one stream. A success of a stream makes it new."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.renew()

    def renew(self) -> None:
        """It works (again): the next failure is the first one."""
        self._until = time.monotonic() + self._seconds
        self._pause = FIRST_PAUSE_SECONDS
        self._fails = False

    def lost(self, reason: str) -> float:
        """The pause after a lost connection. Raises UnreachableError when it has been tried for long enough."""
        return self._wait(UnreachableError(reason), 0.0)

    def refused(self, answer: httpx2.Response) -> float:
        """The pause after an error that has been read, at least as long as it asks for. Raises SskaiError."""
        failure = SskaiError(problem_of(answer))
        if answer.status_code not in RETRIED_STATUSES:
            raise failure
        asked = answer.headers.get("retry-after", "")
        return self._wait(failure, float(asked) if asked.isdecimal() else 0.0)

    def _wait(self, failure: SskaiError, asked_seconds: float) -> float:
        now = time.monotonic()
        if not self._fails:
            # A stream may have been silent and well for an hour: its time to recover begins with the failure.
            self._until, self._fails = max(self._until, now + self._seconds), True
        wait = max(asked_seconds, self._pause * random.uniform(0.5, 1))
        if now + wait > self._until:
            raise failure
        self._pause = min(2 * self._pause, LAST_PAUSE_SECONDS)
        return wait
