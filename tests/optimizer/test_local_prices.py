"""Prices of the simulated cloud's market on their way into plans: the real cloud's API, the real database."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import httpx2
import pytest

from services.optimizer.handlers import HANDLERS
from services.optimizer.local_prices import LocalPrices
from services.optimizer.main import build
from services.optimizer.market import LiveMarket
from services.optimizer.settings import Settings
from services.optimizer.store import Store
from services.optimizer.values import Offer
from sskai import testing
from sskai.database import Database
from sskai.events import v1 as events
from sskai.local.cloud.api import create_app
from sskai.local.cloud.cloud import Cloud
from sskai.local.cloud.market import Market, Zones, read_prices
from sskai.local.cloud.records import Trace
from sskai.local.layout import CATALOGUE

SERVICE = "optimizer"
TOKEN = "a-token-of-the-test"
ZONE = "local/us-east-1/use1-az1/local.m7i.large/spot"
REGION = "local/us-east-1/*/local.m5.large/spot"


class Played:
    """A cloud whose record costs 1, 1.5, then 0.5 of its median, an hour each; the test chooses the hour."""

    hour = 0

    def __init__(self, folder: Path, database: Database, zones: Zones) -> None:
        traces = {"a": Trace(3600, (1, 1, 1), (2.0, 3.0, 1.0))}
        market = Market(prices=read_prices(CATALOGUE), traces=traces, zones=zones)
        cloud = Cloud(folder, market, lambda: 1_000_000.0 + self.hour * 3600)
        transport = httpx2.ASGITransport(create_app(cloud, market, TOKEN))
        settings = Settings(cloud_url="http://cloud", cloud_token=TOKEN, local_machine_types=("m5.large", "m7i.large"))
        self.feed = LocalPrices(database, settings, transport)
        self.database = database
        self.bus = testing.InMemoryBus()
        self.bus.connect(database, HANDLERS, Store)

    async def tells(self) -> dict[str, float]:
        before = len(self.bus.told)
        await self.feed.watch_local_prices()
        await self.bus.settle()
        told = [event for event in self.bus.told[before:] if isinstance(event, events.PriceObserved)]
        assert {event.source for event in told} <= {"local"}
        return {event.offer: event.price_usd_per_hour for event in told}

    async def offers(self) -> dict[str, Offer]:
        async with self.database.transaction() as session:
            market = await LiveMarket(("m5.large", "m7i.large"), 3600).at(Store(session), datetime.now(UTC))
        return {offer.key: offer for offer in market.offers}


@pytest.mark.parametrize(
    ("zone", "key", "listed"), [("use1-az1", ZONE, 0.0443), ("us-east-1", REGION, 0.0326)], ids=["zone", "region"]
)
async def test_a_price_that_moves_is_told_once_and_is_the_offers_price(
    database: Database, tmp_path: Path, zone: str, key: str, listed: float
) -> None:
    played = Played(tmp_path, database, Zones(((zone, "a"),)))
    assert await played.tells() == {key: listed}
    assert await played.tells() == {}
    played.hour = 1
    assert await played.tells() == {key: pytest.approx(listed * 1.5, abs=1e-4)}
    played.hour = 2
    assert await played.tells() == {key: pytest.approx(listed * 0.5, abs=1e-4)}
    offer = (await played.offers())[key]
    assert offer.price_usd_per_hour == pytest.approx(listed * 0.5, abs=1e-4)
    assert offer.price_source == "local"


async def test_prices_that_stand_still_are_the_catalogues_to_tell(database: Database, tmp_path: Path) -> None:
    assert await Played(tmp_path, database, Zones()).tells() == {}


def test_the_feed_runs_beside_a_simulated_cloud_alone() -> None:
    def loops(**settings: object) -> set[str]:
        return {loop.name for loop in build(Settings(**settings)).loops}

    assert "watch_local_prices" in loops(cloud_url="http://cloud", local_machine_types="m5.large")
    assert "watch_local_prices" not in loops(local_machine_types="m5.large", cloud_url=None)
