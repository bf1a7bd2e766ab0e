"""Policies, suggestions, decisions, schedules and new data through the monitor's handlers, on a real database."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import httpx2
import pytest
from google.protobuf.message import Message
from sqlalchemy import select, update

from services.monitor import api
from services.monitor.domain import Rules
from services.monitor.handlers import HANDLERS
from services.monitor.ingest import Ingest
from services.monitor.retrain_loops import end_suggestions, follow_schedules
from services.monitor.store import Store
from services.monitor.tables import RetrainingRow, SuggestionRow
from sskai.contract import timestamp
from sskai.database import Database
from sskai.delivery import Relay
from sskai.events import v1 as events
from sskai.testing import InMemoryBus, handle

SERVICE = "monitor"
NOW = datetime(2026, 11, 15, 12, tzinfo=UTC)
RULES = Rules(retrain_cooldown_seconds=60, retrain_suggestion_hours=24)
STORE = partial(Store, rules=RULES)
OF = {"endpoint_id": "endpoint_1", "tenant_id": "A"}


class Scene:
    """An endpoint that serves version 1, which job_1 made of support@2."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def tell(self, *messages: Message, minutes: float = 0) -> list[Any]:
        told = []
        for message in messages:
            told += await handle(HANDLERS, self.database, STORE, message, NOW + timedelta(minutes=minutes))
        return told

    async def deploy(self, **policy: Any) -> None:
        await self.tell(
            job("job_1", 2),
            events.ModelVersionReady(model_id="model_1", tenant_id="A", version=1, job_id="job_1"),
            events.EndpointReady(**OF, model_id="model_1", version=1),
        )
        if policy:
            await self.tell(policy_set(**policy))

    async def published(self) -> list[Message]:
        """What was told since the last time, by loops, too."""
        bus = InMemoryBus()
        await Relay(self.database, bus).publish_batch()
        return bus.told


def policy_set(minutes: float = 0, **policy: Any) -> events.RetrainingPolicySet:
    at = timestamp(NOW + timedelta(minutes=minutes))
    return events.RetrainingPolicySet(**OF, **{"on_drift": True, "set_at": at, **policy})


def job(job_id: str, dataset_version: int, *, retrain: bool = False, budget_usd: float | None = None) -> Message:
    spec = events.JobSpec(
        dataset=events.DatasetRef(name="support", version=dataset_version),
        budget_usd=budget_usd,
        retrain_of=events.RetrainOf(endpoint_id="endpoint_1", model_id="model_1", version=1) if retrain else None,
    )
    return events.JobSubmitted(job_id=job_id, tenant_id="A", spec=spec, submitted_at=timestamp(NOW))


def drift(minutes: float = 0, **changes: Any) -> events.DriftDetected:
    at = timestamp(NOW + timedelta(minutes=minutes))
    fields = {"signal": "input-content", "reference": "training-data", "sample_size": 40, "recent_samples": 30}
    return events.DriftDetected(**OF, **{"model_id": "model_1", "version": 1, "detected_at": at, **fields, **changes})


def dataset(version: int, name: str = "support", tenant_id: str = "A") -> events.DatasetValidated:
    return events.DatasetValidated(dataset_id=f"dataset_{name}", tenant_id=tenant_id, name=name, version=version)


def decided(suggestion: events.RetrainSuggested, *, approved: bool, minutes: float = 1) -> events.RetrainDecided:
    at = timestamp(NOW + timedelta(minutes=minutes))
    return events.RetrainDecided(
        **OF, retrain_id=suggestion.retrain_id, approved=approved, decided_by="key_1", decided_at=at
    )


def kinds(told: list[Any]) -> list[str]:
    """The events by their names, a refusal with its rule."""
    return [f"{type(one).__name__}{f':{one.rule}' if isinstance(one, events.RetrainDeclined) else ''}" for one in told]


@pytest.fixture
def scene(database: Database) -> Scene:
    return Scene(database)


async def test_auto_requests_with_the_policys_data_and_what_is_left_of_its_budget(scene: Scene) -> None:
    await scene.deploy(mode="auto", data="traffic", budget_usd_per_month=10, max_job_budget_usd=30)
    spent = events.SpendRecorded(
        job_id="job_0", tenant_id="A", interval=1, amount_nano_usd=4_000_000_000,
        started_at=timestamp(NOW - timedelta(hours=2)), ended_at=timestamp(NOW - timedelta(hours=1)),
    )  # fmt: skip
    await scene.tell(job("job_0", 1, retrain=True), spent)
    ended = timestamp(NOW - timedelta(hours=1))
    await scene.tell(events.JobSucceeded(job_id="job_0", tenant_id="A", ended_at=ended), minutes=-60)
    [requested] = await scene.tell(drift())
    assert kinds([requested]) == ["RetrainRequested"]
    assert (requested.data, requested.parent_job_id, requested.budget_usd) == ("traffic", "job_1", 6)


async def test_a_yes_makes_of_a_suggestion_one_retrain(scene: Scene) -> None:
    await scene.deploy(mode="approve", data="traffic")
    [suggestion] = await scene.tell(drift())
    assert (suggestion.reason, suggestion.data, suggestion.version) == ("drift", "traffic", 1)
    assert suggestion.expires_at.ToDatetime(tzinfo=UTC) == NOW + timedelta(hours=24)
    assert kinds(await scene.tell(drift(30), minutes=30)) == ["RetrainDeclined:in-flight"]
    [requested] = await scene.tell(decided(suggestion, approved=True), minutes=31)
    assert (requested.retrain_id, requested.data) == (suggestion.retrain_id, "traffic")
    # The first word counts, and the loop has nothing to end.
    for again in (True, False):
        assert await scene.tell(decided(suggestion, approved=again), minutes=32) == []
    await end_suggestions(scene.database, RULES)
    assert kinds(await scene.published()).count("RetrainDeclined:expired") == 0


async def test_a_no_and_the_cooldown_after_it(scene: Scene) -> None:
    await scene.deploy(mode="approve")
    [suggestion] = await scene.tell(drift())
    [declined] = await scene.tell(decided(suggestion, approved=False), minutes=1)
    assert (declined.rule, declined.detail, declined.retrain_id) == ("declined", "by key_1", suggestion.retrain_id)
    assert declined.reason == "drift"
    assert kinds(await scene.tell(drift(1.5), minutes=1.5)) == ["RetrainDeclined:cooldown"]
    assert kinds(await scene.tell(drift(2.1), minutes=2.1)) == ["RetrainSuggested"]
    assert await scene.tell(decided(suggestion, approved=True), minutes=3) == []


async def test_suggest_only_tells(scene: Scene) -> None:
    await scene.deploy(mode="suggest")
    [suggestion] = await scene.tell(drift())
    assert not suggestion.HasField("expires_at")
    async with scene.database.transaction() as session:
        row = (await session.scalars(select(SuggestionRow))).one()
        assert (row.state, row.due_at) == ("told", None)
    assert await scene.tell(decided(suggestion, approved=True), minutes=1) == []
    assert kinds(await scene.tell(drift(0.5), minutes=0.5)) == ["RetrainDeclined:cooldown"]
    assert kinds(await scene.tell(drift(5), minutes=5)) == ["RetrainSuggested"]


async def test_a_yes_is_too_late_for_another_version_and_after_its_time(scene: Scene) -> None:
    await scene.deploy(mode="approve")
    [first] = await scene.tell(drift())
    late = decided(first, approved=True, minutes=24 * 60 + 1)
    assert kinds(await scene.tell(late, minutes=24 * 60 + 1)) == ["RetrainDeclined:expired"]
    [second] = await scene.tell(drift(2000), minutes=2000)
    await scene.tell(events.EndpointReady(**OF, model_id="model_1", version=2))
    yes = decided(second, approved=True, minutes=2001)
    assert kinds(await scene.tell(yes, minutes=2001)) == ["RetrainDeclined:outdated"]


async def test_a_suggestion_for_a_version_that_is_gone_holds_up_nothing(scene: Scene) -> None:
    await scene.deploy(mode="approve")
    await scene.tell(drift())
    await scene.tell(
        events.ModelVersionReady(model_id="model_1", tenant_id="A", version=2, job_id="job_1"),
        events.EndpointReady(**OF, model_id="model_1", version=2),
    )
    told = await scene.tell(drift(60, version=2), minutes=60)
    assert kinds(told) == ["RetrainDeclined:outdated", "RetrainDeclined:cooldown"]
    assert kinds(await scene.tell(drift(62, version=2), minutes=62)) == ["RetrainSuggested"]


async def test_what_nobody_decides_expires_once(scene: Scene) -> None:
    await scene.deploy(mode="approve")
    [suggestion] = await scene.tell(drift())
    async with scene.database.transaction() as session:
        await session.execute(update(SuggestionRow).values(due_at=NOW - timedelta(days=900)))
    await asyncio.gather(*(end_suggestions(scene.database, RULES, NOW) for _ in range(3)))
    told = [one for one in await scene.published() if isinstance(one, events.RetrainDeclined)]
    assert [(one.rule, one.retrain_id) for one in told] == [("expired", suggestion.retrain_id)]
    assert await scene.tell(decided(suggestion, approved=True), minutes=2) == []


async def test_alarms_count_once_they_are_confirmed(scene: Scene) -> None:
    await scene.deploy(mode="auto", confirm_alarms=2, confirm_samples=50)
    first = drift(1)
    assert kinds(await scene.tell(first)) == ["RetrainDeclined:unconfirmed"]
    assert kinds(await scene.tell(first)) == ["RetrainDeclined:unconfirmed"]  # told again by somebody
    assert kinds(await scene.tell(drift(2, signal="input-topic"))) == ["RetrainDeclined:unconfirmed"]
    assert kinds(await scene.tell(drift(3))) == ["RetrainRequested"]
    assert kinds(await scene.tell(drift(4))) == ["RetrainDeclined:unconfirmed"]  # the next one begins anew


async def test_a_newer_version_of_the_data_counts_once_in_any_order(scene: Scene) -> None:
    await scene.deploy(mode="approve", on_drift=False, on_new_dataset=True)
    assert await scene.tell(drift()) == []
    assert await scene.tell(dataset(2), dataset(9, "other"), dataset(9, tenant_id="B")) == []
    [suggestion] = await scene.tell(dataset(4))
    assert (suggestion.reason, suggestion.detail) == (
        "new-dataset", "support@4 is there; version 1 was trained on support@2"
    )  # fmt: skip
    assert await scene.tell(dataset(3), dataset(4)) == []
    assert kinds(await scene.tell(dataset(5))) == ["RetrainDeclined:in-flight"]


async def test_what_a_retrain_takes_itself_starts_no_other(scene: Scene) -> None:
    await scene.deploy(mode="auto", on_new_dataset=True, data="traffic")
    assert kinds(await scene.tell(drift())) == ["RetrainRequested"]
    assert await scene.tell(dataset(3)) == []  # the gateway cut it for this retrain
    await scene.tell(job("job_2", 4, retrain=True))
    assert await scene.tell(dataset(4)) == []  # heard of only after the job
    assert kinds(await scene.tell(dataset(5))) == ["RetrainDeclined:in-flight"]


async def test_a_schedule_fires_once_however_many_look(scene: Scene) -> None:
    await scene.deploy(mode="auto", on_drift=False, schedule="0 3 * * *")
    async with scene.database.transaction() as session:
        row = (await session.scalars(select(RetrainingRow))).one()
        assert row.scheduled_for == row.due_at == datetime(2026, 11, 16, 3, tzinfo=UTC)
        await session.execute(update(RetrainingRow).values(due_at=NOW - timedelta(days=900)))
    # By this monitor's clock it is a second too early: the next time is the day after, not in a second.
    early = datetime(2026, 11, 16, 2, 59, 59, tzinfo=UTC)
    await asyncio.gather(*(follow_schedules(scene.database, RULES, early) for _ in range(4)))
    requested = [one for one in await scene.published() if isinstance(one, events.RetrainRequested)]
    assert [one.reason for one in requested] == ["it is time by the schedule 0 3 * * *"]
    async with scene.database.transaction() as session:
        row = (await session.scalars(select(RetrainingRow))).one()
        assert row.scheduled_for == datetime(2026, 11, 17, 3, tzinfo=UTC)


async def test_an_older_policy_that_comes_late_changes_nothing(scene: Scene) -> None:
    await scene.deploy()
    await scene.tell(policy_set(5, mode="approve"), policy_set(1, mode="auto"))
    assert kinds(await scene.tell(drift())) == ["RetrainSuggested"]
    removed = events.RetrainingPolicyRemoved(**OF, removed_at=timestamp(NOW + timedelta(minutes=9)))
    assert kinds(await scene.tell(removed)) == ["RetrainDeclined:withdrawn"]
    assert await scene.tell(removed, policy_set(7, mode="suggest")) == []
    assert kinds(await scene.tell(drift(20), minutes=20)) == ["RetrainRequested"]  # the operator's rules


async def test_what_waits_goes_with_its_endpoint(scene: Scene) -> None:
    await scene.deploy(mode="approve", schedule="0 3 * * *")
    [suggestion] = await scene.tell(drift())
    gone = events.EndpointDeleted(**OF)
    assert kinds(await scene.tell(gone)) == ["RetrainDeclined:disabled"]
    assert await scene.tell(gone, decided(suggestion, approved=True)) == []
    assert kinds(await scene.tell(drift(9), minutes=9)) == ["RetrainDeclined:disabled"]


async def test_nobody_decides_or_sets_for_another_tenant(scene: Scene) -> None:
    await scene.deploy(mode="approve")
    [suggestion] = await scene.tell(drift())
    theirs = decided(suggestion, approved=True)
    theirs.tenant_id = "B"
    others = policy_set(9, mode="auto")
    others.tenant_id = "B"
    assert await scene.tell(theirs, others) == []
    assert kinds(await scene.tell(decided(suggestion, approved=True))) == ["RetrainRequested"]


@pytest.mark.parametrize("seed", range(6))
async def test_in_any_order_and_told_twice_each_retrain_has_one_end(scene: Scene, seed: int) -> None:
    """Policies, alarms, data, decisions and jobs, shuffled, each told up to three times as other events."""
    dice = random.Random(seed)
    await scene.deploy()
    facts: list[Any] = [
        policy_set(1, mode="approve", on_new_dataset=True, cooldown_seconds=0),
        policy_set(2, mode="auto", on_new_dataset=True, cooldown_seconds=0),
        policy_set(3, mode="approve", on_new_dataset=True, cooldown_seconds=0),
        *(drift(minutes) for minutes in range(12)),
        *(dataset(version) for version in (3, 4, 5)),
        *(job(f"job_{number}", 3, retrain=True) for number in (2, 3)),
        *(events.JobSucceeded(job_id=f"job_{number}", tenant_id="A", ended_at=timestamp(NOW)) for number in (2, 3)),
    ] * dice.randint(1, 3)
    dice.shuffle(facts)
    requested, over, suggested = list[str](), list[str](), list[Any]()
    for minutes, fact in enumerate(facts):
        told = await scene.tell(fact, minutes=minutes)
        if suggested and dice.random() < 0.5:
            word = decided(dice.choice(suggested), approved=dice.random() < 0.5, minutes=minutes)
            told += await scene.tell(word, word, minutes=minutes)
        suggested += [one for one in told if isinstance(one, events.RetrainSuggested)]
        requested += [one.retrain_id for one in told if isinstance(one, events.RetrainRequested)]
        over += [one.retrain_id for one in told if isinstance(one, events.RetrainDeclined)]
        async with scene.database.transaction() as session:
            states = list(await session.scalars(select(SuggestionRow.state)))
        assert states.count("waiting") <= 1
    ends = [*requested, *over]
    assert requested
    assert len(set(ends)) == len(ends)
    assert len({one.retrain_id for one in suggested} - set(ends)) == states.count("waiting")


async def test_the_gateway_may_ask_how_it_stands(scene: Scene) -> None:
    await scene.deploy(mode="approve", budget_usd_per_month=5, schedule="0 3 * * *")
    [suggestion] = await scene.tell(drift())
    app = api.build(scene.database, Ingest(scene.database), "token", rules=RULES)
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://monitor") as client:

        async def ask(tenant_id: str) -> httpx2.Response:
            headers = {"X-SSKAI-Internal": "token", "X-SSKAI-Tenant": tenant_id}
            return await client.get("/v1/retraining/endpoint_1", headers=headers)

        shown = (await ask("A")).json()
        assert (await ask("B")).status_code == 404
    assert (shown["set_by"], shown["spent_usd"]) == ("owner", 0)
    assert shown["policy"] == {
        "mode": "approve",
        "on": {"drift": True, "new_dataset": False, "schedule": "0 3 * * *"},
        "data": "dataset",
        "budget_usd_per_month": 5,
        "cooldown": "60s",
        "confirmations": {"alarms": 1, "samples": 0},
        "max_job_budget_usd": None,
    }
    assert shown["next_at"] == "2026-11-16T03:00:00Z"
    assert [one["retrain_id"] for one in shown["pending"]] == [suggestion.retrain_id]
    assert shown["refused_now"]["rule"] == "in-flight"
