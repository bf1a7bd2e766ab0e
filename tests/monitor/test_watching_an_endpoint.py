"""From an endpoint that is ready to a retrain: real text, a real object store, a real database."""

from __future__ import annotations

import asyncio
import json
import random
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from google.protobuf.message import Message
from sqlalchemy import select, update

from services.monitor import loops
from services.monitor.domain import Rules
from services.monitor.drift_watch import Rules as DriftRules
from services.monitor.handlers import HANDLERS
from services.monitor.store import Store
from services.monitor.tables import ReferenceRow
from sskai.contract import new_id, timestamp
from sskai.database import Database
from sskai.events import v1 as events
from sskai.objects import Objects
from sskai.testing import handle
from tests.monitor.texts import jokes, questions

SERVICE = "monitor"
NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
STORE = partial(Store, rules=Rules(drift=DriftRules(min_samples=5), retrain_cooldown_seconds=60))


class Scene:
    """A tenant's endpoint that serves version 1 of a model trained on trivia."""

    def __init__(self, database: Database, objects: Objects) -> None:
        self.database, self.objects = database, objects
        self.model_id = new_id("model")
        dice = random.Random(1)
        trivia = questions("trivia")
        dice.shuffle(trivia)
        self.trained_on, self.unseen = trivia[:180], trivia[180:]
        self.requests = 0

    async def tell(self, *messages: Message, now: datetime = NOW) -> list[Message]:
        """Handle events and, as the bus would, those that they lead to."""
        told: list[Message] = []
        for message in messages:
            for fact in await handle(HANDLERS, self.database, STORE, message, now):
                told.append(fact)
                if type(fact) in HANDLERS:
                    told += await self.tell(fact, now=now)
        return told

    async def deploy(self, rows: list[dict[str, object]] | None = None) -> None:
        rows = rows or [
            {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "..."}]}
            for text in self.trained_on
        ]
        key = f"tenants/A/datasets/{self.model_id}.jsonl"
        data = "".join(json.dumps(row) + "\n" for row in rows).encode()
        await asyncio.to_thread(self.objects.put_bytes, key, data)
        ready = events.EndpointReady(endpoint_id="endpoint_1", tenant_id="A", model_id=self.model_id, version=1)
        await self.tell(ready)
        await loops.fetch_references(self.database, self.objects)  # the version's own event is still on its way
        version = events.ModelVersionReady(
            model_id=self.model_id, tenant_id="A", version=1, job_id="job_1", dataset_uri=self.objects.uri(key)
        )
        await self.tell(version)
        async with self.database.transaction() as session:
            await session.execute(update(ReferenceRow).values(due_at=NOW - timedelta(days=9)))
        await loops.fetch_references(self.database, self.objects)

    async def ask(self, texts: list[str], now: datetime = NOW) -> list[Message]:
        told: list[Message] = []
        for text in texts:
            self.requests += 1
            told += await self.tell(
                events.InferenceSampled(
                    endpoint_id="endpoint_1",
                    tenant_id="A",
                    inference_id=f"inference_{self.requests}",
                    model_id=self.model_id,
                    version=1,
                    input_text=text,
                    at=timestamp(now),
                ),
                now=now,
            )
        return told


@pytest.fixture
def scene(database: Database, objects: Objects) -> Scene:
    return Scene(database, objects)


def kinds(told: list[Message]) -> list[str]:
    return [type(message).__name__ for message in told]


async def test_drift_leads_to_one_retrain_at_a_time(scene: Scene) -> None:
    await scene.deploy()
    assert await scene.ask(scene.unseen[:20]) == []

    told = await scene.ask(jokes()[:40])
    assert kinds(told)[:2] == ["DriftDetected", "RetrainRequested"]
    drift, retrain = told[:2]
    assert isinstance(drift, events.DriftDetected)
    assert isinstance(retrain, events.RetrainRequested)
    assert drift.statistic >= drift.threshold == pytest.approx(1 / drift.alpha)
    assert (drift.tenant_id, drift.version, drift.reference) == ("A", 1, "training-data")
    # Jokes are longer and of other words. Novelty is ranked among the half of the texts that it was not learnt from.
    assert (drift.signal, drift.reference_size) in {("input-vocabulary", 90), ("input-length", 180)}
    assert 20 < drift.sample_size <= 60
    assert drift.recent_mean > drift.reference_mean
    assert drift.recent_samples < drift.sample_size
    assert drift.explanation.startswith("Requests ")
    of_words = next(one for one in told if isinstance(one, events.DriftDetected) and one.signal == "input-vocabulary")
    assert of_words.explanation.startswith("Requests use other words and turns of phrase: 0.")
    assert of_words.new_words
    assert (retrain.parent_job_id, retrain.model_id, retrain.version) == ("job_1", scene.model_id, 1)
    assert "conformal-martingale" in retrain.reason
    assert drift.explanation in retrain.reason

    # While its job runs, drift is told but nothing more is started.
    spec = events.JobSpec(retrain_of=events.RetrainOf(endpoint_id="endpoint_1", model_id=scene.model_id, version=1))
    await scene.tell(events.JobSubmitted(job_id="job_2", tenant_id="A", spec=spec))
    later = NOW + timedelta(hours=2)
    again = await scene.ask(jokes()[40:140], now=later)
    assert kinds(again)[:2] == ["DriftDetected", "RetrainDeclined"]
    assert {one.rule for one in again if isinstance(one, events.RetrainDeclined)} == {"in-flight"}

    # Ended: first the cooldown, then the next retrain.
    await scene.tell(events.JobSucceeded(job_id="job_2", tenant_id="A", ended_at=timestamp(later)), now=later)
    drift.detected_at.CopyFrom(timestamp(later))
    [declined] = await scene.tell(drift, now=later + timedelta(seconds=59))
    assert isinstance(declined, events.RetrainDeclined)
    assert declined.rule == "cooldown"
    assert kinds(await scene.tell(drift, now=later + timedelta(seconds=61))) == ["RetrainRequested"]


async def test_a_new_version_is_tested_against_its_own_data(scene: Scene) -> None:
    await scene.deploy()
    await scene.ask(jokes()[:4])
    newer = events.EndpointReady(endpoint_id="endpoint_1", tenant_id="A", model_id=scene.model_id, version=2)
    await scene.tell(newer)
    drifted = events.DriftDetected(endpoint_id="endpoint_1", tenant_id="A", model_id=scene.model_id, version=1)
    assert await scene.tell(drifted) == []  # nobody serves version 1 any more
    async with scene.database.transaction() as session:
        wanted = await session.scalars(select(ReferenceRow.version).where(ReferenceRow.texts.is_(None)))
        assert list(wanted) == [2]


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([{"text": "only one"}], "too few"),
        ([{"label": 1}] * 50, "0 texts"),
    ],
)
async def test_data_that_gives_no_reference_says_why(scene: Scene, rows: list[dict[str, object]], problem: str) -> None:
    await scene.deploy(rows)
    async with scene.database.transaction() as session:
        row = (await session.scalars(select(ReferenceRow))).one()
    assert row.texts is None
    assert problem in (row.problem or "")
    assert row.due_at is None
    assert await scene.ask(jokes()[:10]) == []


async def test_another_tenants_word_starts_no_retrain(scene: Scene) -> None:
    await scene.deploy()
    drift = events.DriftDetected(endpoint_id="endpoint_1", tenant_id="B", model_id=scene.model_id, version=1)
    assert await scene.tell(drift) == []


async def test_a_deleted_endpoint_is_left_alone_whatever_comes_late(scene: Scene) -> None:
    await scene.tell(events.EndpointDeleted(endpoint_id="endpoint_1", tenant_id="A"))
    await scene.deploy()
    drift = events.DriftDetected(endpoint_id="endpoint_1", tenant_id="A", model_id=scene.model_id, version=1)
    [declined] = await scene.tell(drift)
    assert isinstance(declined, events.RetrainDeclined)
    assert declined.rule == "disabled"
