"""The made-up market: the runs, the correlation and the prices that were asked for, the same for the same seed."""

from __future__ import annotations

from itertools import groupby

import pytest

from sskai.local.cloud.market import Market, Price
from sskai.local.cloud.synthetic import Synthetic

LONG = "mean_up=2h,mean_down=30m,days=60"


def runs_seconds(synthetic: Synthetic, zone: str, up: bool) -> list[float]:
    trace = synthetic.trace(zone)
    lengths = [(level, len(list(run))) for level, run in groupby(trace.available)]
    return [length * trace.gap_seconds for level, length in lengths[1:-1] if (level > 0) == up]


def shared_falls(synthetic: Synthetic) -> float:
    """The share of one zone's falls that another one has at the same tick."""
    falls = []
    for zone in ("use1-az1", "use1-az2"):
        ticks = synthetic.trace(zone).available
        falls.append({tick for tick in range(1, len(ticks)) if ticks[tick] < ticks[tick - 1]})
    return len(falls[0] & falls[1]) / len(falls[0])


def test_runs_are_as_long_as_asked_for_on_average():
    synthetic = Synthetic.parse(LONG)
    for up, mean_seconds in ((True, 7200), (False, 1800)):
        lengths = [length for zone in "abcdef" for length in runs_seconds(synthetic, zone, up)]
        assert len(lengths) > 1000
        assert sum(lengths) / len(lengths) == pytest.approx(mean_seconds, rel=0.1)


def test_zones_fall_together_as_often_as_asked_for():
    assert shared_falls(Synthetic.parse(f"{LONG},correlation=0")) < 0.05
    assert 0.3 < shared_falls(Synthetic.parse(f"{LONG},correlation=0.6")) < 0.7


def test_a_seed_is_a_market():
    words = "mean_up=1h,mean_down=10m,seed=7"
    first, again, other = Synthetic.parse(words), Synthetic.parse(words), Synthetic.parse("mean_up=1h,mean_down=10m")
    again.trace("use1-az2")  # the order of questions does not matter
    assert first.trace("use1-az1") == again.trace("use1-az1")
    assert first.trace("use1-az1") != other.trace("use1-az1")
    assert first.trace("use1-az1") != first.trace("use1-az2")
    assert set(first.trace("use1-az1").available) == {0, 4}


def test_prices_go_up_and_down_within_the_day():
    row = Price("m5.large", "us-east-1", "*", "spot", 0.0326)
    market = Market(prices=(row,), synthetic=Synthetic.parse("price_swing=0.2"), speed=3600)
    told = [market.price("us-east-1", "*", "m5.large", "spot", hour) or 0.0 for hour in range(24)]
    assert 0.0326 * 0.7 < min(told) < 0.0326 * 0.9 < 0.0326 * 1.1 < max(told) < 0.0326 * 1.3
    (shown,) = market.price_rows("spot", now=5)
    assert (shown.price_usd_per_hour, shown.live) == (told[5], True)
