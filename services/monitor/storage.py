"""What is kept in the object store and what crosses regions, in money. Values in, values out.

Things are metered by the day, and a day's row is what is owed in all less what was told before:

    owed(t) = sum over items of bytes x seconds kept until t x price          (storage)
    owed(t) = sum over moves until t of bytes x price                         (egress)

so what becomes known late is made good in the next row, repeats change nothing, and the sum of all rows is the last
`owed`, whatever the order in which the facts came. A row that takes something back is negative.

Prices: S3 Standard 0.023 USD per GB-month (the first 50 TB, us-east-1), traffic from one region to another 0.02 USD per
GB, S3 to machines of its own region free (https://aws.amazon.com/s3/pricing/, https://aws.amazon.com/ec2/pricing/on-demand/
under "Data Transfer"; read in 2026). A month has 730 hours, as in the plans.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction

from sskai.money import NANO_PER_USD

COMPUTE, STORAGE, EGRESS = "compute", "storage", "egress"  # kinds of the ledger's rows
GB = 10**9
SECONDS_PER_MONTH = 730 * 3600
USD_PER_GB_MONTH = 0.023
USD_PER_GB_BETWEEN_REGIONS = 0.02
KEPT_CHECKPOINTS = 3  # where a job's file does not say

_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, order=True)
class Item:
    """Bytes that are kept, or were moved, since a moment. Step and attempt are those of a job's checkpoint."""

    step: int
    at: datetime
    bytes: int
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class Fetch:
    """An attempt in another region than its data's: when it began, and the checkpoint that it loaded, if it did."""

    attempt: int
    at: datetime
    resumed_from: int | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A day of one thing. `quantity` is in GB-months, or of egress in GB."""

    interval: int
    started_at: datetime
    ended_at: datetime
    quantity: float
    amount_nano_usd: int


@dataclass(frozen=True, slots=True)
class Meter:
    """How far a thing was metered: `told` is the sum of its rows, in byte-microseconds or bytes, and in nano-USD."""

    since: datetime  # the end of its last row, or when it began
    rows: int = 0
    told_amount: int = 0
    told_nano_usd: int = 0


def byte_microseconds(items: Sequence[Item], keep: int, until: datetime, gone_at: datetime | None) -> int:
    """Bytes times microseconds kept until then. Of more than `keep` items the newest stay: one goes when the `keep`-th
    after it has come (0: all stay). `gone_at`: when whatever is left was deleted."""
    end = min(until, gone_at) if gone_at is not None else until
    ordered = sorted(items)
    total = 0
    for place, item in enumerate(ordered):
        later = [other.at for other in ordered[place + 1 :]]
        pruned_at = sorted(later)[keep - 1] if keep and len(later) >= keep else end
        total += item.bytes * max(0, (min(end, pruned_at) - item.at) // _MICROSECOND)
    return total


def storage_nano_usd(amount: int, usd_per_gb_month: float) -> int:
    """Of bytes times microseconds; rounded half up."""
    price = Fraction(str(usd_per_gb_month)) * NANO_PER_USD / (GB * SECONDS_PER_MONTH * 10**6)
    return int(amount * price + Fraction(1, 2))


def moves(fetches: Iterable[Fetch], checkpoints: Sequence[Item], fetched_bytes: int) -> list[Item]:
    """What the attempts in another region read (model and data, the checkpoint they resume from) and wrote (theirs)."""
    moved: list[Item] = []
    bytes_of = {item.step: item.bytes for item in sorted(checkpoints)}
    for fetch in fetches:
        loaded = bytes_of.get(fetch.resumed_from, 0) if fetch.resumed_from else 0
        moved.append(Item(0, fetch.at, fetched_bytes + loaded, fetch.attempt))
        moved += [item for item in checkpoints if item.attempt == fetch.attempt]
    return moved


def moved_bytes(items: Iterable[Item], until: datetime) -> int:
    """Bytes that had been moved by then."""
    return sum(item.bytes for item in items if item.at <= until)


def egress_nano_usd(amount: int, usd_per_gb: float) -> int:
    """Of bytes; rounded half up."""
    return int(amount * Fraction(str(usd_per_gb)) * NANO_PER_USD / GB + Fraction(1, 2))


def crosses(region: str, cloud: str, objects_region: str) -> bool:
    """Whether what a machine there reads and writes leaves a region; where nobody said, nothing does."""
    return cloud == "aws" and bool(region) and bool(objects_region) and region != objects_region


def day_ends(since: datetime, now: datetime) -> Iterator[datetime]:
    """Every midnight (UTC) after `since` up to now: a row ends at each."""
    midnight = next_midnight(since)
    while midnight <= now:
        yield midnight
        midnight += timedelta(days=1)


def next_midnight(at: datetime) -> datetime:
    """The first midnight (UTC) after a moment."""
    day = at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return day + timedelta(days=1)


def advance(meter: Meter, until: datetime, owed_amount: int, owed_nano_usd: int, unit: int) -> tuple[Meter, Row | None]:
    """The row until then, and the meter after it; None where nothing changed. `unit`: what one of the row's is."""
    amount, nano_usd = owed_amount - meter.told_amount, owed_nano_usd - meter.told_nano_usd
    after = Meter(until, meter.rows, meter.told_amount, meter.told_nano_usd)
    if not amount:
        return after, None
    row = Row(meter.rows + 1, meter.since, until, amount / unit, nano_usd)
    return Meter(until, row.interval, owed_amount, owed_nano_usd), row


GB_MONTH = GB * SECONDS_PER_MONTH * 10**6  # byte-microseconds
