"""AWS's answers in our words: whole, over several pages, throttled, garbled, empty, or missing in one region."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from moto.server import ThreadedMotoServer

from services.optimizer import aws, catalogue
from services.optimizer.aws import SKIPPED, Aws, AwsError
from services.optimizer.catalogue import MachineFacts
from services.optimizer.prices import OfferKey
from tests.optimizer import aws_double
from tests.optimizer.aws_double import Double, error, machine, machines_page, price_list, product, scores_page, spot
from tests.optimizer.made import NOW

US = "us-east-1"
CREDENTIALS = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}


@pytest.fixture
def double() -> Iterator[Double]:
    with aws_double.running() as server:
        yield server


@pytest.fixture
def feed(double: Double) -> Aws:
    return Aws(double.url, **CREDENTIALS)


@pytest.fixture(scope="module")
def moto() -> Iterator[Aws]:
    """moto knows the real instance types and zones of AWS."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield Aws(f"http://{host}:{port}", **CREDENTIALS)
    server.stop()


def skipped(kind: str, reason: str) -> float:
    return float(SKIPPED.labels(kind=kind, reason=reason)._value.get())


def texts(found: dict[OfferKey, Any]) -> dict[str, Any]:
    return {key.text: value for key, value in found.items()}


def test_the_real_instance_types_are_read_as_the_snapshot_has_them(moto: Aws) -> None:
    described = {facts.instance_type: facts for facts in moto.machine_types(US)}
    snapshot = catalogue.snapshot().machines
    assert len(described) > 500
    compared = 0
    for name in sorted(described.keys() & snapshot.keys()):
        ours, live = snapshot[name], catalogue.machine_of(described[name])
        assert live is not None, name
        # The snapshot counts an accelerator's memory in round figures; AWS without what error correction takes. Its
        # network figures come from several lists and are not compared.
        rounded = replace(live, accelerator_memory_gib=ours.accelerator_memory_gib, network_mbps=ours.network_mbps)
        assert rounded == ours
        assert live.accelerator_memory_gib == pytest.approx(ours.accelerator_memory_gib, rel=0.12)
        assert live.network_mbps > 0
        compared += 1
    assert compared > 40


def test_types_beyond_the_snapshot_become_machines_if_their_processor_is_known(moto: Aws) -> None:
    known = catalogue.with_facts(catalogue.snapshot(), moto.machine_types(US))
    new = known.machines.keys() - catalogue.snapshot().machines.keys()
    assert {"c5.large", "m7i.48xlarge", "r5.24xlarge"} <= new
    assert known.machines["c5.9xlarge"].peak_flops_per_second == pytest.approx(
        9 * known.machines["c5.xlarge"].peak_flops_per_second
    )
    # Another architecture, another maker's accelerator, a fraction of one, and one that no table lists.
    assert not {"m7g.large", "g4ad.xlarge", "inf2.xlarge", "trn1.2xlarge", "g6f.large", "g5g.xlarge"} & new


def test_spot_prices_of_the_real_zone_names(moto: Aws) -> None:
    found = texts(moto.spot_prices(US, ["m5.large"], NOW))
    assert "aws/us-east-1/use1-az6/m5.large/spot" in found
    assert all(price > 0 for price in found.values())


def test_machine_types_over_three_pages(feed: Aws, double: Double) -> None:
    names = ["c5.large", "c5.9xlarge", "c5.metal"]
    double.pages["DescribeInstanceTypes", US] = [
        machines_page([machine(name)], next_token=token) for name, token in zip(names, ("2", "3", ""), strict=True)
    ]
    assert feed.machine_types(US) == [MachineFacts(name, 4, 16.0, 2500.0) for name in names]
    assert [each.get("NextToken") for each in double.asked("DescribeInstanceTypes")] == [None, "2", "3"]


def test_machine_types_that_cannot_be_read_are_skipped(feed: Aws, double: Double) -> None:
    before = skipped("machines", "unreadable"), skipped("machines", "unknown-accelerator")
    gpu = {"name": "L4", "manufacturer": "NVIDIA", "count": 2, "memoryInfo": {"sizeInMiB": 22888}}
    double.pages["DescribeInstanceTypes", US] = [
        machines_page(
            [
                machine(""),
                machine("c5.large", memoryInfo={}),
                machine("c5.large", memoryInfo={"sizeInMiB": -1}),
                machine("g6.large", gpuInfo={"gpus": [gpu, gpu]}),
                machine("g6.large", gpuInfo={"gpus": [{**gpu, "count": 0}]}),
                machine("inf9.large", neuronInfo={"neuronDevices": [{"count": 1}]}),
                machine("g6.huge", gpuInfo={"gpus": [gpu]}),
            ]
        )
    ]
    [facts] = feed.machine_types(US)
    assert (facts.instance_type, facts.accelerator_count) == ("g6.huge", 2)
    found = catalogue.machine_of(facts)
    assert found is not None
    assert (found.accelerator_name, found.peak_flops_per_second) == ("L4", 121e12)
    after = skipped("machines", "unreadable"), skipped("machines", "unknown-accelerator")
    assert (after[0] - before[0], after[1] - before[1]) == (5, 1)


@pytest.mark.parametrize(
    ("word", "gib", "name"),
    [
        ("A100", 40, "A100"),
        ("A100", 80, "A100-80GB"),
        ("V100", 32, "V100-32GB"),
        ("A10G", 22.35, "A10G"),
        ("RTX PRO Server 6000", 96, "RTXPRO6000"),
        ("RTX PRO 4500", 32, None),
        ("L4", 11.2, None),
        ("T4g", 16, None),
        ("", 16, None),
    ],
)
def test_accelerators_are_told_apart_by_name_and_memory(word: str, gib: float, name: str | None) -> None:
    found = catalogue.machine_of(MachineFacts("x9.large", 4, 16.0, 1000.0, word, 1, gib))
    assert (found.accelerator_name if found else None) == name


def test_spot_prices_over_three_pages_newest_of_each_zone(feed: Aws, double: Double) -> None:
    double.pages["DescribeSpotPriceHistory", US] = [
        aws_double.spot_page([spot("c5.large", "use1-az1", "0.03")], next_token="2"),
        aws_double.spot_page(
            [
                spot("c5.large", "us-east-1b", "0.04"),
                spot("c5.large", "use1-az1", "0.05", "2026-11-24T11:30:00.000Z"),
            ],
            next_token="3",
        ),
        aws_double.spot_page([spot("c5.large", "use1-az1", "0.01", "2026-11-24T09:00:00.000Z")]),
    ]
    double.pages["DescribeAvailabilityZones", US] = [aws_double.zones_page({"us-east-1b": "use1-az4"})]
    found = feed.spot_prices(US, ["c5.large"], NOW)
    assert texts(found) == {
        "aws/us-east-1/use1-az1/c5.large/spot": 0.05,
        "aws/us-east-1/use1-az4/c5.large/spot": 0.04,
    }
    first, *_ = double.asked("DescribeSpotPriceHistory")
    assert (first["InstanceType.1"], first["ProductDescription.1"]) == ("c5.large", "Linux/UNIX")
    assert first["StartTime"].startswith("2026-11-24T12:00:00")


def test_zones_are_not_asked_for_where_every_price_names_its_id(feed: Aws, double: Double) -> None:
    double.pages["DescribeSpotPriceHistory", US] = [aws_double.spot_page([spot("c5.large", "use1-az1", "0.03")])]
    assert feed.spot_prices(US, ["c5.large"], NOW)
    assert double.asked("DescribeAvailabilityZones") == []


def test_many_types_are_asked_for_in_several_questions(feed: Aws, double: Double) -> None:
    double.pages["DescribeSpotPriceHistory", US] = [aws_double.spot_page([])]
    assert feed.spot_prices(US, [f"c5.{number}" for number in range(250)], NOW) == {}
    assert len(double.asked("DescribeSpotPriceHistory")) == 3


def test_spot_prices_that_cannot_be_read_are_skipped(feed: Aws, double: Double) -> None:
    before = skipped("spot", "unreadable"), skipped("spot", "unknown-zone")
    double.pages["DescribeAvailabilityZones", US] = [aws_double.zones_page({"us-east-1b": "use1-az4"})]
    double.pages["DescribeSpotPriceHistory", US] = [
        aws_double.spot_page(
            [
                *(spot("c5.large", "use1-az1", price) for price in ("", "free", "NaN", "inf", "-1", "0")),
                spot("p9.large", "use1-az1", "1"),  # nobody asked for it
                spot("c5.large", "us-east-1z", "1"),
                spot("c5.large", "us-east-1-bos-1a", "1"),
                spot("c5.large", "euw1-az1", "1"),
                {"instanceType": "c5.large"},
                spot("c5.large", "use1-az2", "0.0331"),
            ]
        )
    ]
    assert texts(feed.spot_prices(US, ["c5.large"], NOW)) == {"aws/us-east-1/use1-az2/c5.large/spot": 0.0331}
    after = skipped("spot", "unreadable"), skipped("spot", "unknown-zone")
    assert (after[0] - before[0], after[1] - before[1]) == (8, 3)


def test_on_demand_prices_over_three_pages(feed: Aws, double: Double) -> None:
    names = ["c5.large", "c5.xlarge", "m5.large"]
    double.pages["GetProducts", US] = [
        price_list([product(name, "0.0850000000", "eu-west-1")], next_token=token)
        for name, token in zip(names, ("2", "3", ""), strict=True)
    ]
    found = feed.on_demand_prices("eu-west-1")
    assert texts(found) == {f"aws/eu-west-1/*/{name}/on-demand": 0.085 for name in names}
    first, *_ = double.asked("GetProducts")
    assert {each["Field"]: each["Value"] for each in first["Filters"]} == {
        "regionCode": "eu-west-1",
        "operatingSystem": "Linux",
        "tenancy": "Shared",
        "capacitystatus": "Used",
        "preInstalledSw": "NA",
    }


def test_on_demand_prices_that_cannot_be_read_are_skipped(feed: Aws, double: Double) -> None:
    before = skipped("on-demand", "unreadable") + skipped("on-demand", "no-single-price")
    double.pages["GetProducts", US] = [
        price_list(
            [
                "no json",
                "[1]",
                "{}",
                product("c5.large", "free"),
                product("c5.large", "0.0000000000"),
                product("c5.large", None),
                product("c5.large", "0.1", region="eu-west-1"),
                product("c5.large", "0.1", preInstalledSw="SQL Std"),
                product("c5.large", "0.1", tenancy="Dedicated"),
                product("m5.large", "0.096"),
            ]
        )
    ]
    assert texts(feed.on_demand_prices(US)) == {"aws/us-east-1/*/m5.large/on-demand": 0.096}
    assert skipped("on-demand", "unreadable") + skipped("on-demand", "no-single-price") == before + 9


def test_scores_hold_for_every_type_that_was_asked_for(feed: Aws, double: Double) -> None:
    items = [
        {"region": US, "availabilityZoneId": "use1-az1", "score": 9},
        {"region": US, "availabilityZoneId": "use1-az2", "score": 11},
        {"region": US, "score": 5},
        {"region": "eu-west-1", "availabilityZoneId": "euw1-az1", "score": 5},
    ]
    double.pages["GetSpotPlacementScores", US] = [scores_page(items)]
    assert texts(feed.placement_scores(US, ["g5.xlarge", "g6.xlarge"])) == {
        "aws/us-east-1/use1-az1/g5.xlarge/spot": 9,
        "aws/us-east-1/use1-az1/g6.xlarge/spot": 9,
    }
    [asked] = double.asked("GetSpotPlacementScores")
    assert (asked["SingleAvailabilityZone"], asked["RegionName.1"], asked["TargetCapacity"]) == ("true", US, "1")


def test_a_throttled_question_is_asked_again(feed: Aws, double: Double) -> None:
    double.pages["DescribeSpotPriceHistory", US] = [
        error("RequestLimitExceeded", 503),
        aws_double.spot_page([spot("c5.large", "use1-az1", "0.03")]),
    ]
    assert len(feed.spot_prices(US, ["c5.large"], NOW)) == 1
    assert len(double.asked("DescribeSpotPriceHistory")) == 2


def test_a_region_that_refuses_leaves_the_others(feed: Aws, double: Double) -> None:
    double.pages["DescribeInstanceTypes", "us-west-2"] = [machines_page([machine("c5.large")])]
    with pytest.raises(AwsError, match=r"describe_instance_types in us-east-1.*UnauthorizedOperation"):
        feed.machine_types(US)
    assert len(feed.machine_types("us-west-2")) == 1


@pytest.mark.parametrize("body", ["no xml at all", "<DescribeInstanceTypesResponse><instanceTypeSet><item>", "{}"])
def test_an_answer_in_no_language_is_no_answer(feed: Aws, double: Double, body: str) -> None:
    double.pages["DescribeInstanceTypes", US] = [(200, body)]
    with pytest.raises(AwsError, match="describe_instance_types"):
        feed.machine_types(US)


def test_numbers_that_are_none_are_no_answer(feed: Aws, double: Double) -> None:
    double.pages["DescribeInstanceTypes", US] = [machines_page([machine("c5.large", vCpuInfo={"defaultVCpus": "x"})])]
    with pytest.raises(AwsError):
        feed.machine_types(US)


def test_empty_answers_are_empty(feed: Aws, double: Double) -> None:
    double.pages["DescribeInstanceTypes", US] = [machines_page([])]
    double.pages["DescribeSpotPriceHistory", US] = [aws_double.spot_page([])]
    double.pages["GetProducts", US] = [price_list([])]
    double.pages["GetSpotPlacementScores", US] = [scores_page([])]
    assert feed.machine_types(US) == []
    assert feed.spot_prices(US, ["c5.large"], NOW) == {}
    assert feed.on_demand_prices(US) == {}
    assert feed.placement_scores(US, ["c5.large"]) == {}


def test_an_endless_answer_is_cut_off(feed: Aws, double: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aws, "MAX_PAGES", 3)
    pages = [machines_page([machine(f"c5.{number}")], next_token=f"{number}") for number in range(9)]
    double.pages["DescribeInstanceTypes", US] = pages
    before = skipped("machines", "cut-off")
    assert len(feed.machine_types(US)) == 3
    assert skipped("machines", "cut-off") == before + 1


def test_an_address_where_nobody_listens_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aws, "ATTEMPTS", 1)
    with pytest.raises(AwsError, match="describe_instance_types"):
        Aws("http://127.0.0.1:9", **CREDENTIALS).machine_types(US)
