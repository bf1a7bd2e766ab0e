"""The market's decisions: who gets a machine, at which price, and for how long."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sskai.local.cloud.market import Market, Trace, read_prices, read_traces

CATALOGUE = """\
instance_type,region,availability_zone,price_usd_hour,spot_price_usd_hour
g5.xlarge,us-east-1,*,1.006,0.42
g5.xlarge,us-east-1,use1-az2,1.006,0.39
p5.48xlarge,us-east-1,*,55.04,
"""


@pytest.mark.parametrize(
    ("denied", "zone", "instance_type", "capacity_type", "refused"),
    [
        ([], "use1-az2", "g5.xlarge", "spot", False),
        (["*"], "use1-az2", "g5.xlarge", "on-demand", True),
        (["use1-az2/g5.xlarge/spot"], "use1-az2", "g5.xlarge", "spot", True),
        (["use1-az2/g5.xlarge/spot"], "use1-az2", "g5.xlarge", "on-demand", False),
        (["use1-az2/*/spot"], "use1-az2", "p5.48xlarge", "spot", True),
        (["use1-az2/*/spot"], "use1-az1", "p5.48xlarge", "spot", False),
        (["*/g5.xlarge/*"], "use1-az1", "g5.xlarge", "on-demand", True),
    ],
)
def test_denied_offers_are_refused(denied, zone, instance_type, capacity_type, refused):
    market = Market(denied=denied)
    assert (market.refusal(zone, instance_type, capacity_type, now=0) is not None) == refused


@pytest.mark.parametrize(
    ("now", "capacity_type", "refused"),
    [
        (1000, "spot", False),  # first tick of the record
        (1005, "spot", True),  # 50 recorded seconds later: the second tick, nothing on offer
        (1005, "on-demand", False),
        (1008, "spot", False),  # the third tick
        (1012.5, "spot", False),  # the record begins again
        (1017, "spot", True),
    ],
)
def test_a_record_is_replayed_at_its_speed_for_spot_only(now, capacity_type, refused):
    market = Market(traces={"a": Trace(40, (2, 0, 1))}, speed=10, opened_at=1000)
    assert (market.refusal("a", "g5.xlarge", capacity_type, now) is not None) == refused


@given(st.floats(0, 1e9), st.floats(0.1, 1e4), st.lists(st.integers(0, 16), min_size=1, max_size=50))
def test_a_record_offers_what_was_recorded_at_any_time(seconds, gap_seconds, available):
    assert Trace(gap_seconds, tuple(available)).available_at(seconds) in available


@pytest.mark.parametrize(("speed", "notice_seconds"), [(1, 120), (10, 12), (600, 2)])
def test_a_faster_replay_warns_later_but_never_too_late_to_save(speed, notice_seconds):
    assert Market(speed=speed).replay_notice_seconds() == notice_seconds


@pytest.mark.parametrize(
    ("zone", "instance_type", "capacity_type", "price"),
    [
        ("use1-az2", "g5.xlarge", "spot", 0.39),
        ("use1-az1", "g5.xlarge", "spot", 0.42),
        ("use1-az1", "g5.xlarge", "on-demand", 1.006),
        ("use1-az1", "p5.48xlarge", "spot", None),
        ("use1-az1", "p5.48xlarge", "on-demand", 55.04),
    ],
)
def test_the_zones_own_price_comes_before_the_regions(tmp_path: Path, zone, instance_type, capacity_type, price):
    (tmp_path / "catalogue.csv").write_text(CATALOGUE)
    market = Market(prices=read_prices(tmp_path / "catalogue.csv"))
    assert market.price("us-east-1", zone, instance_type, capacity_type) == price


def test_records_are_found_by_zone_in_files_and_folders(tmp_path: Path):
    (tmp_path / "us-west-2c_v100_1.json").write_text('{"metadata": {"gap_seconds": 32}, "data": [0, 1]}')
    (tmp_path / "us-east-1a").mkdir()
    (tmp_path / "us-east-1a" / "any.json").write_text('{"metadata": {"gap_seconds": 300}, "data": [16]}')
    assert read_traces(tmp_path) == {"us-west-2c": Trace(32, (0, 1)), "us-east-1a": Trace(300, (16,))}
