"""The market's decisions: who gets a machine, at which price, and for how long."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sskai.local.cloud.market import Market, Zones, read_prices
from sskai.local.cloud.records import RecordError, Trace, read_traces
from sskai.local.cloud.settings import Settings, build_market

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
    assert (market.refusal("us-east-1", zone, instance_type, capacity_type, now=0) is not None) == refused


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
    assert (market.refusal("r", "a", "g5.xlarge", capacity_type, now) is not None) == refused


@pytest.mark.parametrize(
    ("running", "wanted", "each", "refused"),
    [(0, 2, 1, False), (1, 1, 1, False), (2, 1, 1, True), (0, 3, 1, True), (2, 4, 3, False), (3, 4, 3, True)],
)
def test_no_more_machines_run_in_a_zone_than_were_recorded(running, wanted, each, refused):
    market = Market(traces={"a": Trace(40, (2,))}, each=each)
    answer = market.refusal("r", "a", "g5.xlarge", "spot", 0, running=running, wanted=wanted)
    assert (answer is not None) == refused


@pytest.mark.parametrize(
    ("zones", "region", "zone", "record"),
    [
        (Zones(), "us-east-1", "us-east-1a", "us-east-1a"),
        (Zones(), "us-east-1", "use1-az1", None),
        (Zones((("use1-az1", "us-west-2c"),)), "us-east-1", "use1-az1", "us-west-2c"),
        (Zones((("use1-*", "us-west-2c"), ("*", "us-east-1a"))), "us-east-1", "use1-az6", "us-west-2c"),
        (Zones((("use1-*", "us-west-2c"), ("*", "us-east-1a"))), "eu-west-1", "euw1-az1", "us-east-1a"),
        # An offer for the whole region goes by the region's name.
        (Zones((("us-east-1", "us-west-2c"),)), "us-east-1", "*", "us-west-2c"),
        (Zones((("us-east-1", "us-west-2c"),)), "us-east-2", "*", None),
    ],
)
def test_a_zone_replays_the_record_that_it_is_told_to(zones, region, zone, record):
    traces = {"us-east-1a": Trace(40, (1,)), "us-west-2c": Trace(40, (2,))}
    assert Market(traces=traces, zones=zones).trace_of(region, zone) == (record and traces[record])


def test_where_no_zone_is_named_all_replay_some_record_and_always_the_same(tmp_path):
    for name in ("us-west-2a", "us-west-2b"):
        (tmp_path / f"{name}_v100_1.json").write_text('{"metadata": {"gap_seconds": 32}, "data": [0, 1]}')
    market = built(market_trace=tmp_path)
    zones = [f"use1-az{number}" for number in range(1, 9)]
    played = [market.zones.record(zone, market.traces) for zone in zones]
    assert set(played) == set(market.traces)
    assert [market.zones.record(zone, market.traces) for zone in zones] == played


def test_the_replay_starts_where_it_is_told_to():
    market = Market(traces={"a": Trace(3600, (1, 0, 3))}, speed=3600, offset_seconds=2 * 3600, opened_at=50)
    assert [market.spot_available("r", "a", now) for now in (50, 51, 52)] == [3, 1, 0]
    assert market.spot_available("r", "a", 50, ahead_seconds=2) == 0


@given(st.floats(0, 1e9), st.floats(0.1, 1e4), st.lists(st.integers(0, 16), min_size=1, max_size=50))
def test_a_record_offers_what_was_recorded_at_any_time(seconds, gap_seconds, available):
    assert Trace(gap_seconds, tuple(available)).available_at(seconds) in available


@pytest.mark.parametrize(("speed", "notice_seconds"), [(1, 120), (10, 12), (600, 2)])
def test_a_faster_replay_warns_later_but_never_too_late_to_save(speed, notice_seconds):
    assert Market(speed=speed).replay_notice_seconds() == notice_seconds
    assert Market(speed=speed, notice_seconds=0).replay_notice_seconds() == 0


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
    assert market.price("us-east-1", zone, instance_type, capacity_type, now=0) == price


@pytest.mark.parametrize(
    ("recorded_prices", "instance_type", "capacity_type", "prices"),
    [
        (False, "g5.xlarge", "spot", [0.42, 0.21, 0.84]),  # the table's 0.42 where the record is at its median
        (True, "g5.xlarge", "spot", [2.0, 1.0, 4.0]),
        (False, "x9.large", "spot", [2.0, 1.0, 4.0]),  # in no table
        (False, "g5.xlarge", "on-demand", [1.006] * 3),
        (False, "x9.large", "on-demand", [None] * 3),
    ],
)
def test_recorded_prices_move_what_spot_costs(tmp_path: Path, recorded_prices, instance_type, capacity_type, prices):
    (tmp_path / "catalogue.csv").write_text(CATALOGUE)
    traces = {"use1-az1": Trace(10, (1, 1, 1), (2.0, 1.0, 4.0))}
    table = read_prices(tmp_path / "catalogue.csv")
    market = Market(prices=table, traces=traces, recorded_prices=recorded_prices)
    asked = [market.price("us-east-1", "use1-az1", instance_type, capacity_type, now) for now in (0, 10, 20)]
    assert asked == prices


def test_the_price_table_says_which_rows_move(tmp_path: Path):
    (tmp_path / "catalogue.csv").write_text(CATALOGUE)
    traces = {"use1-az2": Trace(10, (1, 1, 1), (2.0, 1.0, 4.0))}
    market = Market(prices=read_prices(tmp_path / "catalogue.csv"), traces=traces)
    shown = {(row.zone, row.price_usd_per_hour, row.live) for row in market.price_rows("spot", now=20)}
    assert shown == {("*", 0.42, False), ("use1-az2", 0.78, True)}


def test_records_are_found_by_zone_in_files_and_folders(tmp_path: Path):
    (tmp_path / "us-west-2c_v100_1.json").write_text('{"metadata": {"gap_seconds": 32}, "data": [0, 1]}')
    (tmp_path / "us-east-1a").mkdir()
    (tmp_path / "us-east-1a" / "any.json").write_text('{"metadata": {"gap_seconds": 300}, "data": [16]}')
    assert read_traces(tmp_path) == {"us-west-2c": Trace(32, (0, 1)), "us-east-1a": Trace(300, (16,))}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("[1, 2", "cannot be read as JSON"),
        ("[1, 2]", "a record is"),
        ('{"data": [1]}', "a record is"),
        ('{"metadata": {}, "data": [1]}', "metadata.gap_seconds is None"),
        ('{"metadata": {"gap_seconds": 0}, "data": [1]}', "metadata.gap_seconds is 0"),
        ('{"metadata": {"gap_seconds": -5}, "data": [1]}', "metadata.gap_seconds is -5"),
        ('{"metadata": {"gap_seconds": NaN}, "data": [1]}', "metadata.gap_seconds is nan"),
        ('{"metadata": {"gap_seconds": 60}, "data": []}', "data is empty"),
        ('{"metadata": {"gap_seconds": 60}}', "data is empty"),
        ('{"metadata": {"gap_seconds": 60}, "data": [1, 2, -1]}', "data[2] is -1"),
        ('{"metadata": {"gap_seconds": 60}, "data": [0.5]}', "data[0] is 0.5"),
        ('{"metadata": {"gap_seconds": 60}, "data": [1, 1], "prices": [0.5]}', "prices has 1 entries, data has 2"),
        ('{"metadata": {"gap_seconds": 60}, "data": [1, 1], "prices": [0.5, 0]}', "prices[1] is 0"),
        ('{"metadata": {"gap_seconds": 60}, "data": [1], "prices": ["dear"]}', "prices[0] is 'dear'"),
    ],
)
def test_a_file_that_is_no_record_is_named_with_what_is_wrong(tmp_path: Path, content, problem):
    file = tmp_path / "us-west-2c_v100_1.json"
    file.write_text(content)
    for place in (file, tmp_path):
        with pytest.raises(RecordError) as refused:
            read_traces(place)
        assert str(file) in str(refused.value)
        assert problem in str(refused.value)


def test_two_records_of_one_zone_are_not_mixed_up(tmp_path: Path):
    for folder in ("2022", "2023"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "us-west-2c_v100_1.json").write_text('{"metadata": {"gap_seconds": 32}, "data": [1]}')
    with pytest.raises(RecordError, match="both of us-west-2c"):
        read_traces(tmp_path)
    with pytest.raises(RecordError, match="is not there"):
        read_traces(tmp_path / "2024")
    assert list(read_traces(tmp_path / "2022" / "us-west-2c_v100_1.json")) == ["us-west-2c"]


def built(**settings) -> Market:
    return build_market(Settings(cloud_token="a-token-of-the-test", **settings))


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"market_zones": "use1-az1=us-east-1a"}, "SSKAI_MARKET_ZONES: 'use1-az1=us-east-1a' should be ZONE=RECORD"),
        ({"market_synthetic": "mean_up=2"}, "SSKAI_MARKET_SYNTHETIC: 'mean_up=2': it should be a duration"),
        ({"market_synthetic": "mean_up=0h"}, "it should be a duration"),
        ({"market_synthetic": "weather=bad"}, "'weather=bad' is unknown; there are mean_up"),
        ({"market_synthetic": "seed=1", "market_trace": "."}, "two markets"),
        ({"market_synthetic": "seed=1", "market_prices": "recorded"}, "SSKAI_MARKET_TRACE"),
        ({"market_trace": "nowhere"}, "nowhere is not there"),
        ({"market_speed": 0}, "market_speed"),
        ({"market_notice_seconds": -1}, "market_notice_seconds"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_by_name(settings, problem):
    with pytest.raises(ValueError, match=problem):
        built(**settings)


def test_an_empty_variable_is_an_unset_one(monkeypatch: pytest.MonkeyPatch):
    for name, field in Settings.model_fields.items():
        if name.startswith("market_"):
            monkeypatch.setenv(f"SSKAI_{name.upper()}", "")
            assert getattr(Settings(cloud_token="a-token-of-the-test"), name) == field.default
