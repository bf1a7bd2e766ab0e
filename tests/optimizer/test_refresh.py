"""Live facts and prices from the question to the plan, on a real PostgreSQL: told once, each region by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import yaml
from prometheus_client import REGISTRY
from sqlalchemy import select, update

from services.optimizer import catalogue, prices
from services.optimizer.aws import Aws, AwsError
from services.optimizer.catalogue import MachineFacts
from services.optimizer.computer import Computer
from services.optimizer.handlers import HANDLERS
from services.optimizer.loops import Planner
from services.optimizer.market import LiveMarket
from services.optimizer.messages import CAPACITY_TYPES
from services.optimizer.prices import OfferKey
from services.optimizer.refresh import NOTHING, Refresher
from services.optimizer.settings import Settings
from services.optimizer.snapshot import Market
from services.optimizer.store import Store
from services.optimizer.tables import FeedRow, MachineFactsRow, PriceRow
from services.optimizer.values import Offer
from sskai import contract, testing
from sskai.database import Database
from sskai.events import v1 as events
from sskai.local import layout
from tests.optimizer import aws_double
from tests.optimizer.aws_double import error, machine, machines_page, price_list, product, spot
from tests.optimizer.made import submitted
from tests.optimizer.test_service import KnownCode, KnownProfile, denied, key_of

SERVICE = "optimizer"
US, EU = "us-east-1", "eu-west-1"
C5_SPOT = "aws/us-east-1/use1-az1/c5.xlarge/spot"
NEW_SPOT = "aws/us-east-1/use1-az1/c5.9xlarge/spot"
NEW_ON_DEMAND = "aws/us-east-1/*/c5.9xlarge/on-demand"


@dataclass
class FakeAws:
    """Answers by region; a region that it does not have fails."""

    machines: dict[str, list[MachineFacts]] = field(default_factory=dict)
    spot: dict[str, float] = field(default_factory=dict)
    on_demand: dict[str, float] = field(default_factory=dict)
    scores: dict[str, int] = field(default_factory=dict)
    away: set[str] = field(default_factory=set)
    asked: list[tuple[str, str]] = field(default_factory=list)
    types: list[str] = field(default_factory=list)

    def machine_types(self, region: str) -> list[MachineFacts]:
        self._hear("machines", region)
        return self.machines.get(region, [])

    def spot_prices(self, region: str, instance_types: Sequence[str], now: datetime) -> dict[OfferKey, float]:
        self._hear("spot", region)
        self.types = list(instance_types)
        return self._of(region, self.spot)

    def on_demand_prices(self, region: str) -> dict[OfferKey, float]:
        self._hear("on-demand", region)
        return self._of(region, self.on_demand)

    def placement_scores(self, region: str, instance_types: Sequence[str]) -> dict[OfferKey, int]:
        self._hear("placement-scores", region)
        return self._of(region, self.scores)

    def _hear(self, kind: str, region: str) -> None:
        self.asked.append((kind, region))
        if region in self.away:
            raise AwsError(f"{kind} in {region}: away")

    def _of(self, region: str, values: dict[str, Any]) -> dict[OfferKey, Any]:
        keys = {key: OfferKey.parse(key) for key in values}
        return {key: values[text] for text, key in keys.items() if key is not None and key.region == region}


class World:
    """The optimizer with a feed: what it tells reaches its own handlers, as over Kafka."""

    def __init__(self, database: Database, source: Any, **settings: Any) -> None:
        self.database, self.source = database, source
        self.settings = Settings(**{"aws_regions": (US,), **settings})
        self.refresher = Refresher(database, self.settings, source)
        self.planner = Planner(database, self.settings, KnownProfile(), KnownCode())
        self.bus = testing.InMemoryBus()
        self.bus.connect(database, HANDLERS, Store)

    async def refreshes(self) -> dict[str, float]:
        """One turn of the loop, and what it told comes back; returns the prices that were told."""
        await self.refresher.refresh_prices()
        before = len(self.bus.told)
        await self.bus.settle()
        return {event.offer: event.price_usd_per_hour for event in self.bus.told[before:]}

    async def is_due_again(self) -> None:
        async with self.database.transaction() as session:
            await session.execute(update(FeedRow).values(due_at=datetime.now(UTC) - timedelta(seconds=1)))

    async def market(self, now: datetime | None = None) -> dict[str, Offer]:
        async with self.database.transaction() as session:
            market = await LiveMarket((), 3600).at(Store(session), now or datetime.now(UTC))
        return {offer.key: offer for offer in market.offers}

    async def feeds(self) -> dict[tuple[str, str], FeedRow]:
        async with self.database.transaction() as session:
            return {(row.region, row.kind): row for row in await Store(session).feeds()}

    async def hears(self, *happened: Any) -> list[Any]:
        await self.bus.publish(*happened)
        await self.bus.settle()
        before = len(self.bus.told)
        await self.planner.plan_waiting_jobs()
        await self.bus.settle()
        return self.bus.told[before:]


def metric(name: str, **labels: str) -> float:
    value = REGISTRY.get_sample_value(name, labels)
    assert value is not None, name
    return value


async def test_live_prices_become_offers_that_plans_are_made_with(database: Database) -> None:
    world = World(
        database,
        FakeAws(
            machines={US: [MachineFacts("c5.9xlarge", 36, 72.0, 12_000.0)]},
            spot={C5_SPOT: 0.0011, NEW_SPOT: 0.5},
            on_demand={NEW_ON_DEMAND: 1.53},
        ),
    )
    assert await world.refreshes() == {NEW_ON_DEMAND: 1.53, C5_SPOT: 0.0011}
    assert "c5.9xlarge" in world.source.types
    await world.is_due_again()
    assert await world.refreshes() == {NEW_SPOT: 0.5}, "now that its price on demand is known, and nothing else differs"
    offers = await world.market()
    assert [offers[key].price_usd_per_hour for key in (C5_SPOT, NEW_SPOT, NEW_ON_DEMAND)] == [0.0011, 0.5, 1.53]
    assert "aws/us-east-1/*/c5.xlarge/spot" not in offers
    [plan] = await world.hears(submitted())
    best = plan.candidates[0].placement
    assert (key_of(best), best.price_usd_per_hour) == (C5_SPOT, 0.0011)
    [again] = await world.hears(denied(C5_SPOT))
    assert C5_SPOT not in {key_of(each.placement) for each in again.candidates}


async def test_a_price_is_told_again_when_it_differs_or_ages(database: Database) -> None:
    world = World(database, FakeAws(spot={C5_SPOT: 0.05}))
    assert await world.refreshes() == {C5_SPOT: 0.05}
    assert await world.refreshes() == {}, "it is not due"
    await world.is_due_again()
    assert await world.refreshes() == {}
    assert world.source.asked.count(("spot", US)) == 2
    world.source.spot[C5_SPOT] = 0.06
    await world.is_due_again()
    assert await world.refreshes() == {C5_SPOT: 0.06}
    async with database.transaction() as session:
        await session.execute(update(PriceRow).values(observed_at=PriceRow.observed_at - timedelta(minutes=31)))
    world.refresher = Refresher(database, world.settings, world.source)  # another replica, which told nothing yet
    await world.is_due_again()
    assert await world.refreshes() == {C5_SPOT: 0.06}


async def test_while_the_broker_is_away_the_outbox_does_not_fill_up(database: Database) -> None:
    world = World(database, FakeAws(spot={C5_SPOT: 0.05}))
    for _ in range(5):
        await world.refresher.refresh_prices()
        await world.is_due_again()
    assert world.source.asked.count(("spot", US)) == 5
    await world.bus.settle()
    assert len(world.bus.told) == 1


async def test_of_several_replicas_one_asks(database: Database) -> None:
    world = World(database, FakeAws(spot={C5_SPOT: 0.05}), aws_regions=(US, EU))
    others = [Refresher(database, world.settings, world.source) for _ in range(3)]
    await asyncio.gather(*(each.refresh_prices() for each in [world.refresher, *others]))
    assert sorted(world.source.asked) == sorted(
        (kind, region) for kind in ("machines", "on-demand", "spot") for region in (US, EU)
    )
    await world.bus.settle()
    assert len(world.bus.told) == 1


async def test_a_region_that_fails_leaves_the_others_and_its_stamp_says_why(database: Database) -> None:
    other = "aws/eu-west-1/euw1-az1/c5.xlarge/spot"
    listed = "aws/eu-west-1/*/c5.xlarge/on-demand"
    world = World(
        database,
        FakeAws(spot={C5_SPOT: 0.05, other: 0.07}, on_demand={listed: 0.19}, away={US}),
        aws_regions=(US, EU),
    )
    assert await world.refreshes() == {listed: 0.19}
    await world.is_due_again()
    assert await world.refreshes() == {other: 0.07}
    feeds = await world.feeds()
    failed, fresh = feeds[US, "spot"], feeds[EU, "spot"]
    assert (failed.refreshed_at, failed.facts, failed.error) == (None, 0, "spot in us-east-1: away")
    assert (fresh.facts, fresh.error) == (1, None)
    assert fresh.refreshed_at is not None
    assert 0 <= metric("sskai_optimizer_feed_age_seconds", region=EU, kind="spot") < 60
    assert metric("sskai_optimizer_feed_age_seconds", region=US, kind="spot") == float("inf")
    assert metric("sskai_optimizer_feed_facts", region=EU, kind="spot") == 1
    world.source.away = set()
    await world.is_due_again()
    assert await world.refreshes() == {C5_SPOT: 0.05}
    assert (await world.feeds())[US, "spot"].error is None


@pytest.mark.parametrize(
    "spot",
    [{}, {C5_SPOT: 1e9}, {C5_SPOT: -1.0}, {C5_SPOT: float("nan")}, {"aws/us-east-1/use1-az1/x9.huge/spot": 1.0}],
)
async def test_a_feed_of_garbage_or_nothing_leaves_the_snapshots_prices_marked_stale(
    database: Database, spot: dict[str, float]
) -> None:
    world = World(database, FakeAws(spot=spot))
    assert await world.refreshes() == {}
    feeds = await world.feeds()
    assert {(row.refreshed_at, row.error) for row in feeds.values()} == {(None, NOTHING)}
    offers = await world.market()
    assert offers == {offer.key: offer for offer in catalogue.snapshot().offers}
    assert all(prices.is_stale(offer, datetime.now(UTC)) for offer in offers.values())
    [plan] = await world.hears(submitted())
    assert isinstance(plan, events.PlanProposed)
    assert "catalogue snapshot" in plan.explanation
    assert "days old" in plan.explanation


async def test_types_whose_speed_nobody_knows_are_not_kept(database: Database) -> None:
    facts = [
        MachineFacts("c5.9xlarge", 36, 72.0, 12_000.0),
        MachineFacts("m7g.large", 2, 8.0, 1000.0),
        MachineFacts("g9.large", 4, 16.0, 1000.0, "Z1000", 1, 99.0),
    ]
    world = World(database, FakeAws(machines={US: facts}))
    before = metric_or_zero("sskai_optimizer_facts_skipped_total", kind="machines", reason="unknown-processor")
    await world.refreshes()
    async with database.transaction() as session:
        [row] = (await session.scalars(select(MachineFactsRow))).all()
    assert (row.instance_type, row.facts["vcpus"], row.source) == ("c5.9xlarge", 36, catalogue.DESCRIBED)
    after = metric_or_zero("sskai_optimizer_facts_skipped_total", kind="machines", reason="unknown-processor")
    assert after - before == 2


def metric_or_zero(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def test_placement_scores_are_asked_for_only_if_types_are_named(database: Database) -> None:
    key = "aws/us-east-1/use1-az1/g5.xlarge/spot"
    world = World(database, FakeAws(scores={key: 7}))
    await world.refreshes()
    assert ("placement-scores", US) not in world.source.asked
    world = World(database, world.source, aws_scored_types="g5.xlarge,g6.xlarge,g6e.xlarge")
    await world.refreshes()
    offers = await world.market()
    assert {key: offer.placement_score for key, offer in offers.items() if offer.placement_score} == {key: 7}
    later = await world.market(datetime.now(UTC) + timedelta(hours=7))
    assert later[key].placement_score is None


async def test_a_feed_whose_claim_was_lost_leaves_no_stamp(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(database, FakeAws(spot={C5_SPOT: 0.05}))
    original = world.refresher._take

    async def while_somebody_else_takes_it(*arguments: Any) -> int:
        async with database.transaction() as session:
            await session.execute(update(FeedRow).values(lease_token="somebody-else"))
        return await original(*arguments)

    monkeypatch.setattr(world.refresher, "_take", while_somebody_else_takes_it)
    await world.refreshes()
    assert {row.refreshed_at for row in (await world.feeds()).values()} == {None}


async def test_the_market_is_built_once_per_change(database: Database) -> None:
    live = LiveMarket((), 3600)

    async def at(now: datetime) -> Market:
        async with database.transaction() as session:
            return await live.at(Store(session), now)

    now = datetime.now(UTC)
    first = await at(now)
    assert await at(now + timedelta(days=9)) is first
    key = OfferKey.parse(C5_SPOT)
    assert key is not None
    await testing.handle(HANDLERS, database, Store, observed(key, 0.05, now))
    second = await at(now)
    assert second is not first
    assert await at(now + timedelta(minutes=59)) is second
    third = await at(now + timedelta(minutes=61))
    assert third is not second, "the zone's price went stale, so the region's mean is back"
    assert len(third.offers) == len(second.offers) + 1
    assert await at(now + timedelta(minutes=62)) is third


def observed(key: OfferKey, usd: float, at: datetime) -> events.PriceObserved:
    return events.PriceObserved(
        offer=key.text,
        cloud=key.cloud,
        region=key.region,
        zone=key.zone,
        instance_type=key.instance_type,
        capacity_type=CAPACITY_TYPES[key.capacity_type],
        price_usd_per_hour=usd,
        source="test feed",
        observed_at=contract.timestamp(at),
    )


async def test_the_whole_way_from_aws_answers(database: Database) -> None:
    """EC2 and Pricing as HTTP: one region whole, over pages and a throttled question, and one that refuses."""
    with aws_double.running() as double:
        double.pages["DescribeInstanceTypes", US] = [machines_page([machine("c5.9xlarge")])]
        double.pages["GetProducts", US] = [
            price_list([product("c5.9xlarge", "1.53")], next_token="2"),
            price_list([product("c5.xlarge", "0.18"), "garbage"]),
        ]
        double.pages["DescribeSpotPriceHistory", US] = [
            error("RequestLimitExceeded", 503),
            aws_double.spot_page([spot("c5.xlarge", "us-east-1a", "0.05")], next_token="2"),
            aws_double.spot_page([spot("c5.xlarge", "use1-az2", "0.06"), spot("c5.xlarge", "nowhere", "0.07")]),
        ]
        double.pages["DescribeAvailabilityZones", US] = [aws_double.zones_page({"us-east-1a": "use1-az6"})]
        feed = Aws(double.url, aws_access_key_id="test", aws_secret_access_key="test")
        world = World(database, feed, aws_regions=(US, "us-west-2"))
        told = await world.refreshes()
    assert told == {
        "aws/us-east-1/*/c5.9xlarge/on-demand": 1.53,
        "aws/us-east-1/*/c5.xlarge/on-demand": 0.18,
        "aws/us-east-1/use1-az6/c5.xlarge/spot": 0.05,
        "aws/us-east-1/use1-az2/c5.xlarge/spot": 0.06,
    }
    feeds = await world.feeds()
    assert [feeds[US, kind].error for kind in ("machines", "on-demand", "spot")] == [None] * 3
    assert "UnauthorizedOperation" in (feeds["us-west-2", "machines"].error or "")
    offers = await world.market()
    assert offers["aws/us-east-1/use1-az2/c5.xlarge/spot"].on_demand_price_usd_per_hour == 0.18


LOCAL = {"offered_instance_types": "local.*", "local_machine_types": "m5.large,m7i.large", "trainer_threads": 1}


async def test_this_computer_is_measured_once_a_week(database: Database) -> None:
    settings = Settings(**LOCAL)
    computer = Computer(database, settings)

    async def row() -> MachineFactsRow:
        async with database.transaction() as session:
            [found] = (await session.scalars(select(MachineFactsRow))).all()
            return found

    await computer.measure_this_computer()
    first = await row()
    assert (first.instance_type, first.source) == ("local", "measured")
    # Anything that runs these tests does between one and ten thousand GFLOP/s, and copies as fast as that.
    assert 1e9 < first.facts["flops_per_second"] < 1e13
    assert 1e8 < first.facts["bandwidth_bytes_per_second"] < 1e13
    async with database.transaction() as session:
        market = await LiveMarket(settings.local_machine_types, 3600).at(Store(session), datetime.now(UTC))
    machine = market.machines["local.m5.large"]
    assert machine.peak_flops_per_second == first.facts["flops_per_second"]
    assert (machine.vcpus, machine.memory_gib) == (2, 8.0)

    await computer.measure_this_computer()
    assert (await row()).seen_at == first.seen_at
    async with database.transaction() as session:
        await session.execute(update(MachineFactsRow).values(seen_at=datetime.now(UTC) - timedelta(days=8)))
    await computer.measure_this_computer()
    assert (await row()).seen_at > first.seen_at


async def test_another_number_of_threads_is_another_computer(database: Database) -> None:
    async with database.transaction() as session:
        figures = {"flops_per_second": 1e11, "bandwidth_bytes_per_second": 1e10, "threads": 64}
        await Store(session).save_machine_facts({"local": figures}, "measured", datetime.now(UTC))
    await Computer(database, Settings(**LOCAL)).measure_this_computer()
    async with database.transaction() as session:
        [row] = (await session.scalars(select(MachineFactsRow))).all()
    assert row.facts["threads"] == 1


async def test_a_job_on_this_computer_is_planned_around_what_is_denied(database: Database) -> None:
    world = World(database, FakeAws(), **LOCAL)
    [first] = await world.hears(submitted())
    assert {each.placement.cloud for each in first.candidates} == {"local"}
    assert {each.placement.instance_type for each in first.candidates} == {"local.m5.large", "local.m7i.large"}
    best = first.candidates[0].placement
    played = OfferKey.parse(key_of(best))
    assert played is not None
    assert best.price_usd_per_hour == catalogue.offers_by_key()[played.played.text].price_usd_per_hour
    [second] = await world.hears(denied(key_of(best)))
    assert key_of(best) not in {key_of(each.placement) for each in second.candidates}
    assert key_of(best) in {key_of(each.placement) for each in second.rejections if each.reason == "denied"}


@pytest.mark.parametrize("stack", ["embedded", "compose"])
async def test_the_local_stacks_offer_this_computer(
    database: Database, stack: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("SSKAI_OFFERED_INSTANCE_TYPES", "SSKAI_LOCAL_MACHINE_TYPES", "SSKAI_MACHINE_START_SECONDS")
    compose = yaml.safe_load((layout.SOURCE_FOLDER / "docker-compose.yaml").read_text())
    environment = layout.THIS_COMPUTER if stack == "embedded" else compose["x-environment"]
    for name in names:
        monkeypatch.setenv(name, environment[name])
    [plan] = await World(database, FakeAws()).hears(submitted())
    assert isinstance(plan, events.PlanProposed)
    assert {each.placement.instance_type for each in plan.candidates} == {"local.m5.large", "local.m7i.large"}


async def test_a_price_of_what_this_computer_plays_is_its_own(database: Database) -> None:
    world = World(database, FakeAws(), **LOCAL)
    real = OfferKey.parse("aws/us-east-1/use1-az1/m7i.large/spot")
    assert real is not None
    [plan] = await world.hears(observed(real, 0.0005, datetime.now(UTC)), submitted())
    best = plan.candidates[0].placement
    assert key_of(best) == "local/us-east-1/use1-az1/local.m7i.large/spot"
    assert best.price_usd_per_hour == 0.0005
    ours = OfferKey.parse(key_of(best))
    assert ours is not None
    [again] = await world.hears(observed(ours, 0.0004, datetime.now(UTC)), submitted("job_2"))
    assert again.candidates[0].placement.price_usd_per_hour == 0.0004


def test_types_that_this_computer_cannot_play_are_refused() -> None:
    with pytest.raises(ValueError, match=r"cannot play 'g5.xlarge': name some of c5.2xlarge"):
        Settings(local_machine_types="m5.large,g5.xlarge")
