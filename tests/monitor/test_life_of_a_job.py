"""A job's facts on a real database, in any order and more than once: one account, one receipt."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import httpx2
import pytest
from google.protobuf.message import Message
from sqlalchemy import update

from services.monitor import api, loops
from services.monitor.handlers import HANDLERS
from services.monitor.ingest import Ingest
from services.monitor.store import Store
from services.monitor.tables import JobRow
from sskai import claims
from sskai.contract import MESSAGES, timestamp
from sskai.database import Database
from sskai.delivery import Relay
from sskai.events import v1 as events
from sskai.testing import envelope, handle

SERVICE = "monitor"
START = datetime.now(UTC) - timedelta(hours=1)
IDS = {"job_id": "job_1", "tenant_id": "A"}
PLACEMENT = events.Placement(
    cloud="local",
    region="us-east-1",
    zone="use1-az1",
    instance_type="g5.xlarge",
    capacity_type=events.CAPACITY_TYPE_SPOT,
    price_usd_per_hour=0.36,
    on_demand_price_usd_per_hour=1.08,
)


def at(seconds: float) -> Any:
    return timestamp(START + timedelta(seconds=seconds))


def spend(interval: int, attempt: int, start: int, end: int) -> events.SpendRecorded:
    return events.SpendRecorded(
        **IDS,
        interval=interval,
        attempt=attempt,
        machine_id=f"machine_{attempt}",
        placement=PLACEMENT,
        started_at=at(start),
        ended_at=at(end),
        price_usd_per_hour=0.36,
        amount_nano_usd=(end - start) * 100_000,
        on_demand_nano_usd=(end - start) * 300_000,
    )


def progress(attempt: int, step: int, seconds: float, phase: str = "training") -> events.AttemptProgressed:
    return events.AttemptProgressed(
        **IDS, attempt=attempt, phase=phase, step=step, total_steps=20, step_seconds=2.0, at=at(seconds)
    )


def submitted(budget_usd: float | None = None) -> events.JobSubmitted:
    return events.JobSubmitted(**IDS, spec=events.JobSpec(budget_usd=budget_usd), submitted_at=at(-5))


# 12 steps of 2 s, a checkpoint at step 8, killed at 40 s; resumed from 8, 20 steps in all, published at 133 s.
STORY: list[Message] = [
    submitted(),
    events.AttemptStarted(**IDS, attempt=1, machine_id="machine_1", placement=PLACEMENT, started_at=at(0)),
    progress(1, 0, 1, "starting"),
    progress(1, 1, 12),
    progress(1, 8, 26),
    events.CheckpointCommitted(**IDS, attempt=1, step=8, cause="interval", at=at(27)),
    progress(1, 12, 34),
    events.AttemptLost(**IDS, attempt=1, machine_id="machine_1", reason="spot", last_known_step=12, at=at(41)),
    events.JobRequeued(**IDS, reason="spot-interrupted", attempt=1, steps_done=8, requeued_at=at(41)),
    spend(1, 1, 0, 40),
    events.AttemptStarted(**IDS, attempt=2, machine_id="machine_2", placement=PLACEMENT, started_at=at(100)),
    progress(2, 8, 101, "starting"),
    events.AttemptResumed(**IDS, attempt=2, from_attempt=1, from_step=8, lost_steps=4, at=at(106)),
    progress(2, 9, 106),
    progress(2, 20, 128),
    progress(2, 20, 131, "publishing"),
    spend(2, 2, 100, 120),
    spend(3, 2, 120, 133),
    events.AttemptFinished(**IDS, attempt=2, succeeded=True, steps=20, median_step_seconds=2.0, at=at(133)),
    events.JobSucceeded(**IDS, attempt=2, steps=20, metered_intervals=3, submitted_at=at(-5), ended_at=at(133)),
]


class Told:
    """Stands in for Kafka behind the relay."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    async def publish_all(self, envelopes: Any) -> None:
        self.messages += [one.message for one in envelopes]


async def told_by(database: Database) -> list[Message]:
    told = Told()
    await Relay(database, told).publish_batch()
    return told.messages


async def issue(database: Database) -> list[events.ReceiptIssued]:
    """Run the loop with everything due now; the receipts that went out."""
    async with database.transaction() as session:
        await session.execute(update(JobRow).where(JobRow.due_at.is_not(None)).values(due_at=START))
    await loops.issue_receipts(database, settle_seconds=0)
    return [message for message in await told_by(database) if isinstance(message, events.ReceiptIssued)]


@pytest.mark.parametrize("seed", range(5))
async def test_shuffled_and_repeated_facts_give_the_same_receipt_once(database: Database, seed: int) -> None:
    dice = random.Random(seed)
    envelopes = [envelope(message) for message in STORY]
    deliveries = envelopes + dice.sample(envelopes, 10)
    if seed:
        dice.shuffle(deliveries)
    for one in deliveries:
        await handle(HANDLERS, database, Store, one)
    [receipt] = await issue(database)
    await handle(HANDLERS, database, Store, envelopes[-1])
    await handle(HANDLERS, database, Store, STORY[-1])  # told again, as a new event
    assert await issue(database) == []
    receipt.ClearField("issued_at")
    assert receipt == events.ReceiptIssued(
        **IDS,
        outcome="succeeded",
        intervals=3,
        attempts=2,
        interruptions=1,
        machine_seconds=73,
        useful_seconds=40,
        lost_seconds=8,
        overhead_seconds=25,
        paid_nano_usd=73 * 100_000,
        lost_nano_usd=8 * 100_000,
        on_demand_nano_usd=55 * 300_000,
        saving_fraction=1 - 73 / 165,
        restart_seconds=10,
        elapsed_seconds=138,
        waiting_seconds=138 - 73,
    )


@pytest.mark.parametrize("missing", [events.SpendRecorded, events.AttemptFinished])
async def test_a_receipt_waits_for_what_is_on_its_way(database: Database, missing: type[Message]) -> None:
    late = next(message for message in STORY if isinstance(message, missing))
    for message in STORY:
        if message is not late:
            await handle(HANDLERS, database, Store, message)
    assert await issue(database) == []
    await handle(HANDLERS, database, Store, late)
    assert len(await issue(database)) == 1


@pytest.mark.parametrize(
    ("end", "outcome"),
    [
        (events.JobFailed(**IDS, reason="budget", metered_intervals=1, ended_at=at(50)), "failed"),
        (events.JobCancelled(**IDS, metered_intervals=1, ended_at=at(50)), "cancelled"),
    ],
)
async def test_every_end_has_a_receipt(database: Database, end: Message, outcome: str) -> None:
    for message in (submitted(), spend(1, 1, 0, 40), end):
        await handle(HANDLERS, database, Store, message)
    [receipt] = await issue(database)
    assert (receipt.outcome, receipt.paid_nano_usd, receipt.useful_seconds) == (outcome, 4_000_000, 0)


async def test_each_budget_threshold_is_told_once(database: Database) -> None:
    told: list[Message] = []
    for message in (submitted(budget_usd=0.01), spend(1, 1, 0, 40), spend(1, 1, 0, 40), spend(2, 1, 40, 50)):
        told += await handle(HANDLERS, database, Store, message)
    told += await handle(HANDLERS, database, Store, spend(3, 1, 50, 110))
    assert [(one.fraction, one.budget_usd) for one in told] == [(0.5, 0.01), (0.8, 0.01), (1.0, 0.01)]
    assert [one.spent_usd for one in told] == pytest.approx([0.005, 0.011, 0.011])


async def test_a_budget_that_is_told_after_the_spending_counts_too(database: Database) -> None:
    assert await handle(HANDLERS, database, Store, spend(1, 1, 0, 60)) == []
    told = await handle(HANDLERS, database, Store, submitted(budget_usd=0.01))
    assert [one.fraction for one in told] == [0.5]


async def test_the_receipt_is_read_with_its_rows_by_its_tenant_only(database: Database) -> None:
    for message in STORY:
        await handle(HANDLERS, database, Store, message)
    app = api.build(database, Ingest(database), "token")
    get = partial(_get, app, "/v1/receipts/job_1")
    before = (await get("A")).json()
    assert before["receipt"] is None
    assert [row["amount_nano_usd"] for row in before["rows"]] == [4_000_000, 2_000_000, 1_300_000]
    await issue(database)
    told = (await get("A")).json()
    assert told["receipt"]["paid_nano_usd"] == sum(row["amount_nano_usd"] for row in told["rows"])
    assert told["rows"][0]["capacity_type"] == "spot"
    assert (await get("B")).status_code == 404


async def _get(app: Any, path: str, tenant: str) -> httpx2.Response:
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://monitor") as client:
        return await client.get(path, headers={"X-SSKAI-Tenant": tenant, "X-SSKAI-Internal": "token"})


def test_every_handled_event_is_one_of_the_contract() -> None:
    assert {kind.DESCRIPTOR.full_name for kind in HANDLERS} <= MESSAGES.keys()


async def test_a_receipt_is_due_by_the_databases_clock(database: Database) -> None:
    """A monitor whose clock is ahead would otherwise wait until the database has caught up."""
    ahead = datetime.now(UTC) + timedelta(minutes=5)
    for fact in (submitted(), events.JobCancelled(**IDS, submitted_at=at(-5), ended_at=at(10))):
        await handle(HANDLERS, database, Store, fact, ahead)
    assert [row.job_id for row in await claims.claim(database, JobRow)] == ["job_1"]
