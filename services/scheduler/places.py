"""Places over time: how many are free from now on, and what is promised to whom. Pure; times are seconds from now."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

FAR_SECONDS = 10 * 365 * 86_400.0  # of a job that nobody can say an end of
# Beyond so many reservations nobody goes ahead of anybody any more: what a decision costs stays bounded.
MAX_RESERVATIONS = 64
MAX_ENDS = 256  # different moments at which places come free; nearer ones are put together, at the earlier moment


@dataclass(frozen=True, slots=True)
class Span:
    """Seconds, with their interval (5th and 95th percentile)."""

    low: float
    expected: float
    high: float


UNKNOWN = Span(FAR_SECONDS, FAR_SECONDS, FAR_SECONDS)


class Places:
    """`limit` places, some of them taken. Free places are a step function that begins now."""

    def __init__(self, limit: int, taken: Iterable[tuple[int, Span]]) -> None:
        """`taken`: how many, and for how long. Their earliest ends count, so that no reservation is made too late."""
        self.limit = limit
        self.taken = list(taken)
        self.reservations = 0
        ends: Counter[float] = Counter()
        for count, left in self.taken:
            ends[min(FAR_SECONDS, max(1.0, left.low))] += count
        self._times = [0.0]
        self._free = [limit - sum(ends.values())]
        stride = 1 + len(ends) // MAX_ENDS
        moments = sorted(ends)
        for first in range(0, len(moments), stride):
            bucket = moments[first : first + stride]
            self._times.append(bucket[0])
            self._free.append(self._free[-1] + sum(ends[moment] for moment in bucket))

    @property
    def free(self) -> int:
        """Now; less than zero where the limit was lowered."""
        return self._free[0]

    @property
    def closed(self) -> bool:
        """Nobody more can get a place now."""
        return self.free <= 0 or self.reservations >= MAX_RESERVATIONS

    def fits(self, count: int, seconds: float) -> bool:
        """Whether so many places are free from now on for so long, reservations left as they are."""
        if self.closed or count > self.free:
            return False
        if not self.reservations:
            return True  # without reservations places only come free
        until = bisect_left(self._times, seconds)
        return min(self._free[:until]) >= count

    def take(self, count: int, seconds: Span) -> None:
        """Give the places away, now."""
        self._occupy(count, 0.0, seconds.high)
        self.taken.append((count, seconds))

    def reserve(self, count: int, start: float, seconds: float) -> None:
        """Promise the places from `start` on."""
        self._occupy(count, start, seconds)
        self.reservations += 1

    def earliest(self, count: int, seconds: float, not_before: float) -> float:
        """The first moment from which so many places are free for so long; `count` must be within the limit."""
        start: float | None = None
        for index, moment in enumerate(self._times):
            following = self._times[index + 1] if index + 1 < len(self._times) else None
            if following is not None and following <= not_before:
                continue
            if self._free[index] < count:
                start = None
                continue
            start = max(moment, not_before) if start is None else start
            if following is None or following >= start + seconds:
                return start
        return max(not_before, self._times[-1])

    def _occupy(self, count: int, start: float, seconds: float) -> None:
        first, last = self._cut(start), self._cut(start + max(1.0, seconds))
        for index in range(first, last):
            self._free[index] -= count

    def _cut(self, moment: float) -> int:
        index = bisect_left(self._times, moment)
        if index == len(self._times) or self._times[index] != moment:
            self._times.insert(index, moment)
            self._free.insert(index, self._free[index - 1])
        return index


def reserve_together(needs: list[tuple[Places, int]], seconds: float) -> None:
    """Promise places in all pools from the same moment on, the earliest at which all have them.

    Where nobody more can get a place now, nobody could go ahead, and no promise is needed.
    """
    if any(pool.closed for pool, _ in needs):
        return
    start = 0.0
    while True:
        moved = start
        for pool, count in needs:
            moved = pool.earliest(count, seconds, moved)
        if moved == start:
            break
        start = moved
    for pool, count in needs:
        pool.reserve(count, start, seconds)
