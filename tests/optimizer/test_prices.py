"""Which prices are taken, and what can be rented at which price once they are. Pure."""

from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.optimizer import catalogue, prices
from services.optimizer.catalogue import MachineFacts, ThisComputer
from services.optimizer.prices import Observed, OfferKey, Score
from services.optimizer.values import Offer
from tests.optimizer.made import NOW

SNAPSHOT = catalogue.snapshot()
LISTED = catalogue.offers_by_key()
NEW_TYPE = MachineFacts("c5.9xlarge", 36, 72.0, 12_000.0)
COMPUTER = ThisComputer(2e11, 1e10, 2)
KNOWN = catalogue.with_this_computer(catalogue.with_facts(SNAPSHOT, [NEW_TYPE]), ["m5.large", "m7i.large"], COMPUTER)

REGIONWIDE = "aws/us-east-1/*/c5.xlarge/spot"
IN_ZONE = "aws/us-east-1/use1-az3/c5.xlarge/spot"
LIST_PRICE = "aws/us-east-1/*/c5.xlarge/on-demand"


def seen(usd: float, seconds_ago: float = 0.0) -> Observed:
    return Observed(usd, NOW - timedelta(seconds=seconds_ago), "feed")


def at(observed: dict[str, Observed], now: datetime = NOW, **options: object) -> dict[str, Offer]:
    offers = prices.current(KNOWN, observed, now, **options)
    return {offer.key: offer for offer in offers}


def test_a_price_in_a_zone_that_nobody_listed_makes_an_offer() -> None:
    offers = at({IN_ZONE: seen(0.05)})
    made, mean = offers[IN_ZONE], LISTED[REGIONWIDE]
    assert (made.price_usd_per_hour, made.price_source, made.price_as_of) == (0.05, "feed", NOW.isoformat())
    assert made.interruption_band == mean.interruption_band == 0
    assert made.on_demand_price_usd_per_hour == mean.on_demand_price_usd_per_hour
    assert REGIONWIDE not in offers, "the mean of the same machines"
    assert LIST_PRICE in offers


@pytest.mark.parametrize(
    ("observed", "kept"),
    [
        ({}, True),
        ({IN_ZONE: seen(0.05, 3600)}, False),
        ({IN_ZONE: seen(0.05, 3601)}, True),  # the zone's price is as old as everybody's
        ({IN_ZONE: seen(0.05), REGIONWIDE: seen(0.06)}, True),  # somebody still tells it
        ({IN_ZONE: seen(0.05), REGIONWIDE: seen(0.06, 7200)}, False),
        ({LIST_PRICE: seen(0.2)}, True),
    ],
)
def test_a_regions_mean_is_left_out_beside_fresh_prices_of_its_zones(observed: dict[str, Observed], kept: bool) -> None:
    assert (REGIONWIDE in at(observed)) == kept


def test_an_observed_list_price_holds_for_the_region_and_beside_spot() -> None:
    told = "aws/us-east-1/*/g5.xlarge/on-demand"
    offers = [offer for offer in at({told: seen(2.0)}).values() if offer.instance_type == "g5.xlarge"]
    here = [offer for offer in offers if offer.region == "us-east-1"]
    assert {offer.on_demand_price_usd_per_hour for offer in here} == {2.0}
    assert {offer.price_usd_per_hour for offer in here if offer.capacity_type == "on-demand"} == {2.0}
    assert told not in {offer.key for offer in here}, "its zones stand there already"
    assert 2.0 not in {offer.on_demand_price_usd_per_hour for offer in offers if offer.region != "us-east-1"}
    spot = [offer for offer in here if offer.capacity_type == "spot"]
    assert spot == [replace(LISTED[offer.key], on_demand_price_usd_per_hour=2.0) for offer in spot], (
        "and leaves spot at its own price"
    )


def test_a_described_type_is_offered_once_its_prices_are_known() -> None:
    spot, on_demand = "aws/us-east-1/use1-az1/c5.9xlarge/spot", "aws/us-east-1/*/c5.9xlarge/on-demand"
    assert "c5.9xlarge" in KNOWN.machines
    assert spot not in at({spot: seen(0.5)}), "what it costs on demand is not known"
    offers = at({spot: seen(0.5), on_demand: seen(1.53)})
    assert offers[on_demand].price_usd_per_hour == 1.53
    assert (offers[spot].on_demand_price_usd_per_hour, offers[spot].interruption_band) == (1.53, None)


def test_a_known_type_is_offered_in_a_region_that_the_snapshot_lacks() -> None:
    key = "aws/sa-east-1/*/c5.xlarge/on-demand"
    assert at({key: seen(0.26)})[key].price_usd_per_hour == 0.26


def test_a_local_machine_costs_what_it_plays_unless_its_own_price_is_newer() -> None:
    played, ours = "aws/us-east-1/*/m5.large/spot", "local/us-east-1/*/local.m5.large/spot"
    assert at({})[ours].price_usd_per_hour == LISTED[played].price_usd_per_hour
    assert at({played: seen(0.01)})[ours].price_usd_per_hour == 0.01
    assert at({played: seen(0.01, 60), ours: seen(0.02)})[ours].price_usd_per_hour == 0.02
    assert at({played: seen(0.01), ours: seen(0.02, 60)})[ours].price_usd_per_hour == 0.01
    zone = "us-east-1/use1-az5"
    offers = at({f"aws/{zone}/m5.large/spot": seen(0.03)})
    assert offers[f"local/{zone}/local.m5.large/spot"].interruption_band == LISTED[played].interruption_band
    assert ours not in offers
    assert played not in offers


def test_this_computer_has_the_size_of_what_it_plays_and_its_own_speed() -> None:
    machine, played = KNOWN.machines["local.m5.large"], SNAPSHOT.machines["m5.large"]
    assert (machine.vcpus, machine.memory_gib, machine.efficiency) == (2, 8.0, played.efficiency)
    assert machine.peak_flops_per_second == COMPUTER.flops_per_second
    assert machine.bandwidth_bytes_per_second == pytest.approx(COMPUTER.bandwidth_bytes_per_second / 0.8)
    unmeasured = catalogue.with_this_computer(SNAPSHOT, ["m5.large"], None).machines["local.m5.large"]
    assert unmeasured == replace(played, instance_type="local.m5.large")


@pytest.mark.parametrize(
    "figures",
    [
        {},
        {"flops_per_second": 1e11, "bandwidth_bytes_per_second": 1e10},
        {"flops_per_second": "fast", "bandwidth_bytes_per_second": 1e10, "threads": 2},
        {"flops_per_second": math.nan, "bandwidth_bytes_per_second": 1e10, "threads": 2},
        {"flops_per_second": 1e11, "bandwidth_bytes_per_second": 0, "threads": 2},
        {"flops_per_second": 1e20, "bandwidth_bytes_per_second": 1e10, "threads": 2},
        {"flops_per_second": 1e11, "bandwidth_bytes_per_second": 1e10, "threads": 0},
    ],
)
def test_figures_that_no_computer_has_are_not_used(figures: dict[str, object]) -> None:
    assert ThisComputer.of(figures) is None


def test_scores_stand_at_their_offers_until_they_are_old() -> None:
    zone = "aws/us-east-1/use1-az1/g5.xlarge/spot"
    scores = {zone: Score(9, NOW), "aws/us-east-1/use1-az2/g5.xlarge/spot": Score(3, NOW - timedelta(hours=7))}
    scored = {key: offer.placement_score for key, offer in at({}, scores=scores).items() if offer.placement_score}
    assert scored == {zone: 9}


@pytest.mark.parametrize(
    ("key", "seconds", "stale"),
    [
        (REGIONWIDE, 3600, False),
        (REGIONWIDE, 3601, True),
        (LIST_PRICE, 3601, False),
        (LIST_PRICE, 90 * 86_400, False),
        (LIST_PRICE, 90 * 86_400 + 1, True),
    ],
)
def test_spot_prices_are_stale_after_an_hour_and_list_prices_after_ninety_days(
    key: str, seconds: float, stale: bool
) -> None:
    offer = replace(LISTED[key], price_as_of=(NOW - timedelta(seconds=seconds)).isoformat())
    assert prices.is_stale(offer, NOW) == stale


def test_the_hour_can_be_set() -> None:
    offer = replace(LISTED[REGIONWIDE], price_as_of=(NOW - timedelta(seconds=100)).isoformat())
    assert prices.is_stale(offer, NOW, 99)
    assert not prices.is_stale(offer, NOW, 101)


@pytest.mark.parametrize(
    ("key", "told", "described", "reference"),
    [
        (REGIONWIDE, None, False, 0.17),
        (REGIONWIDE, 0.5, False, 0.17),
        (IN_ZONE, None, False, 0.17),
        (IN_ZONE, 0.5, False, 0.5),
        ("aws/us-east-1/use1-az3/c5.xlarge/on-demand", None, False, None),
        ("aws/us-east-1/usw2-az1/c5.xlarge/spot", None, False, 0.17),  # both begin with "us": as near as the rule comes
        ("aws/us-east-1/euw1-az1/c5.xlarge/spot", None, False, None),
        ("aws/us-east-1/us-east-1a/c5.xlarge/spot", None, False, None),
        ("aws/us-east-1/use1-az1/c5.9xlarge/spot", None, False, None),
        ("aws/us-east-1/use1-az1/c5.9xlarge/spot", None, True, None),
        ("aws/us-east-1/use1-az1/c5.9xlarge/spot", 1.53, True, 1.53),
        ("aws/us-east-1/*/c5.9xlarge/on-demand", None, True, prices.DEAREST_USD_PER_HOUR),
        ("aws/us-east-1/*/c5.9xlarge/on-demand", None, False, None),
        ("local/us-east-1/*/local.m5.large/spot", None, False, 0.096),
        ("local/us-east-1/use1-az9/local.m5.large/spot", None, False, 0.096),
        ("local/us-east-1/use1-az1/local.g5.xlarge/spot", None, False, None),  # it has an accelerator
        ("local/us-east-1/*/m5.large/spot", None, False, None),
        ("aws/us-east-1/*/local.m5.large/spot", None, True, None),
        ("gcp/us-east-1/*/m5.large/spot", None, False, None),
    ],
)
def test_what_a_price_is_held_against(key: str, told: float | None, described: bool, reference: float | None) -> None:
    parsed = OfferKey.parse(key)
    assert parsed is not None
    observed = None if told is None else seen(told)
    assert prices.reference_usd_per_hour(parsed, told=observed, described=described) == reference


@pytest.mark.parametrize("text", ["", "a/b/c/d", "a/b/c/d/reserved", "a//c/d/spot", "a/b/c/d/spot/x"])
def test_what_is_no_offers_name(text: str) -> None:
    assert OfferKey.parse(text) is None


@given(st.sampled_from(sorted(LISTED)))
def test_a_key_is_its_parts(text: str) -> None:
    key = OfferKey.parse(text)
    assert key is not None
    assert key.text == text
    assert key.zone == "*" or key.in_a_zone


def test_a_price_is_news_if_it_differs_or_ages() -> None:
    key = OfferKey.parse(IN_ZONE)
    assert key is not None
    assert prices.is_news(key, seen(0.05), None, 3600)
    assert prices.is_news(key, seen(0.05), seen(0.04, 1), 3600)
    assert not prices.is_news(key, seen(0.05), seen(0.05, 1800), 3600)
    assert prices.is_news(key, seen(0.05), seen(0.05, 1801), 3600)
    assert not prices.is_news(key.of_region, seen(0.05), seen(0.05, 44 * 86_400), 3600)
    assert prices.is_news(key.of_region, seen(0.05), seen(0.05, 46 * 86_400), 3600)


money = st.floats(allow_nan=True, allow_infinity=True) | st.floats(1e-4, 300)
moments = st.integers(-100_000, 100_000).map(lambda seconds: NOW + timedelta(seconds=seconds))


@given(
    reference=st.none() | st.floats(0.001, 200),
    usd=money,
    moment=moments,
    newest=st.none() | moments.map(lambda moment: Observed(1.0, moment, "feed")),
)
def test_an_accepted_price_can_be_true(
    reference: float | None, usd: float, moment: datetime, newest: Observed | None
) -> None:
    outcome = prices.verdict(reference, Observed(usd, moment, "feed"), newest, NOW)
    if outcome == "accepted":
        assert reference is not None
        assert 0 < usd <= 10 * reference
        assert moment <= NOW + prices.MAX_AHEAD
        assert newest is None or newest.observed_at < moment
    if reference is not None and 0 < usd <= reference and moment <= NOW and newest is None:
        assert outcome == "accepted"


KEYS = [
    *(key for key in LISTED if "/us-east-1/" in key),
    *(f"aws/us-east-1/use1-az{n}/{name}/spot" for n in range(8) for name in ("c5.xlarge", "m5.large", "c5.9xlarge")),
    *(f"local/us-east-1/use1-az{n}/local.m5.large/spot" for n in range(8)),
    "aws/us-east-1/*/c5.9xlarge/on-demand",
    "aws/sa-east-1/*/c5.xlarge/on-demand",
    "aws/us-east-1/*/nothing.large/on-demand",
    "no key at all",
]
observations = st.dictionaries(
    st.sampled_from(KEYS),
    st.builds(Observed, st.floats(0.001, 100), moments, st.just("feed")),
    max_size=30,
)


@settings(deadline=None, max_examples=60)
@given(observations, st.randoms(use_true_random=False))
def test_whatever_was_observed_the_market_is_sound(observed: dict[str, Observed], dice: random.Random) -> None:
    offers = prices.current(KNOWN, observed, NOW)
    assert max(Counter(offer.key for offer in offers).values()) == 1
    by_key = {offer.key: offer for offer in offers}
    # Nothing of the catalogue is lost but means, and those only beside a fresh price of a zone.
    fresh = {
        (offer.cloud, offer.region, offer.instance_type)
        for offer in offers
        if offer.capacity_type == "spot" and offer.zone != "*" and not prices.is_stale(offer, NOW)
    }
    for offer in KNOWN.offers:
        mean = offer.capacity_type == "spot" and offer.zone == "*"
        assert offer.key in by_key or (mean and (offer.cloud, offer.region, offer.instance_type) in fresh)
    # Every machine is known, and has one on-demand price in a region, which is what it costs on demand.
    on_demand: dict[tuple[str, str, str], set[float]] = {}
    for offer in offers:
        assert offer.instance_type in KNOWN.machines
        place = (offer.cloud, offer.region, offer.instance_type)
        on_demand.setdefault(place, set()).add(offer.on_demand_price_usd_per_hour)
        if offer.capacity_type == "on-demand":
            assert offer.price_usd_per_hour == offer.on_demand_price_usd_per_hour
            told = [
                each
                for key, each in observed.items()
                if key.startswith(f"aws/{offer.region}/") and key.endswith(f"/{offer.instance_type}/on-demand")
            ]
            if told and offer.cloud == "aws":
                newest = max(each.observed_at for each in told)
                assert offer.price_usd_per_hour in {e.price_usd_per_hour for e in told if e.observed_at == newest}
    assert {len(each) for each in on_demand.values()} == {1}
    for key, each in observed.items():
        if key in by_key and key.endswith("/spot") and key.startswith("aws/"):
            assert by_key[key].price_usd_per_hour == each.price_usd_per_hour
    # The order in which the observations are held makes no difference: equal markets have equal hashes.
    shuffled = list(observed.items())
    dice.shuffle(shuffled)
    assert prices.current(KNOWN, dict(shuffled), NOW) == offers


@settings(deadline=None, max_examples=60)
@given(observations, st.dictionaries(st.sampled_from(KEYS), st.builds(Score, st.integers(1, 10), moments), max_size=5))
def test_the_market_stays_as_it_is_until_it_says(observed: dict[str, Observed], scores: dict[str, Score]) -> None:
    until = prices.changes_at(observed, scores, NOW, 3600)
    later = NOW + timedelta(days=30) if until is None else until
    assert later >= NOW
    assert prices.current(KNOWN, observed, later, scores=scores) == prices.current(KNOWN, observed, NOW, scores=scores)
