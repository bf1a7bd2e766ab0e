"""Who may ask now, and whom: limits by key and of all, a circuit breaker by target. Pure: the clock is an argument."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

MAX_KEYS_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class Limits:
    """`burst` requests may come at once, then `requests_per_second`. Concurrent: from arrival to the answer's end."""

    requests_per_second: float
    burst: int
    concurrent_per_key: int
    concurrent: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """`shed`: everybody is too much, not this key alone."""

    message: str
    code: str
    retry_after_seconds: int
    shed: bool = False


@dataclass(slots=True)
class _Key:
    tokens: float
    at: float
    concurrent: int = 0


class Admission:
    """Counts requests under way. What `enter` let in must `leave`."""

    def __init__(self) -> None:
        self._keys: dict[str, _Key] = {}
        self.under_way = 0

    def enter(self, key_id: str, limits: Limits, now: float) -> Refusal | None:
        """None: it is in. A refused request costs its key nothing."""
        if self.under_way >= limits.concurrent:
            return Refusal(f"{self.under_way} requests are under way: try again", "overloaded", 1, shed=True)
        key = self._key(key_id, limits, now)
        if key.concurrent >= limits.concurrent_per_key:
            return Refusal(f"{key.concurrent} requests of this key are under way", "concurrency_limit_exceeded", 1)
        if key.tokens < 1.0:
            wait = (1.0 - key.tokens) / limits.requests_per_second
            limit = f"more than {limits.requests_per_second:g} requests a second with this key"
            return Refusal(limit, "rate_limit_exceeded", max(1, round(wait + 0.5)))
        key.tokens -= 1.0
        key.concurrent += 1
        self.under_way += 1
        return None

    def leave(self, key_id: str) -> None:
        self._keys[key_id].concurrent -= 1
        self.under_way -= 1

    def left(self, key_id: str, limits: Limits, now: float) -> float:
        """How many requests of the key would be let in at once."""
        return self._key(key_id, limits, now).tokens

    def under_way_of(self, key_id: str) -> int:
        """How many requests of a key have come and not been answered."""
        key = self._keys.get(key_id)
        return key.concurrent if key else 0

    def _key(self, key_id: str, limits: Limits, now: float) -> _Key:
        key = self._keys.get(key_id)
        if key is None:
            if len(self._keys) >= MAX_KEYS_REMEMBERED:
                # Who asks for nothing now has lost nothing but its bucket's level.
                self._keys = {name: one for name, one in self._keys.items() if one.concurrent}
            key = self._keys[key_id] = _Key(float(limits.burst), now)
        key.tokens = min(float(limits.burst), key.tokens + (now - key.at) * limits.requests_per_second)
        key.at = now
        return key


FAILURES_TO_OPEN = 3
FIRST_OPEN_SECONDS = 0.5
LAST_OPEN_SECONDS = 8.0


@dataclass(slots=True)
class Circuit:
    """Of one target. After some failures in a row it is left alone for a while, then one request tries it."""

    failures: int = 0
    open_until: float = 0.0
    trying: bool = False

    def allows(self, now: float) -> bool:
        if self.failures < FAILURES_TO_OPEN:
            return True
        return now >= self.open_until and not self.trying

    def begin(self) -> None:
        """A request goes there. While the circuit is half open, it is the only one."""
        self.trying = self.failures >= FAILURES_TO_OPEN

    def succeeded(self) -> None:
        self.failures, self.trying = 0, False

    def failed(self, now: float) -> None:
        self.failures, self.trying = self.failures + 1, False
        over = min(max(0, self.failures - FAILURES_TO_OPEN), 10)
        self.open_until = now + min(FIRST_OPEN_SECONDS * 2.0**over, LAST_OPEN_SECONDS)

    def left(self) -> None:
        """The request ended without a word on the target: its client went away."""
        self.trying = False


@dataclass(slots=True)
class Targets:
    """The addresses of inference, in turns."""

    circuits: dict[str, Circuit] = field(default_factory=dict)
    turn: int = 0

    def choose(self, urls: Sequence[str], now: float) -> str | None:
        """The next one that may be asked; None: all are left alone just now."""
        self.turn += 1
        for number in range(len(urls)):
            url = urls[(self.turn + number) % len(urls)]
            if self.circuit(url).allows(now):
                return url
        return None

    def circuit(self, url: str) -> Circuit:
        return self.circuits.setdefault(url, Circuit())
