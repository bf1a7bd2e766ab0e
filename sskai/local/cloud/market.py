"""What the simulated market has to offer: denied capacity, replayed availability, prices. It has no clock."""

from __future__ import annotations

import csv
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from sskai.local.cloud.records import Trace
from sskai.local.cloud.synthetic import Synthetic

CapacityType = Literal["spot", "on-demand"]
# EC2 warns two minutes ahead; a replay that runs faster than life warns that much later, but never too late to save.
NOTICE_SECONDS = 120.0
SHORTEST_REPLAY_NOTICE_SECONDS = 2.0
EVERY_ZONE = "*"


@dataclass(frozen=True, slots=True)
class Price:
    """One row of the price table. Zone `*` stands for every zone of the region; `live`: it moves with the replay."""

    instance_type: str
    region: str
    zone: str
    capacity_type: CapacityType
    price_usd_per_hour: float
    live: bool = False


@dataclass(frozen=True, slots=True)
class Zones:
    """Which record a zone replays: the first pattern that fits, else the record of its own name.

    `spread`: a zone without either replays one of the records all the same, always the same one.
    """

    patterns: Sequence[tuple[str, str]] = ()
    spread: bool = False

    def record(self, zone: str, records: Iterable[str]) -> str | None:
        """The record's name, or None for a zone that always has capacity."""
        known = sorted(records)
        for pattern, name in self.patterns:
            if fnmatchcase(zone, pattern):
                return name
        if zone in known:
            return zone
        return known[zlib.crc32(zone.encode()) % len(known)] if self.spread and known else None

    @classmethod
    def parse(cls, text: str, records: Iterable[str]) -> Zones:
        """`use1-az1=us-east-1a,use2-*=us-east-2b`; empty: spread. Raises ValueError that says what is wrong."""
        known, patterns = sorted(records), []
        for part in filter(None, map(str.strip, text.split(","))):
            pattern, _, name = part.partition("=")
            if not pattern or name not in known:
                records_known = ", ".join(known) or "none (SSKAI_MARKET_TRACE)"
                raise ValueError(
                    f"SSKAI_MARKET_ZONES: {part!r} should be ZONE=RECORD, with a record of {records_known}"
                )
            patterns.append((pattern, name))
        return cls(tuple(patterns), spread=not patterns)


@dataclass(slots=True)
class Market:
    """Who gets a machine. `speed`: record seconds per real second; `opened_at`: the replay's start, epoch seconds.

    `offset_seconds`: where in the record the replay starts; `each`: machines that one recorded instance stands for;
    `notice_seconds`: of the warning before a machine is taken, 0 for none, None for EC2's at this speed;
    `rebalance_seconds`: how long before a fall the market recommends to leave, 0 for never; `recorded_prices`: take
    them as they are, not as a share of their median that the price table is multiplied by.
    """

    prices: tuple[Price, ...] = ()
    traces: Mapping[str, Trace] = field(default_factory=dict)
    synthetic: Synthetic | None = None
    zones: Zones = field(default_factory=Zones)
    speed: float = 1.0
    offset_seconds: float = 0.0
    each: int = 1
    notice_seconds: float | None = None
    rebalance_seconds: float = 0.0
    recorded_prices: bool = False
    opened_at: float = 0.0
    denied: list[str] = field(default_factory=list)

    def refusal(
        self,
        region: str,
        zone: str,
        instance_type: str,
        capacity_type: CapacityType,
        now: float,
        *,
        running: int = 0,
        wanted: int = 1,
    ) -> str | None:
        """Why so many such machines cannot be had now, or None when they can. `running`: spot machines of the zone."""
        offer = f"{zone}/{instance_type}/{capacity_type}"
        for pattern in self.denied:
            if fnmatchcase(offer, pattern):
                return f"the market denies {pattern}"
        if capacity_type == "on-demand":
            return None
        available = self.spot_available(region, zone, now)
        if available == 0:
            return f"no spot capacity in {place(region, zone)} at this point of the record"
        if available is not None and running + wanted > available:
            return (
                f"the record has {available} spot machines in {place(region, zone)} now, of which {running} run "
                f"already and {wanted} more are asked for"
            )
        return None

    def spot_available(self, region: str, zone: str, now: float, *, ahead_seconds: float = 0.0) -> int | None:
        """Spot machines that may run in the zone then, real seconds ahead; None: no record limits them."""
        trace = self.trace_of(region, zone)
        return None if trace is None else trace.available_at(self.record_seconds(now + ahead_seconds)) * self.each

    def record_seconds(self, now: float) -> float:
        """How far into the record the replay is."""
        return self.offset_seconds + (now - self.opened_at) * self.speed

    def trace_of(self, region: str, zone: str) -> Trace | None:
        """What the zone replays. A machine that may stand anywhere in a region stands in the zone of that name."""
        if self.synthetic is not None:
            return self.synthetic.trace(place(region, zone))
        name = self.zones.record(place(region, zone), self.traces)
        return None if name is None else self.traces[name]

    def replay_notice_seconds(self) -> float:
        """The warning before a machine is taken because the record fell; 0: none."""
        if self.notice_seconds is not None:
            return self.notice_seconds
        return max(SHORTEST_REPLAY_NOTICE_SECONDS, NOTICE_SECONDS / self.speed)

    def price(
        self, region: str, zone: str, instance_type: str, capacity_type: CapacityType, now: float
    ) -> float | None:
        """USD per hour now, by the zone's own row before the region's; None when the table has neither."""
        for wanted in (zone, EVERY_ZONE):
            for row in self.prices:
                if (row.region, row.zone, row.instance_type, row.capacity_type) == (
                    region,
                    wanted,
                    instance_type,
                    capacity_type,
                ):
                    return self._priced(row, zone, now).price_usd_per_hour
        trace = self.trace_of(region, zone) if capacity_type == "spot" else None
        # Nothing else is known of this machine; a made-up market has shares only.
        return None if trace is None or self.synthetic is not None else trace.price_at(self.record_seconds(now))

    def price_rows(self, capacity_type: CapacityType, now: float) -> Iterator[Price]:
        """The table's rows at their prices of this moment."""
        return (self._priced(row, row.zone, now) for row in self.prices if row.capacity_type == capacity_type)

    def _priced(self, row: Price, zone: str, now: float) -> Price:
        trace = self.trace_of(row.region, zone) if row.capacity_type == "spot" else None
        recorded = None if trace is None else trace.price_at(self.record_seconds(now))
        if trace is None or recorded is None:
            return row
        usd = recorded if self.recorded_prices else row.price_usd_per_hour * recorded / trace.typical_price
        return replace(row, price_usd_per_hour=round(usd, 4), live=True)


def place(region: str, zone: str) -> str:
    """The zone, or the region's name for an offer that leaves the zone open."""
    return region if zone == EVERY_ZONE else zone


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
