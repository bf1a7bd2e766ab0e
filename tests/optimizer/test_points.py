"""What the optimizer asks of others while they do not answer: what was known stands, and it is asked again."""

from __future__ import annotations

import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import select, update

from services.optimizer import computer
from services.optimizer.aws import Aws
from services.optimizer.computer import Computer
from services.optimizer.local_prices import CloudAwayError, LocalPrices
from services.optimizer.settings import Settings
from services.optimizer.tables import FeedRow, MachineFactsRow
from sskai.database import Database
from sskai.failpoints import Action
from sskai.local.cloud.market import Zones
from tests.optimizer import aws_double
from tests.optimizer.aws_double import machine, machines_page, price_list, product, spot
from tests.optimizer.test_local_prices import ZONE, Played
from tests.optimizer.test_refresh import EU, LOCAL, US, World
from tests.reliability.matrix import Crash
from tests.reliability.strikes import ENDS, SAYS_NO, each, struck

SERVICE = "optimizer"
ZONE_OF = {US: "use1-az1", EU: "euw1-az1"}
KIND_OF = {
    "prices.machine_types": "machines",
    "prices.on_demand_prices": "on-demand",
    "prices.spot_prices": "spot",
    "prices.placement_scores": "placement-scores",
}


def answers(double: aws_double.Double) -> None:
    products = [product("c5.xlarge", "0.18", region) for region in ZONE_OF]
    double.pages["GetProducts", US] = [price_list(products)]
    for region, zone in ZONE_OF.items():
        double.pages["DescribeInstanceTypes", region] = [machines_page([machine("c5.9xlarge")])]
        double.pages["DescribeSpotPriceHistory", region] = [aws_double.spot_page([spot("c5.xlarge", zone, "0.05")])]
        score = {"region": region, "availabilityZoneId": zone, "score": 7}
        double.pages["GetSpotPlacementScores", region] = [aws_double.scores_page([score])]


@pytest.mark.parametrize("action", each(*SAYS_NO, *ENDS, quick=[Action.RAISE_AFTER]))
@pytest.mark.parametrize(
    "point",
    ["prices.machine_types", "prices.on_demand_prices", "prices.spot_prices", "prices.placement_scores"],
)
async def test_a_question_that_fails_in_one_region_leaves_the_others(
    database: Database, point: str, action: Action
) -> None:
    with aws_double.running() as double:
        answers(double)
        feed = Aws(double.url, aws_access_key_id="test", aws_secret_access_key="test")
        world = World(database, feed, aws_regions=(US, EU), aws_scored_types="c5.xlarge")
        for _ in range(2):  # spot of a new region is taken once its on-demand price is known
            await world.refreshes()
            await world.is_due_again()
        before = await world.feeds()
        assert {row.error for row in before.values()} == {None}
        with struck(point, action), suppress(Crash):
            await world.refresher.refresh_prices()
        if action in ENDS:
            await world.refresher.refresh_prices()  # another process; what the first one has claimed is left to it
        after = [row for row in (await world.feeds()).values() if row.kind == KIND_OF[point]]
        [failed] = [row for row in after if row.refreshed_at == before[row.region, row.kind].refreshed_at]
        assert failed.error is None if action in ENDS else point in (failed.error or "")
        await world.is_due_again()
        async with database.transaction() as session:
            await session.execute(update(FeedRow).values(lease_until=None))
        await world.refresher.refresh_prices()
    told = await world.feeds()
    assert told[failed.region, failed.kind].refreshed_at != failed.refreshed_at
    assert {row.error for row in told.values()} == {None}


@pytest.mark.parametrize("action", each(*SAYS_NO))
async def test_a_cloud_that_tells_no_prices_is_asked_again(database: Database, tmp_path: Path, action: Action) -> None:
    played = Played(tmp_path, database, Zones((("use1-az1", "a"),)))
    with struck("cloud.prices", action), pytest.raises(ConnectionError):
        await played.tells()
    assert list(await played.tells()) == [ZONE]


@pytest.mark.parametrize("answer", [httpx2.Response(503), httpx2.Response(200, text="<html>"), {"prices": 7}, {}])
async def test_a_cloud_that_answers_nonsense_is_away(database: Database, answer: Any) -> None:
    answer = answer if isinstance(answer, httpx2.Response) else httpx2.Response(200, json=answer)
    settings = Settings(cloud_url="http://cloud", cloud_token="token", local_machine_types=("m5.large",))
    feed = LocalPrices(database, settings, httpx2.MockTransport(lambda _request: answer))
    with pytest.raises(CloudAwayError):
        await feed.watch_local_prices()


async def test_a_measurement_that_fails_is_made_again(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    here = Computer(database, Settings(**LOCAL))
    with monkeypatch.context() as broken:
        broken.setattr(computer.sys, "executable", "false")
        with pytest.raises(subprocess.CalledProcessError):
            await here.measure_this_computer()

    async def measured() -> list[MachineFactsRow]:
        async with database.transaction() as session:
            return list(await session.scalars(select(MachineFactsRow)))

    assert await measured() == []
    await here.measure_this_computer()
    assert len(await measured()) == 1
