"""What the simulated market has to offer: denied capacity, recorded availability, catalogue prices. It has no clock."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

CapacityType = Literal["spot", "on-demand"]
# EC2 warns two minutes ahead; a replay that runs faster than life warns that much later, but never too late to save.
NOTICE_SECONDS = 120.0
SHORTEST_REPLAY_NOTICE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Trace:
    """Recorded spot availability of one zone: instances on offer at each tick of `gap_seconds`."""

    gap_seconds: float
    available: tuple[int, ...]

    def available_at(self, seconds: float) -> int:
        """Instances on offer that long after the record's beginning; the record starts again when it ends."""
        return self.available[int(seconds // self.gap_seconds) % len(self.available)]


@dataclass(frozen=True, slots=True)
class Price:
    """One row of the price table. Zone `*` stands for every zone of the region."""

    instance_type: str
    region: str
    zone: str
    capacity_type: CapacityType
    price_usd_per_hour: float


@dataclass(slots=True)
class Market:
    """Who gets a machine. `speed`: record seconds per real second; `opened_at`: the replay's start, epoch seconds."""

    prices: tuple[Price, ...] = ()
    traces: Mapping[str, Trace] = field(default_factory=dict)
    speed: float = 1.0
    opened_at: float = 0.0
    denied: list[str] = field(default_factory=list)

    def refusal(self, zone: str, instance_type: str, capacity_type: CapacityType, now: float) -> str | None:
        """Why such a machine cannot be had now, or None when it can."""
        offer = f"{zone}/{instance_type}/{capacity_type}"
        for pattern in self.denied:
            if fnmatchcase(offer, pattern):
                return f"the market denies {pattern}"
        if capacity_type == "spot" and not self.spot_available(zone, now):
            return f"no spot capacity in {zone} at this point of the record"
        return None

    def spot_available(self, zone: str, now: float) -> bool:
        """Whether the record (if this zone has one) offers anything at this moment."""
        trace = self.traces.get(zone)
        return trace is None or trace.available_at((now - self.opened_at) * self.speed) > 0

    def replay_notice_seconds(self) -> float:
        """The warning before a machine is taken because the record fell to nothing."""
        return max(SHORTEST_REPLAY_NOTICE_SECONDS, NOTICE_SECONDS / self.speed)

    def price(self, region: str, zone: str, instance_type: str, capacity_type: CapacityType) -> float | None:
        """USD per hour by the table, the zone's own row before the region's; None when it has neither."""
        for wanted in (zone, "*"):
            for row in self.prices:
                if (row.region, row.zone, row.instance_type, row.capacity_type) == (
                    region,
                    wanted,
                    instance_type,
                    capacity_type,
                ):
                    return row.price_usd_per_hour
        return None


def read_prices(catalogue: Path) -> tuple[Price, ...]:
    """The price rows of a catalogue (CSV with price_usd_hour and spot_price_usd_hour); an empty cell is no offer."""
    with catalogue.open(newline="") as file:
        return tuple(_price_rows(csv.DictReader(file)))


def _price_rows(rows: Iterable[Mapping[str, str]]) -> Iterable[Price]:
    columns: tuple[tuple[CapacityType, str], ...] = (("spot", "spot_price_usd_hour"), ("on-demand", "price_usd_hour"))
    for row in rows:
        for capacity_type, column in columns:
            if row[column]:
                zone = row["availability_zone"]
                yield Price(row["instance_type"], row["region"], zone, capacity_type, float(row[column]))


def read_traces(folder: Path) -> dict[str, Trace]:
    """The records in a folder, by zone: `ZONE/anything.json`, or `ZONE.json` with an optional `_suffix`."""
    traces: dict[str, Trace] = {}
    for file in sorted(folder.rglob("*.json")):
        inner = file.relative_to(folder).parts
        zone = inner[0] if len(inner) > 1 else file.stem.split("_")[0]
        record = json.loads(file.read_text())
        traces[zone] = Trace(float(record["metadata"]["gap_seconds"]), tuple(record["data"]))
    return traces
