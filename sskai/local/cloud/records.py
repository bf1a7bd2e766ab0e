"""Records of a spot market: instances on offer per tick, and prices where they were recorded. Read, checked, replayed.

Format of a file: `{"metadata": {"gap_seconds": g}, "data": [n, ...], "prices": [usd_per_hour, ...]}`, as in the public
records of skypilot-org/spot-traces; `prices` may be absent.
"""

from __future__ import annotations

import json
import math
import re
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

MAX_TICKS = 5_000_000  # nine months at five seconds
MAX_RECORDS = 1_000
# AWS's names of zones (us-east-1a) and Google's (us-central1-a).
_ZONE = re.compile(r"[a-z]{2,}(-[a-z]+)+-?\d+-?[a-z]")


class RecordError(ValueError):
    """A file that is no record; the message names it and says what is wrong."""


@dataclass(frozen=True)
class Trace:
    """Recorded spot availability of one zone: instances on offer at each tick, and perhaps what they cost.

    `prices`: USD an hour, one for each tick or none at all.
    """

    gap_seconds: float
    available: tuple[int, ...]
    prices: tuple[float, ...] = ()

    def available_at(self, seconds: float) -> int:
        """Instances on offer that long after the record's beginning; the record starts again when it ends."""
        return self.available[self._tick(seconds)]

    def price_at(self, seconds: float) -> float | None:
        """The recorded price; None: none was recorded."""
        return self.prices[self._tick(seconds)] if self.prices else None

    @cached_property
    def typical_price(self) -> float:
        """The record's median, in USD an hour: what its prices are measured by for machines that it is not about."""
        return statistics.median(self.prices)

    def _tick(self, seconds: float) -> int:
        return int(seconds // self.gap_seconds) % len(self.available)


def read_traces(place: Path) -> dict[str, Trace]:
    """The records of a folder and the folders in it by zone, or that of one file. Raises RecordError.

    The zone is what the file's name begins with (`us-west-2c_v100_1.json`), else the name of its folder.
    """
    if not place.exists():
        raise RecordError(f"{place} is not there: SSKAI_MARKET_TRACE names a record or a folder of records (*.json)")
    files = [place] if place.is_file() else sorted(place.rglob("*.json"))
    if not files:
        raise RecordError(f"{place} holds no record: SSKAI_MARKET_TRACE names a record or a folder of records (*.json)")
    if len(files) > MAX_RECORDS:
        raise RecordError(f"{place} holds {len(files)} records; at most {MAX_RECORDS} are played")
    traces: dict[str, Trace] = {}
    read: dict[str, Path] = {}
    for file in files:
        zone = _zone(file, place)
        if zone in read:
            raise RecordError(f"{file} and {read[zone]} are both of {zone}: name a folder with one record of each zone")
        traces[zone], read[zone] = read_trace(file), file
    return traces


def read_trace(file: Path) -> Trace:
    """One record. Raises RecordError."""
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RecordError(f"{file} cannot be read as JSON: {error}") from error
    problem = next(_problems(raw), None)
    if problem is not None:
        raise RecordError(f"{file}: {problem}")
    return Trace(float(raw["metadata"]["gap_seconds"]), tuple(raw["data"]), tuple(map(float, raw.get("prices") or ())))


def _problems(raw: Any) -> Iterator[str]:
    """What is wrong with the content of a file, the first thing first."""
    if not isinstance(raw, dict) or not isinstance(raw.get("metadata"), dict):
        yield 'a record is {"metadata": {"gap_seconds": g}, "data": [n, ...]}'
        return
    gap = raw["metadata"].get("gap_seconds")
    if not _is_number(gap) or gap <= 0:
        yield f"metadata.gap_seconds is {gap!r}; it should be the seconds between two ticks, more than 0"
    ticks = raw.get("data")
    if not isinstance(ticks, list) or not ticks:
        yield "data is empty or no list; it should hold the instances on offer at each tick"
        return
    if len(ticks) > MAX_TICKS:
        yield f"data has {len(ticks)} ticks; at most {MAX_TICKS} are played"
    for number, tick in enumerate(ticks):
        if not isinstance(tick, int) or isinstance(tick, bool) or tick < 0:
            yield f"data[{number}] is {tick!r}; it should be a number of instances, 0 or more"
    yield from _price_problems(raw.get("prices"), len(ticks))


def _price_problems(prices: Any, ticks: int) -> Iterator[str]:
    if prices is None:
        return
    if not isinstance(prices, list) or len(prices) != ticks:
        count = f"{len(prices)} entries" if isinstance(prices, list) else "no list"
        yield f"prices has {count}, data has {ticks}; there should be one price for each tick, or no prices"
        return
    for number, price in enumerate(prices):
        if not _is_number(price) or price <= 0:
            yield f"prices[{number}] is {price!r}; it should be USD an hour, more than 0"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _zone(file: Path, place: Path) -> str:
    first = file.stem.split("_")[0]
    return first if _ZONE.fullmatch(first) or place in (file.parent, file) else file.parent.name.split("_")[0]
