"""What is kept and what crosses regions: exact sums of days, whatever comes late."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select, update

from services.monitor import spend_loops, storage
from services.monitor.domain import Rules
from services.monitor.handlers import HANDLERS
from services.monitor.spend_tables import DayRow, ItemRow, MeterRow
from services.monitor.storage import Fetch, Item, Meter
from services.monitor.store import Store
from sskai.contract import timestamp
from sskai.database import Database
from sskai.events import v1 as events
from sskai.testing import handle
from tests.monitor.test_life_of_a_job import told_by

SERVICE = "monitor"
DAY = timedelta(days=1)
START = datetime(2026, 11, 1, 12, tzinfo=UTC)
GB = storage.GB


def at(hours: float) -> datetime:
    return START + timedelta(hours=hours)


@pytest.mark.parametrize(
    ("items", "keep", "gone", "gb_hours"),
    [
        ([Item(1, at(0), GB)], 0, None, 24),
        ([Item(1, at(0), GB), Item(2, at(6), GB)], 0, None, 24 + 18),
        ([Item(1, at(0), GB), Item(2, at(6), GB)], 1, None, 6 + 18),  # the second takes the first one's place
        ([Item(n, at(n), GB) for n in range(5)], 3, None, 3 + 3 + 22 + 21 + 20),
        ([Item(1, at(0), 2 * GB)], 3, at(10), 20),
        ([Item(1, at(30), GB)], 3, None, 0),  # later than is asked for
    ],
)
def test_bytes_are_kept_until_newer_ones_or_the_end(
    items: list[Item], keep: int, gone: datetime | None, gb_hours: float
) -> None:
    amount = storage.byte_microseconds(items, keep, at(24), gone)
    assert amount == gb_hours * GB * 3600 * 10**6


def test_a_gigabyte_for_a_month_costs_the_list_price() -> None:
    month = timedelta(seconds=storage.SECONDS_PER_MONTH)
    amount = storage.byte_microseconds([Item(0, START, GB)], 0, START + month, None)
    assert storage.storage_nano_usd(amount, 0.023) == 23_000_000
    assert storage.egress_nano_usd(5 * GB, 0.02) == 100_000_000


@pytest.mark.parametrize(
    ("region", "cloud", "objects", "crosses"),
    [
        ("us-east-1", "aws", "us-east-1", False),
        ("eu-west-1", "aws", "us-east-1", True),
        ("eu-west-1", "aws", "", False),
        ("here", "local", "us-east-1", False),
    ],
)
def test_only_between_named_regions_of_the_cloud_is_traffic_paid(
    region: str, cloud: str, objects: str, crosses: bool
) -> None:
    assert storage.crosses(region, cloud, objects) is crosses


def test_an_attempt_elsewhere_reads_model_data_and_checkpoint_and_writes_its_own() -> None:
    checkpoints = [Item(10, at(1), 3, attempt=1), Item(20, at(3), 3, attempt=2)]
    moved = storage.moves([Fetch(2, at(2), resumed_from=10)], checkpoints, fetched_bytes=100)
    assert storage.moved_bytes(moved, at(2)) == 103
    assert storage.moved_bytes(moved, at(5)) == 106


@given(
    st.lists(st.tuples(st.integers(0, 96), st.integers(1, 10**12)), min_size=1, max_size=8),
    st.lists(st.integers(1, 200), min_size=1, max_size=8),
    st.randoms(use_true_random=False),
)
def test_rows_add_up_to_what_is_owed_however_late_the_facts(
    made: list[tuple[int, int]], reads: list[int], dice: random.Random
) -> None:
    """Facts are known in any order, at any of the readings; the last reading knows all."""
    items = [Item(number, at(hour), size) for number, (hour, size) in enumerate(made)]
    known_at = {item: dice.choice(range(len(reads))) for item in items}
    meter, rows = Meter(min(item.at for item in items)), []
    for place, hour in enumerate(sorted(reads)):
        known = items if place == len(reads) - 1 else [item for item in items if known_at[item] <= place]
        amount = storage.byte_microseconds(known, 3, at(hour), at(120))
        owed = storage.storage_nano_usd(amount, 0.023)
        meter, row = storage.advance(meter, at(hour), amount, owed, storage.GB_MONTH)
        rows += [row] if row else []
    whole = storage.byte_microseconds(items, 3, at(max(reads)), at(120))
    assert sum(row.amount_nano_usd for row in rows) == storage.storage_nano_usd(whole, 0.023)
    assert [row.interval for row in rows] == list(range(1, len(rows) + 1))


def test_days_end_at_midnight_in_utc() -> None:
    assert list(storage.day_ends(at(0), at(36))) == [at(12), at(36)]
    assert list(storage.day_ends(at(0), at(11))) == []


# On a real database

IDS: dict[str, Any] = {"job_id": "job_1", "tenant_id": "A"}
ABROAD = events.Placement(cloud="aws", region="eu-west-1", capacity_type=events.CAPACITY_TYPE_SPOT)
SPEC = events.JobSpec(
    name="bot",
    dataset=events.DatasetRef(bytes=10 * GB),
    model=events.ModelRef(uri="s3://sskai/models/m"),
    checkpoint=events.CheckpointPolicy(keep=1),
)
STORY: list[Message] = [
    events.JobSubmitted(**IDS, spec=SPEC, submitted_at=timestamp(at(0))),
    events.PlanProposed(**IDS, profile=events.WorkProfile(weight_bytes=2 * GB)),
    events.AttemptStarted(**IDS, attempt=1, placement=ABROAD, started_at=timestamp(at(1))),
    events.CheckpointCommitted(**IDS, attempt=1, step=10, bytes=GB, at=timestamp(at(2))),
    events.CheckpointCommitted(**IDS, attempt=1, step=20, bytes=GB, at=timestamp(at(4))),
    events.AttemptStarted(**IDS, attempt=2, placement=ABROAD, started_at=timestamp(at(6))),
    events.AttemptResumed(**IDS, attempt=2, from_attempt=1, from_step=20, at=timestamp(at(7))),
    events.CheckpointCommitted(**IDS, attempt=2, step=30, bytes=GB, at=timestamp(at(8))),
    events.JobSucceeded(**IDS, attempt=2, metered_intervals=0, ended_at=timestamp(at(9))),
    events.ModelVersionReady(model_id="model_1", tenant_id="A", version=1, bytes=GB, ready_at=timestamp(at(10))),
    events.DatasetValidated(dataset_id="dataset_1", tenant_id="A", version=1, bytes=GB, validated_at=timestamp(at(0))),
]
RULES = Rules(objects_region="us-east-1", checkpoint_retention_hours=24)


async def metered(database: Database, now: datetime) -> list[events.SpendRecorded]:
    async with database.transaction() as session:
        await session.execute(update(MeterRow).where(MeterRow.due_at.is_not(None)).values(due_at=START))
    await spend_loops.meter_things(database, RULES, now)
    return [one for one in await told_by(database) if isinstance(one, events.SpendRecorded)]


@pytest.mark.parametrize("seed", range(3))
async def test_a_row_a_day_of_everything_that_is_kept_or_was_moved(database: Database, seed: int) -> None:
    def store(session: Any) -> Store:
        return Store(session, RULES)

    dice = random.Random(seed)
    facts = [*STORY, *dice.sample(STORY, 4)]
    if seed:
        dice.shuffle(facts)
    late = facts[len(facts) // 2 :] if seed == 2 else []
    for one in facts[: len(facts) - len(late)]:
        await handle(HANDLERS, database, store, one, at(10))
    rows = await metered(database, at(12)) if late else []
    for one in late:
        await handle(HANDLERS, database, store, one, at(13))
    for days in range(1, 7):
        rows += await metered(database, at(12) + days * DAY)
    for one in [*rows, *rows]:
        await handle(HANDLERS, database, store, one)
    async with database.transaction() as session:
        sums = await session.execute(select(DayRow.job_id, DayRow.kind, DayRow.amount_nano_usd))
        totals: dict[tuple[str, str], int] = {}
        for job_id, kind, amount in sums:
            totals[job_id, kind] = totals.get((job_id, kind), 0) + amount
        left = (await session.scalars(select(ItemRow.thing_id))).all()
    end, month = at(12) + 6 * DAY, timedelta(seconds=storage.SECONDS_PER_MONTH)
    # One checkpoint at a time from the first one on, until a day after the job's end.
    assert totals["job_1", "storage"] == pytest.approx(23_000_000 * ((at(33) - at(2)) / month), abs=1)
    assert totals["model_1@1", "storage"] == pytest.approx(23_000_000 * ((end - at(10)) / month), abs=1)
    assert totals["dataset_1@1", "storage"] == pytest.approx(23_000_000 * ((end - at(0)) / month), abs=1)
    # Twice model and data, the checkpoint that was loaded, the three that were written.
    assert totals["job_1", "egress"] == 20_000_000 * (2 * 12 + 1 + 3)
    assert sorted(left) == ["dataset_1@1", "model_1@1"], "checkpoints are forgotten, what is kept is not"


async def test_what_its_owner_deleted_costs_nothing_more(database: Database) -> None:
    def store(session: Any) -> Store:
        return Store(session, RULES)

    gone = [
        events.ModelDeleted(model_id="model_1", tenant_id="A", version=1, deleted_at=timestamp(at(14))),
        events.DatasetDeleted(dataset_id="dataset_1", tenant_id="A", version=1, deleted_at=timestamp(at(15))),
    ]
    for one in [*STORY[-2:], *gone]:
        await handle(HANDLERS, database, store, one, at(10))
    rows = [row for days in range(1, 4) for row in await metered(database, at(12) + days * DAY)]
    month = timedelta(seconds=storage.SECONDS_PER_MONTH)
    paid: dict[str, int] = {}
    for row in {(one.job_id, one.interval): one for one in rows}.values():
        paid[row.job_id] = paid.get(row.job_id, 0) + row.amount_nano_usd
    assert paid["model_1@1"] == pytest.approx(23_000_000 * ((at(14) - at(10)) / month), abs=1)
    assert paid["dataset_1@1"] == pytest.approx(23_000_000 * ((at(15) - at(0)) / month), abs=1)
