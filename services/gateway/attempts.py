"""Sign-ins that failed: after some of them an address, and a key's beginning, must wait. Pure."""

from __future__ import annotations

from collections.abc import Sequence

FAILURES_AT_ONCE = 10
SECONDS_PER_FAILURE = 6.0  # so long until one more is let through
MOST_REMEMBERED = 10_000


class Attempts:
    """Remembers by name when its failures will be forgotten. In one process, of at most so many names."""

    def __init__(self) -> None:
        self._forgotten_at: dict[str, float] = {}

    def wait_seconds(self, names: Sequence[str], now: float) -> float:
        """How long the next try has to wait; 0: not at all."""
        allowed = FAILURES_AT_ONCE * SECONDS_PER_FAILURE
        return max(
            0.0,
            *(self._forgotten_at.get(name, now) - now + SECONDS_PER_FAILURE - allowed for name in names),
        )

    def failed(self, names: Sequence[str], now: float) -> None:
        for name in names:
            if name not in self._forgotten_at and len(self._forgotten_at) >= MOST_REMEMBERED:
                self._forgotten_at = {one: at for one, at in self._forgotten_at.items() if at > now}
                if len(self._forgotten_at) >= MOST_REMEMBERED:
                    continue
            self._forgotten_at[name] = max(self._forgotten_at.get(name, now), now) + SECONDS_PER_FAILURE
