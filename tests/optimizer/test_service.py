"""Events in, plans out: handlers and the planning loop on a real PostgreSQL, with a double of the profiling worker."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.message import Message
from sqlalchemy import func, select, update

from services.optimizer import catalogue, domain, messages, snapshot
from services.optimizer.handlers import HANDLERS
from services.optimizer.loops import Planner
from services.optimizer.profiler import ProfileError, WorkerError
from services.optimizer.profiles import MAX_TRIES
from services.optimizer.settings import Settings
from services.optimizer.store import Store
from services.optimizer.tables import MarketRow, PlanningRow, PlanRow
from services.optimizer.values import Offer, Plan
from sskai import contract, testing
from sskai.database import Database
from sskai.delivery import Relay
from sskai.events import v1 as events
from tests.optimizer.made import COUNTED, SMOLLM2_PROFILE, spec, submitted

SERVICE = "optimizer"


class KnownProfile:
    """A profiler that knows one model, or fails as told."""

    def __init__(self, *failures: Exception) -> None:
        self.asked: list[dict[str, Any]] = []
        self.failures = list(failures)

    async def profile(self, request: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(request)
        if self.failures:
            raise self.failures.pop(0)
        return COUNTED["smollm2-135m/lora"]


class KnownCode:
    """A sandbox that knows one model's code, or fails as told."""

    def __init__(self, counts: dict[str, Any] | None = None, *failures: Exception) -> None:
        self.asked: list[str] = []
        self.counts = counts or {}
        self.failures = list(failures)

    async def profile(self, code_uri: str) -> dict[str, Any]:
        self.asked.append(code_uri)
        if self.failures:
            raise self.failures.pop(0)
        return self.counts


class World:
    """The optimizer without its process."""

    def __init__(
        self, database: Database, profiler: KnownProfile | None = None, code: KnownCode | None = None, **settings: Any
    ) -> None:
        self.database = database
        self.profiler = profiler or KnownProfile()
        self.code = code or KnownCode()
        self.planner = Planner(database, Settings(**settings), self.profiler, self.code)
        self.bus = testing.InMemoryBus()

    async def hears(self, *happened: Message) -> list[Any]:
        """Handle these events, make the plans that they ask for, and return what was told."""
        for event in happened:
            await testing.handle(HANDLERS, self.database, Store, event)
        return await self.plans()

    async def plans(self) -> list[Any]:
        await self.planner.plan_waiting_jobs()
        before = len(self.bus.told)
        await Relay(self.database, self.bus).publish_batch()
        return self.bus.told[before:]

    async def one_plan(self) -> Any:
        """The plan that is due by now, if any."""
        return next(iter(await self.plans()), None)

    async def rows(self, table: type[Any]) -> list[Any]:
        async with self.database.transaction() as session:
            return list((await session.scalars(select(table))).all())


@pytest.fixture
def world(database: Database) -> World:
    return World(database)


def key_of(placement: events.Placement) -> str:
    kind = "spot" if placement.capacity_type == events.CAPACITY_TYPE_SPOT else "on-demand"
    return f"{placement.cloud}/{placement.region}/{placement.zone}/{placement.instance_type}/{kind}"


def denied(offer: str, job_id: str = "job_1") -> events.CapacityDenied:
    return events.CapacityDenied(offer=offer, job_id=job_id, denied_at=contract.timestamp(datetime.now(UTC)))


def requeued(attempt: int, **fields: Any) -> events.JobRequeued:
    return events.JobRequeued(
        job_id="job_1", tenant_id="tenant_a", reason="spot-interrupted", attempt=attempt, spec=spec(), **fields
    )


def observed(offer: Offer, price_usd_per_hour: float, at: datetime) -> events.PriceObserved:
    return events.PriceObserved(
        offer=offer.key,
        cloud=offer.cloud,
        region=offer.region,
        zone=offer.zone,
        instance_type=offer.instance_type,
        capacity_type=messages.CAPACITY_TYPES[offer.capacity_type],
        price_usd_per_hour=price_usd_per_hour,
        source="test feed",
        observed_at=contract.timestamp(at),
    )


async def test_a_submitted_job_gets_one_plan(world: World) -> None:
    event = testing.envelope(submitted())
    await testing.handle(HANDLERS, world.database, Store, event)
    await testing.handle(HANDLERS, world.database, Store, event)  # delivered twice
    [plan] = await world.hears(submitted())  # and told twice
    assert isinstance(plan, events.PlanProposed)
    assert (plan.job_id, plan.tenant_id, plan.preview, plan.after_attempt) == ("job_1", "tenant_a", False, 0)
    assert plan.profile.parameters == SMOLLM2_PROFILE.parameters
    assert plan.profile.total_steps == plan.profile.steps_left == 143
    assert 1 <= plan.checkpoint_interval_steps <= 143
    assert 1 <= len(plan.candidates) <= domain.MAX_RANKED + domain.MAX_PARETO + 1
    assert plan.explanation
    assert len(plan.SerializeToString()) < 50_000
    assert await world.plans() == []


async def test_a_preview_is_marked_and_leaves_no_job(world: World) -> None:
    [plan] = await world.hears(events.PlanRequested(job_id="job_p", tenant_id="tenant_a", spec=spec()))
    assert isinstance(plan, events.PlanProposed)
    assert plan.preview
    assert await world.plans() == []
    async with world.database.transaction() as session:
        assert await Store(session).job("tenant_a", "job_p") is None


async def test_a_stored_plan_is_decided_again_to_the_bit(world: World) -> None:
    [plan] = await world.hears(submitted(budget_usd=5.0))
    [row] = await world.rows(PlanRow)
    [market] = await world.rows(MarketRow)
    arguments = snapshot.thaw(row.inputs, market.text)
    again = domain.plan(**arguments)
    assert isinstance(again, Plan)
    inputs = snapshot.Inputs(*(arguments[name] for name in ("request", "profile", "assumptions", "now", "history")))
    told = messages.proposed(
        again,
        inputs,
        snapshot.Market(arguments["machines"], arguments["offers"]),
        job_id=row.job_id,
        tenant_id=row.tenant_id,
        plan_id=row.plan_id,
        preview=row.preview,
        after_attempt=row.after_attempt,
        snapshot_hash=row.snapshot_sha256,
        cause=row.cause,
    )
    assert told.SerializeToString(deterministic=True) == row.event == plan.SerializeToString(deterministic=True)


async def test_profiles_and_markets_are_kept_once(world: World) -> None:
    await world.hears(submitted("job_1"), submitted("job_2"))
    await world.hears(submitted("job_3"))
    assert len(world.profiler.asked) == 1
    assert len(await world.rows(PlanRow)) == 3
    assert len(await world.rows(MarketRow)) == 1


async def test_an_impossible_budget_is_refused(world: World) -> None:
    [refusal] = await world.hears(submitted(budget_usd=0.0))
    assert isinstance(refusal, events.PlanRefused)
    assert (refusal.reason, refusal.job_id) == ("budget", "job_1")
    assert refusal.advice


async def test_a_broken_model_is_refused_with_the_profilers_words(database: Database) -> None:
    world = World(database, KnownProfile(ProfileError("config.json names no model_type")))
    [refusal] = await world.hears(submitted())
    assert isinstance(refusal, events.PlanRefused)
    assert (refusal.reason, refusal.detail) == ("model", "config.json names no model_type")


async def test_a_dying_worker_is_tried_again_and_not_for_ever(database: Database) -> None:
    world = World(database, KnownProfile(*[WorkerError("it died")] * MAX_TRIES))
    told = await world.hears(submitted())
    assert told == []
    refusal = await testing.wait_for(world.one_plan, limit_seconds=10)
    assert (refusal.reason, len(world.profiler.asked)) == ("model", MAX_TRIES)
    assert "it died" in refusal.detail
    assert "operator" in refusal.advice, "it need not be the model's fault"


async def test_one_death_of_the_worker_costs_nothing(database: Database) -> None:
    world = World(database, KnownProfile(WorkerError("it died")))
    assert await world.hears(submitted()) == []
    plan = await testing.wait_for(world.one_plan, limit_seconds=10)
    assert isinstance(plan, events.PlanProposed)


async def test_a_requeued_job_is_planned_for_what_is_left(world: World) -> None:
    [first] = await world.hears(submitted(budget_usd=5.0))
    async with world.database.transaction() as session:
        await session.execute(update(PlanRow).values(micro_batch_size=2))
    [rest] = await world.hears(requeued(1, steps_done=100, spent_usd=0.02))
    assert (rest.after_attempt, rest.profile.steps_left) == (1, first.profile.total_steps - 100)
    assert rest.plan_id != first.plan_id
    assert {each.micro_batch_size for each in rest.candidates} == {2}, "another split would not resume to the bit"


async def test_a_late_or_repeated_requeue_plans_nothing(world: World) -> None:
    await world.hears(submitted(), requeued(2, steps_done=50))
    assert await world.hears(requeued(1, steps_done=10), requeued(2, steps_done=10)) == []
    async with world.database.transaction() as session:
        job = await Store(session).job("tenant_a", "job_1")
        assert job is not None
        assert (job.after_attempt, job.steps_done) == (2, 50)


async def test_a_spent_budget_is_refused_when_the_job_comes_back(world: World) -> None:
    await world.hears(submitted(budget_usd=1.0))
    event = requeued(1, steps_done=100, spent_usd=1.0)
    event.spec.budget_usd = 1.0
    [refusal] = await world.hears(event)
    assert isinstance(refusal, events.PlanRefused)
    assert (refusal.reason, refusal.after_attempt) == ("budget", 1)


async def test_a_requeue_uses_the_specification_it_carries(world: World) -> None:
    """After a lost database the requeue is the first that is heard of a job."""
    [plan] = await world.hears(requeued(3, steps_done=40))
    assert (plan.after_attempt, plan.profile.steps_left) == (3, 103)


async def test_a_denied_offer_is_planned_around(world: World) -> None:
    [first] = await world.hears(submitted())
    offer = key_of(first.candidates[0].placement)
    [second] = await world.hears(denied(offer))
    assert offer not in {key_of(each.placement) for each in second.candidates}
    assert [each.reason for each in second.rejections if key_of(each.placement) == offer] == ["denied"]
    [other] = await world.hears(submitted("job_2", "tenant_b"))
    assert offer not in {key_of(each.placement) for each in other.candidates}


async def test_several_denials_at_once_make_one_plan(world: World) -> None:
    [first] = await world.hears(submitted())
    offers = [key_of(each.placement) for each in first.candidates[:3]]
    [second] = await world.hears(*(denied(offer) for offer in offers))
    assert not set(offers) & {key_of(each.placement) for each in second.candidates}


async def test_a_denial_is_forgotten_after_a_while(database: Database) -> None:
    world = World(database, denial_seconds=0.0)
    [first] = await world.hears(submitted())
    [second] = await world.hears(denied(key_of(first.candidates[0].placement)))
    assert second.candidates[0].placement == first.candidates[0].placement


async def test_a_denial_of_an_unknown_offer_changes_nothing(world: World) -> None:
    await world.hears(submitted())
    assert await world.hears(denied("aws/mars-1/*/x1.large/spot")) == []


async def test_an_ended_job_is_not_planned_any_more(world: World) -> None:
    [plan] = await world.hears(submitted())
    ended = events.JobCancelled(job_id="job_1", tenant_id="tenant_a")
    assert await world.hears(ended, requeued(1), denied(key_of(plan.candidates[0].placement))) == []
    assert await world.rows(PlanningRow) == []


async def test_a_job_that_ends_before_it_was_planned_is_not_planned(world: World) -> None:
    assert await world.hears(submitted(), events.JobCancelled(job_id="job_1", tenant_id="tenant_a")) == []


async def test_another_tenants_word_on_a_job_changes_nothing(world: World) -> None:
    await world.hears(submitted())
    await world.hears(events.JobCancelled(job_id="job_1", tenant_id="tenant_b"))
    [plan] = await world.hears(requeued(1, steps_done=1))
    assert isinstance(plan, events.PlanProposed)


async def test_observed_prices_change_the_plan_and_nonsense_does_not(world: World) -> None:
    now = datetime.now(UTC)
    cheap = next(each for each in catalogue.snapshot().offers if each.key == "aws/us-east-1/*/c5.4xlarge/spot")
    [first] = await world.hears(
        observed(cheap, 0.001, now),
        observed(cheap, 1e9, now + timedelta(seconds=1)),
        observed(cheap, -1.0, now + timedelta(seconds=2)),
        observed(cheap, 0.5, now - timedelta(hours=1)),
        submitted(),
    )
    assert key_of(first.candidates[0].placement) == cheap.key
    assert first.candidates[0].placement.price_usd_per_hour == 0.001
    assert "test feed" in first.explanation


async def test_measured_step_times_correct_the_next_plan(world: World) -> None:
    only = events.Resources(instance_types=["c5.xlarge"])
    [first] = await world.hears(submitted(resources=only))
    before = first.candidates[0].step_seconds.expected
    placement = first.candidates[0].placement

    def told(attempt: int, seconds: float) -> events.AttemptProgressed:
        return events.AttemptProgressed(
            job_id="job_1", tenant_id="tenant_a", attempt=attempt, phase="training", step=5, step_seconds=seconds
        )

    await world.hears(
        events.AttemptStarted(job_id="job_1", tenant_id="tenant_a", attempt=1, placement=placement),
        told(1, before * 2),
        told(1, before * 4),  # the newest word counts
        told(7, before * 99),  # an attempt that nobody began
        told(1, float("nan")),
        told(1, -1.0),
    )
    [second] = await world.hears(submitted("job_2", resources=only))
    factor = second.candidates[0].step_seconds.expected / before
    assert 2 < factor < 4  # one measurement of 4, shrunk
    await world.hears(
        events.AttemptFinished(
            job_id="job_1", tenant_id="tenant_a", attempt=1, succeeded=True, median_step_seconds=before
        )
    )
    [third] = await world.hears(submitted("job_3", resources=only))
    assert third.candidates[0].step_seconds.expected == pytest.approx(before, rel=0.01)


async def test_types_that_are_not_offered_stand_among_the_rejects(database: Database) -> None:
    world = World(database, offered_instance_types="m5.large, m7i.*")
    [plan] = await world.hears(submitted())
    assert {each.placement.instance_type for each in plan.candidates} <= {"m5.large", "m7i.large", "m7i.xlarge"}
    assert {each.reason for each in plan.rejections} == {"not-offered"}
    assert len(plan.rejections) == 50


async def test_a_result_whose_lease_ran_out_is_dropped(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    original = world.planner._decide

    async def while_somebody_else_takes_it(row: PlanningRow, *arguments: Any) -> Any:
        async with world.database.transaction() as session:
            taken = await session.get(PlanningRow, row.request_id)
            assert taken is not None
            taken.lease_token = "somebody-else"
        return await original(row, *arguments)

    monkeypatch.setattr(world.planner, "_decide", while_somebody_else_takes_it)
    assert await world.hears(submitted()) == []
    assert await world.rows(PlanRow) == []


async def test_old_plans_are_forgotten(database: Database) -> None:
    world = World(database, plan_retention_days=-1)  # everything is older than tomorrow
    await world.hears(submitted(), events.JobCancelled(job_id="job_9", tenant_id="tenant_a"))
    await world.planner.forget_old_plans()
    async with database.transaction() as session:
        for table in (PlanRow, MarketRow, PlanningRow):
            assert await session.scalar(select(func.count()).select_from(table)) == 0


def test_lists_in_the_environment_are_written_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSKAI_OFFERED_INSTANCE_TYPES", "c5.*, m5.large")
    monkeypatch.setenv("SSKAI_OFFERED_REGIONS", "us-east-1")
    assert Settings().assumptions.offered_instance_types == ("c5.*", "m5.large")
    assert Settings().assumptions.regions == ("us-east-1",)
