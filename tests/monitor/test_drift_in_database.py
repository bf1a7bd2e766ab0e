"""Drift tests in a real database: what comes twice, late or out of order counts once; a version has its own tests."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import func, select

from services.monitor import drift_store
from services.monitor.domain import Rules
from services.monitor.drift_store import DriftStore
from services.monitor.drift_view import endpoint_drift
from services.monitor.drift_watch import Rules as DriftRules
from services.monitor.handlers import HANDLERS
from services.monitor.store import Store
from services.monitor.tables import DriftSampleRow, DriftWatchRow, DriftWindowRow, EndpointRow, ReferenceRow
from sskai.contract import timestamp
from sskai.database import Database
from sskai.events import v1 as events
from sskai.testing import envelope, handle
from tests.monitor.texts import questions

SERVICE = "monitor"
NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
RULES = Rules(drift=DriftRules(min_samples=5, window_samples=48, window_labels=10))
STORE = partial(Store, rules=RULES)
TRIVIA = questions("trivia")


def sample(number: int, version: int = 1, **changes: Any) -> events.InferenceSampled:
    dice = random.Random(number)
    given: dict[str, Any] = {
        "endpoint_id": "endpoint_1",
        "tenant_id": "A",
        "inference_id": f"inf_{version}_{number}",
        "model_id": "model_1",
        "version": version,
        "input_text": TRIVIA[number % len(TRIVIA)],
        "output_text": f"It is {dice.choice(TRIVIA)}",
        "input_tokens": dice.randint(20, 40),
        "output_tokens": dice.randint(20, 40),
        "mean_logprob": -dice.random(),
        "at": timestamp(NOW + timedelta(seconds=number)),
    }
    return events.InferenceSampled(**(given | changes))


def feedback(number: int, version: int = 1, **said: Any) -> events.FeedbackGiven:
    return events.FeedbackGiven(
        endpoint_id="endpoint_1",
        tenant_id="A",
        inference_id=f"inf_{version}_{number}",
        model_id="model_1",
        version=version,
        given_at=timestamp(NOW),
        **said,
    )


async def tell(database: Database, *messages: Any) -> list[events.DriftDetected]:
    told: list[events.DriftDetected] = []
    for message in messages:
        told += await handle(HANDLERS, database, STORE, message, NOW)
    return told


async def watch_of(database: Database, version: int = 1) -> DriftWatchRow:
    async with database.transaction() as session:
        row = await session.get(DriftWatchRow, ("endpoint_1", "model_1", version))
    assert row is not None
    return row


@pytest.fixture(autouse=True)
def forget_fitted() -> None:
    """Each test has a database of its own with the same names in it."""
    drift_store._fitted.clear()


async def test_a_sample_told_twice_counts_once(database: Database) -> None:
    first = sample(1)
    again = envelope(sample(2))
    await tell(database, first, first, again, again)  # two events about one inference; one event twice
    watch = await watch_of(database)
    assert (watch.state["samples"], watch.rows) == (2, 2)


async def test_a_restarted_monitor_goes_on_where_it_was(database: Database) -> None:
    """Half before, half after: the state is that of a monitor that never stopped, to the bit."""
    await tell(database, *(sample(number) for number in range(60)))
    drift_store._fitted.clear()
    await tell(database, *(sample(number) for number in range(60, 80)))
    went_on = (await watch_of(database)).state
    async with database.transaction() as session:
        for table in (DriftWatchRow, DriftSampleRow, DriftWindowRow):
            await session.execute(table.__table__.delete())
    await tell(database, *(sample(number) for number in range(80)))
    assert (await watch_of(database)).state == went_on
    assert went_on["window_ready"]
    assert went_on["tests"]["input-vocabulary@healthy-window"]["samples"] == 32


async def test_a_healthy_window_is_a_reference_and_what_leaves_it_is_told(database: Database) -> None:
    assert await tell(database, *(sample(number) for number in range(70))) == []
    async with database.transaction() as session:
        window = (await session.scalars(select(DriftWindowRow))).one()
    assert window.inputs == [TRIVIA[number] for number in range(48)]
    told = await tell(database, *(sample(number, output_tokens=900) for number in range(70, 130)))
    alarm = next(one for one in told if one.signal == "output-length")
    assert (alarm.reference, alarm.test, alarm.reference_size) == ("healthy-window", "conformal-martingale", 48)
    assert alarm.statistic >= alarm.threshold == pytest.approx(1 / alarm.alpha)
    assert alarm.explanation.startswith("Answers became longer: ")
    assert alarm.recent_mean > 200 > 40 > alarm.reference_mean
    assert NOW + timedelta(seconds=68) <= alarm.began_at.ToDatetime(UTC) <= NOW + timedelta(seconds=75)
    # The read model has it, too.
    async with database.transaction() as session:
        [shown] = await endpoint_drift(DriftStore(session), "endpoint_1", "A", RULES.drift.alpha)
        assert await endpoint_drift(DriftStore(session), "endpoint_1", "B", RULES.drift.alpha) == []
    assert alarm.explanation in [one["explanation"] for one in shown["alarms"]]
    assert shown["healthy_window"] == {"samples": 48, "ready": True}
    test = next(one for one in shown["tests"] if one["signal"] == "output-length")
    assert (test["reference"], test["unit"], test["threshold"]) == ("healthy-window", "tokens", alarm.threshold)
    assert {one["member"] for one in shown["tests"] if one["signal"] == "input-topic"} != {""}


async def test_a_new_version_has_its_own_tests_and_window(database: Database) -> None:
    await tell(database, *(sample(number) for number in range(60)))
    # A canary: both versions answer under one name, by turns.
    for number in range(60, 70):
        await tell(database, sample(number), sample(number, version=2))
    old, new = await watch_of(database), await watch_of(database, 2)
    assert (old.state["samples"], new.state["samples"]) == (70, 10)
    assert (old.state["window_ready"], new.state["window_ready"]) == (True, False)
    assert new.state["tests"] == {}
    async with database.transaction() as session:
        wanted = list(await session.scalars(select(ReferenceRow.version).order_by(ReferenceRow.version)))
    assert wanted == [1, 2]


async def test_a_label_counts_once_and_its_loss_when_both_are_there(database: Database) -> None:
    label = feedback(1, label="Paris", correction="It is Paris")
    await tell(database, label, feedback(1, label="Rome"))  # before the sample; and a second thought
    watch = await watch_of(database)
    assert watch.state["collecting"] == {}
    await tell(database, sample(1, output_text="It is Paris"), sample(1, output_text="It is Rome"))
    watch = await watch_of(database)
    assert watch.state["collecting"]["quality-loss"] == [0.0]
    assert watch.state["samples"] == 1
    # The other way round.
    await tell(database, sample(2, output_text="It is Rome"), feedback(2, score=0.0, correction="It is Paris"))
    watch = await watch_of(database)
    assert watch.state["collecting"]["quality-loss"] == [0.0, pytest.approx(1 / 3)]
    assert watch.state["collecting"]["quality-score"] == [1.0]


async def test_falling_scores_are_drift(database: Database) -> None:
    assert await tell(database, *(feedback(number, score=1.0, label="up") for number in range(20))) == []
    told = await tell(database, *(feedback(number, score=0.0, label="down") for number in range(20, 50)))
    assert [one.signal for one in told[:1]] == ["quality-score"]
    assert told[0].explanation.startswith("Users rate answers lower: ")


async def test_another_tenants_samples_change_nothing(database: Database) -> None:
    await tell(database, sample(1), sample(2, tenant_id="B"))
    assert (await watch_of(database)).state["samples"] == 1


async def test_whatever_anybody_tells_is_taken(database: Database) -> None:
    odd = sample(1, input_text="a\x00b" * 5_000, output_text="\x00", mean_logprob=float("nan"))
    await tell(database, odd, feedback(2, score=float("nan"), label="\x00", correction="x" * 9_000))
    assert (await watch_of(database)).rows == 2


async def test_old_rows_go(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift_store, "MAX_ROWS", 20)
    monkeypatch.setattr(drift_store, "DELETE_EVERY", 10)
    await tell(database, *(feedback(number, score=1.0) for number in range(50)))
    async with database.transaction() as session:
        numbers = list(await session.scalars(select(DriftSampleRow.number).order_by(DriftSampleRow.number)))
    assert numbers == list(range(31, 51))


async def test_versions_that_nobody_asks_are_forgotten(database: Database) -> None:
    await tell(database, sample(1), sample(1, version=2))
    later = NOW + timedelta(days=20)
    await handle(HANDLERS, database, STORE, sample(2, version=2), later)
    async with database.transaction() as session:
        await DriftStore(session).forget(NOW + timedelta(days=31))
    async with database.transaction() as session:
        assert list(await session.scalars(select(DriftWatchRow.version))) == [2]
        assert list(await session.scalars(select(DriftSampleRow.version).distinct())) == [2]
        session.add(EndpointRow(endpoint_id="endpoint_1", tenant_id="A", model_id="model_1", version=2, deleted=True))
    async with database.transaction() as session:
        await DriftStore(session).forget(later)
    async with database.transaction() as session:
        assert await session.scalar(select(func.count()).select_from(DriftWatchRow)) == 0


@pytest.mark.parametrize("promoted", [True, False])
async def test_the_version_that_answers_is_the_one_whose_drift_counts(database: Database, promoted: bool) -> None:
    ready = events.EndpointReady(endpoint_id="endpoint_1", tenant_id="A", model_id="model_1", version=1)
    names = {"model_id": "model_1", "tenant_id": "A", "version": 2, "endpoint_id": "endpoint_1"}
    await tell(database, ready)
    if promoted:
        await tell(database, events.ModelPromoted(**names, alias="champion", previous_version=1))
        async with database.transaction() as session:
            row = await session.get(EndpointRow, "endpoint_1")
            assert row is not None
            assert row.version == 2
    await tell(database, events.ModelRolledBack(**names, to_version=1))
    async with database.transaction() as session:
        row = await session.get(EndpointRow, "endpoint_1")
    assert row is not None
    assert row.version == 1
