"""What was seen of spot offers: as values, and as all jobs share it in the database."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest
from sqlalchemy import select

from services.scheduler import availability
from services.scheduler.availability import Model
from services.scheduler.market import Market
from services.scheduler.market_store import FORGET_DAYS, MarketStore, OfferRow, forget_old_offers
from sskai.cluster import offer_of
from sskai.database import Database
from sskai.events import v1 as events
from tests.scheduler.examples import START, placement, proposed, submitted
from tests.scheduler.stage import Stage

SERVICE = "scheduler"
MODEL = availability.shipped()
OFFER, SECOND = (offer_of(placement(zone=zone)) for zone in ("use1-az1", "use1-az2"))


def looked(market: Market, available: bool, minutes: float, *, all_the_while: bool = False) -> Market:
    sight = market.seen(OFFER, available, START + timedelta(minutes=minutes), all_the_while=all_the_while)
    return market if sight is None else Market(MODEL, {OFFER: sight})


def test_a_look_is_remembered_and_fades() -> None:
    usual = Market(MODEL, {}).chance_up(OFFER, START)
    up, down = looked(Market(MODEL, {}), True, 0), looked(Market(MODEL, {}), False, 0)
    assert (up.chance_up(OFFER, START), down.chance_up(OFFER, START)) == pytest.approx((1, 0))
    later = START + timedelta(hours=1)
    assert down.chance_up(OFFER, later) < usual < up.chance_up(OFFER, later) < 1
    much_later = START + timedelta(days=365)
    assert up.chance_up(OFFER, much_later) == pytest.approx(usual, abs=0.01)


def test_a_machine_that_ran_all_the_while_says_more_than_two_looks() -> None:
    launched = looked(Market(MODEL, {}), True, 0)
    ran, looked_again = looked(launched, True, 600, all_the_while=True), looked(launched, True, 600)
    soon = START + timedelta(hours=12)
    assert ran.chance_up(OFFER, soon) > looked_again.chance_up(OFFER, soon)


def test_the_same_news_within_a_minute_and_news_from_the_past_change_nothing() -> None:
    market = looked(Market(MODEL, {}), True, 10)
    assert market.seen(OFFER, True, START + timedelta(minutes=10.5)) is None
    assert market.seen(OFFER, False, START + timedelta(minutes=10.5)) is not None
    assert market.seen(OFFER, False, START) is None


async def test_offers_are_shared_and_the_later_look_stands(database: Database) -> None:
    async with database.transaction() as session:
        await MarketStore(session, MODEL).saw(OFFER, True, START)
    async with database.transaction() as session:
        await MarketStore(session, MODEL).saw(OFFER, False, START - timedelta(hours=1))
        market = await MarketStore(session, MODEL).market([OFFER, "aws/elsewhere"])
    assert list(market.sights) == [OFFER]
    assert market.sights[OFFER].available
    assert np.allclose(market.belief(OFFER, START), MODEL.seen(MODEL.stationary, True))


async def test_beliefs_of_other_priors_are_not_taken_over(database: Database) -> None:
    async with database.transaction() as session:
        await MarketStore(session, MODEL).saw(OFFER, True, START)
        other = Model(MODEL.generator * 2, MODEL.ups)
        assert not (await MarketStore(session, other).market([OFFER])).sights


async def test_offers_that_nobody_sees_any_more_are_forgotten(database: Database) -> None:
    async with database.transaction() as session:
        await MarketStore(session, MODEL).saw(OFFER, True, START)
    await forget_old_offers(database, START + timedelta(days=FORGET_DAYS - 1))
    async with database.transaction() as session:
        assert (await MarketStore(session, MODEL).market([OFFER])).sights
    await forget_old_offers(database, START + timedelta(days=FORGET_DAYS + 1))
    async with database.transaction() as session:
        assert not (await session.scalars(select(OfferRow))).all()


async def test_the_scheduler_learns_from_launches_denials_and_losses(database: Database) -> None:
    stage = Stage(database)
    stage.cluster.denied = {OFFER}
    await stage.tell(submitted(), proposed())
    await stage.turn()

    async def known() -> dict[str, bool]:
        async with database.transaction() as session:
            market = await MarketStore(session, MODEL).market([OFFER, SECOND])
            return {offer: sight.available for offer, sight in market.sights.items()}

    await stage.turn(1)
    assert await known() == {OFFER: False, SECOND: True}
    (machine,) = stage.cluster.running()
    await stage.tell(events.InterruptionNoticed(machine_id=machine, action="terminate", notice_seconds=120))
    await stage.turn()
    assert await known() == {OFFER: False, SECOND: False}
