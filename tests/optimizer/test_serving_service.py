"""Events in, plans of endpoints out: handler and loop on a real PostgreSQL, with a double of the profiling worker."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import pytest
from google.protobuf.message import Message
from sqlalchemy import func, select

from services.optimizer import serving, serving_messages, serving_snapshot
from services.optimizer.handlers import HANDLERS
from services.optimizer.loops import Planner
from services.optimizer.profiler import ProfileError, WorkerError
from services.optimizer.profiles import MAX_TRIES
from services.optimizer.serving_loop import EndpointPlanner
from services.optimizer.serving_values import EndpointPlan
from services.optimizer.settings import Settings
from services.optimizer.snapshot import Market
from services.optimizer.store import Store
from services.optimizer.tables import EndpointPlanRow, EndpointRequestRow, MarketRow
from sskai import testing
from sskai.database import Database
from sskai.delivery import Relay
from sskai.events import v1 as events
from tests.optimizer.served import SMALL, requested
from tests.optimizer.test_service import KnownCode

SERVICE = "optimizer"


class KnownModel:
    """A profiler that knows one model, or fails as told."""

    def __init__(self, *failures: Exception) -> None:
        self.asked: list[dict[str, Any]] = []
        self.failures = list(failures)

    async def profile(self, request: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(request)
        if self.failures:
            raise self.failures.pop(0)
        return asdict(SMALL)


class World:
    """The endpoints' side of the optimizer without its process."""

    def __init__(self, database: Database, profiler: KnownModel, **settings: Any) -> None:
        self.database = database
        self.profiler = profiler
        self.jobs = Planner(database, Settings(**settings), profiler, KnownCode())
        self.planner = EndpointPlanner(database, Settings(**settings), profiler, self.jobs.market)
        self.bus = testing.InMemoryBus()

    async def hears(self, *happened: Message) -> list[Any]:
        for event in happened:
            await testing.handle(HANDLERS, self.database, Store, event)
        return await self.plans()

    async def plans(self) -> list[Any]:
        await self.planner.plan_waiting_endpoints()
        before = len(self.bus.told)
        await Relay(self.database, self.bus).publish_batch()
        return self.bus.told[before:]

    async def one_plan(self) -> Any:
        return next(iter(await self.plans()), None)

    async def rows(self, table: type[Any]) -> list[Any]:
        async with self.database.transaction() as session:
            return list((await session.scalars(select(table))).all())


@pytest.fixture
def world(database: Database) -> World:
    return World(database, KnownModel())


async def test_a_question_gets_one_answer(world: World) -> None:
    event = testing.envelope(requested(p95_latency_seconds=40.0))
    await testing.handle(HANDLERS, world.database, Store, event)
    await testing.handle(HANDLERS, world.database, Store, event)  # delivered twice
    [plan] = await world.hears(requested(p95_latency_seconds=40.0))  # and told twice
    assert isinstance(plan, events.EndpointPlanProposed)
    assert (plan.plan_id, plan.tenant_id, plan.planner_version) == ("plan_1", "tenant_a", serving.VERSION)
    assert {option.kind for option in plan.options} == {"serverless", "spot", "on-demand"}
    chosen = plan.options[0]
    assert chosen.meets
    assert chosen.replicas >= 1
    assert chosen.usd_per_month > 0
    assert chosen.placement.instance_type in plan.explanation
    assert plan.prices_as_of.seconds > 0
    assert await world.plans() == []
    assert world.profiler.asked == [serving_messages.profile_question(requested().spec)]


async def test_the_answer_is_decided_again_to_the_bit(world: World) -> None:
    [plan] = await world.hears(requested(base_is_running=True))
    [row] = await world.rows(EndpointPlanRow)
    [market] = await world.rows(MarketRow)
    arguments = serving_snapshot.thaw(row.inputs, market.text)
    again = serving.plan_endpoint(**arguments)
    assert isinstance(again, EndpointPlan)
    assert again.options[0].kind == "adapter"
    told = serving_messages.proposed(
        again,
        serving_snapshot.Inputs(*(arguments[name] for name in ("spec", "profile", "assumptions", "now"))),
        Market(arguments["machines"], arguments["offers"]).machines,
        plan_id=row.plan_id,
        tenant_id=row.tenant_id,
        snapshot_hash=row.snapshot_sha256,
    )
    assert told.SerializeToString(deterministic=True) == row.event == plan.SerializeToString(deterministic=True)


async def test_profiles_are_remembered_and_markets_shared(world: World) -> None:
    await world.hears(requested("plan_1"), requested("plan_2", "tenant_b"))
    await world.hears(requested("plan_3"))
    assert len(world.profiler.asked) == 1
    assert len(await world.rows(EndpointPlanRow)) == 3
    assert len(await world.rows(MarketRow)) == 1


@pytest.mark.parametrize(
    ("fields", "reason", "words"),
    [
        ({"p95_latency_seconds": 0.001}, "deadline", "s over 0.001"),
        ({"budget_usd_per_month": 1.0}, "budget", "over 1.00 USD"),
        ({"requests_per_day": 0.0}, "resources", "requests_per_day is 0"),
        ({"requests_per_day": math.nan}, "resources", "requests_per_day is 0"),
        ({"tokens_per_second": math.inf}, "deadline", "tokens_per_second is 0"),
        ({"resources": events.Resources(accelerators="Z99")}, "resources", "not in the catalogue"),
    ],
)
async def test_what_cannot_be_served_is_refused(world: World, fields: dict[str, Any], reason: str, words: str) -> None:
    [refusal] = await world.hears(requested(**fields))
    assert isinstance(refusal, events.PlanRefused)
    assert (refusal.job_id, refusal.plan_id, refusal.tenant_id) == ("plan_1", "plan_1", "tenant_a")
    assert refusal.preview
    assert (refusal.reason, words in refusal.detail, bool(refusal.advice)) == (reason, True, True)
    [row] = await world.rows(EndpointPlanRow)
    assert row.event == refusal.SerializeToString(deterministic=True)


async def test_a_broken_model_is_refused_with_the_profilers_words(database: Database) -> None:
    world = World(database, KnownModel(ProfileError("config.json names no model_type")))
    [refusal] = await world.hears(requested())
    assert (refusal.reason, refusal.detail) == ("model", "config.json names no model_type")
    [row] = await world.rows(EndpointPlanRow)
    assert (row.inputs, row.market_sha256) == (None, None)


async def test_one_death_of_the_worker_costs_nothing(database: Database) -> None:
    world = World(database, KnownModel(WorkerError("it died")))
    assert await world.hears(requested()) == []
    plan = await testing.wait_for(world.one_plan, limit_seconds=10)
    assert isinstance(plan, events.EndpointPlanProposed)


async def test_a_dying_worker_is_tried_again_and_not_for_ever(database: Database) -> None:
    world = World(database, KnownModel(*[WorkerError("it died")] * MAX_TRIES))
    assert await world.hears(requested()) == []
    refusal = await testing.wait_for(world.one_plan, limit_seconds=10)
    assert (refusal.reason, len(world.profiler.asked)) == ("model", MAX_TRIES)
    assert "it died" in refusal.detail


async def test_a_result_whose_lease_ran_out_is_dropped(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    original = world.planner._decide

    async def while_somebody_else_takes_it(row: EndpointRequestRow, *arguments: Any) -> Any:
        async with world.database.transaction() as session:
            taken = await session.get(EndpointRequestRow, row.plan_id)
            assert taken is not None
            taken.lease_token = "somebody-else"
        return await original(row, *arguments)

    monkeypatch.setattr(world.planner, "_decide", while_somebody_else_takes_it)
    assert await world.hears(requested()) == []
    assert await world.rows(EndpointPlanRow) == []


async def test_old_plans_are_forgotten_with_those_of_jobs(database: Database) -> None:
    world = World(database, KnownModel(), plan_retention_days=-1)  # everything is older than tomorrow
    await world.hears(requested())
    await world.jobs.forget_old_plans()
    async with database.transaction() as session:
        for table in (EndpointPlanRow, EndpointRequestRow, MarketRow):
            assert await session.scalar(select(func.count()).select_from(table)) == 0


async def test_a_market_stays_as_long_as_a_plan_of_an_endpoint_rests_on_it(world: World) -> None:
    await world.hears(requested())
    async with world.database.transaction() as session:
        [market] = (await session.scalars(select(MarketRow))).all()
        market.seen_at = market.seen_at.replace(year=2000)
    await world.jobs.forget_old_plans()
    assert len(await world.rows(MarketRow)) == 1
