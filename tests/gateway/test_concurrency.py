"""Events of one job that come by six topics at once, and requests that mean one name, on a real database."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from google.protobuf.message import Message
from sqlalchemy import select

from services.gateway.domain import JobState, JobView
from services.gateway.handlers import HANDLERS
from services.gateway.keys import Keys
from services.gateway.library import Library
from services.gateway.store import Store
from services.gateway.tables import EventRow, JobRow, KeyRow, RetrainRow
from services.gateway.values import Checked
from sskai.contract import new_id, timestamp
from sskai.database import Database
from sskai.events import v1 as events
from sskai.testing import handle
from tests.gateway.conftest import MODEL, House

SERVICE = "gateway"
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
AT = timestamp(NOW)
IDS = [f"job_{number}" for number in range(20)]


async def side_by_side(database: Database, *lanes: Sequence[Message]) -> list[Message]:
    """Each lane in its order, as a topic's partition is read, and all lanes at once; what was told."""

    async def read(lane: Sequence[Message]) -> list[Message]:
        return [told for message in lane for told in await handle(HANDLERS, database, Store, message, NOW)]

    return [told for lane in await asyncio.gather(*map(read, lanes)) for told in lane]


def lanes_of(job_id: str) -> list[list[Message]]:
    """A job's whole life, by topic."""
    ids: dict[str, Any] = {"job_id": job_id, "tenant_id": f"tenant_{int(job_id[4:]) % 2}"}
    spend = [
        events.SpendRecorded(**ids, interval=interval, attempt=1, amount_nano_usd=7, on_demand_nano_usd=9)
        for interval in (1, 2, 3)
    ]
    return [
        [
            events.JobSubmitted(**ids, spec=events.JobSpec(name="bot"), submitted_at=AT),
            events.JobAdmitted(**ids, plan_id="plan_1", admitted_at=AT),
            events.JobSucceeded(**ids, attempt=1, ended_at=AT),
        ],
        [events.PlanProposed(**ids, plan_id=f"plan_{job_id}", proposed_at=AT)],
        [
            events.AttemptStarted(**ids, attempt=1, machine_id="m", started_at=AT),
            events.AttemptProgressed(**ids, attempt=1, phase="training", step=5, loss=1.5, at=AT),
            events.CheckpointCommitted(**ids, attempt=1, step=5, at=AT),
            events.AttemptFinished(**ids, attempt=1, succeeded=True, at=AT),
        ],
        [
            *spend,
            spend[0],  # told again
            events.BudgetThresholdReached(**ids, fraction=0.8, at=AT),
            events.ReceiptIssued(**ids, issued_at=AT),
        ],
        [events.ModelVersionReady(model_id=f"model_{job_id}", tenant_id=ids["tenant_id"], version=1, ready_at=AT)],
    ]


async def test_every_fact_of_a_job_is_shown_whatever_comes_at_the_same_time(database: Database) -> None:
    lanes = [lane for place, job_id in enumerate(IDS) for lane in lanes_of(job_id)[:: 1 if place % 2 else -1]]
    await side_by_side(database, *lanes)
    async with database.transaction() as session:
        rows = (await session.scalars(select(JobRow))).all()
        logged = Counter(await session.scalars(select(EventRow.type)))
    assert len(rows) == len(IDS)
    assert {(row.name, row.state, row.spent_nano_usd, row.on_demand_nano_usd) for row in rows} == {
        ("bot", JobState.SUCCEEDED, 21, 27)
    }
    for row in rows:
        view = JobView.model_validate(row.view)
        assert (view.plan_id, view.admitted_at, view.budget_fraction) == (f"plan_{row.job_id}", NOW, 0.8)
        assert (view.attempts[1].outcome, view.losses(), list(view.checkpoints)) == ("finished", [(5, 1.5)], [5])
    assert sum(logged.values()) == sum(map(len, lanes))


async def test_a_retrain_that_is_asked_for_by_several_events_at_once_is_one_job(database: Database) -> None:
    ids = [f"retrain_{number}" for number in range(20)]

    async def answer(retrain_id: str) -> bool:
        async with database.transaction() as session:
            return await Store(session).answer_retrain(retrain_id, "A", new_id("job"))

    answers = await asyncio.gather(*(answer(id_) for id_ in ids for _ in range(3)))
    assert sum(answers) == len(ids)
    async with database.transaction() as session:
        assert len((await session.scalars(select(RetrainRow))).all()) == len(ids)


async def test_uploads_of_one_name_at_once_are_numbered_one_by_one(database: Database) -> None:
    async def upload(number: int) -> int:
        async with database.transaction() as session:
            model_id, checked = f"model_{number}", Checked(config_json="{}", parameters=1, bytes=4)
            model = await Library(session).add_uploaded_model(
                "A", "bot", NOW, model_id=model_id, uri="", checked=checked
            )
            return model.version

    assert sorted(await asyncio.gather(*map(upload, range(20)))) == list(range(1, 21))


@pytest.mark.asyncio(loop_scope="session")
async def test_of_endpoints_that_are_asked_for_by_one_name_at_once_one_is_made(house: House) -> None:
    form = {"name": "chat", "model": MODEL}
    answers = await asyncio.gather(*(house.ann.post("/v1/endpoints", json=form) for _ in range(6)))
    assert Counter(answer.status_code for answer in answers) == {202: 1, 409: 5}


@pytest.mark.asyncio(loop_scope="session")
async def test_versions_of_a_dataset_that_are_uploaded_at_once_are_numbered_one_by_one(house: House) -> None:
    made = await asyncio.gather(*(house.dataset(house.ann, rows=[{"text": str(n // 2)}]) for n in range(12)))
    assert Counter(dataset["version"] for dataset in made) == dict.fromkeys(range(1, 7), 2)


@pytest.mark.asyncio(loop_scope="session")
async def test_a_cancellation_that_is_asked_for_several_times_at_once_is_told_once(house: House) -> None:
    job = await house.job(house.ann)
    answers = await asyncio.gather(*(house.ann.post(f"/v1/jobs/{job['id']}/cancel") for _ in range(6)))
    assert {answer.status_code for answer in answers} == {202}
    assert len(await house.told(events.JobCancelRequested)) == 1


async def test_replicas_that_start_at_the_same_time_write_the_operators_key_once(database: Database) -> None:
    async def start(key: str) -> None:
        async with database.transaction() as session:
            await Keys(session).ensure_admin(key, NOW)

    for key in ("sskai_first-key-of-the-operator", "sskai_second-key-of-the-operator"):
        await asyncio.gather(*(start(key) for _ in range(4)))
        async with database.transaction() as session:
            valid = (await session.scalars(select(KeyRow).where(KeyRow.revoked_at.is_(None)))).all()
        assert len(valid) == 1
