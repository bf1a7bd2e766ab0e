"""Records of spot capacity for the lab: named, cut into windows, split by time, made up.

`sskai.local.cloud.records` reads and checks them: what the simulated cloud plays, the lab replays.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sskai.local.cloud.records import RecordError, read_trace


@dataclass(frozen=True)
class Trace:
    """One zone: whether there was capacity at each tick, and at which price where the record says."""

    name: str  # its path within the folder
    group: str  # the folder it lies in: zones that were recorded together
    gap_seconds: float
    available: NDArray[np.bool_]
    prices: NDArray[np.float64] | None = None
    sha256: str = ""

    def __len__(self) -> int:
        return len(self.available)

    def cut(self, start: int, stop: int) -> Trace:
        """The ticks from `start` until before `stop`."""
        prices = None if self.prices is None else self.prices[start:stop]
        return replace(self, available=self.available[start:stop], prices=prices)


def read(path: Path, root: Path, need: int = 1) -> Trace:
    """One record; there is capacity where at least `need` instances were on offer. Raises RecordError."""
    record = read_trace(path)
    name = path.relative_to(root)
    return Trace(
        name=str(name.with_suffix("")),
        group=str(name.parent),
        gap_seconds=record.gap_seconds,
        available=np.asarray(record.available) >= need,
        prices=np.asarray(record.prices) if record.prices else None,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
    )


def read_all(root: Path, need: int = 1) -> list[Trace]:
    """Every record under a folder, or the one file. Raises RecordError, also where there is none."""
    files = [root] if root.is_file() else sorted(root.rglob("*.json"))
    if not files:
        raise RecordError(f"{root}: no *.json there")
    return [read(file, root.parent if root.is_file() else root, need) for file in files]


def groups(traces: Iterable[Trace]) -> list[list[Trace]]:
    """Zones that were recorded together, with one gap."""
    found: dict[tuple[str, float], list[Trace]] = {}
    for trace in traces:
        found.setdefault((trace.group, trace.gap_seconds), []).append(trace)
    return list(found.values())


def starts(ticks: int, length: int, count: int, first: int = 0) -> list[int]:
    """Up to `count` evenly spaced beginnings of windows of `length` ticks that lie in [first, ticks)."""
    last = ticks - length
    if last < first:
        return []
    return sorted({round(first + (last - first) * number / max(1, count - 1)) for number in range(count)})


def synthetic(
    rng: np.random.Generator,
    *,
    ticks: int,
    gap_seconds: float,
    mean_up_seconds: Sequence[float],
    mean_down_seconds: float,
    zones: int = 1,
) -> list[Trace]:
    """A made-up market: runs of capacity from a mixture of exponentials, runs without it from one."""
    result = []
    for zone in range(zones):
        available = np.empty(ticks, dtype=bool)
        at, up = 0, bool(rng.random() < 0.5)
        while at < ticks:
            mean = rng.choice(np.asarray(mean_up_seconds)) if up else mean_down_seconds
            run = 1 + int(rng.exponential(mean) / gap_seconds)
            available[at : at + run] = up
            at, up = at + run, not up
        result.append(Trace(f"zone-{zone}", "synthetic", gap_seconds, available))
    return result
