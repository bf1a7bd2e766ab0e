"""How a model should be served: rates against hand counts, queues and sleep against simulations, choices by table."""

from __future__ import annotations

import heapq
import math
import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.optimizer import (
    catalogue,
    memory,
    serving,
    serving_costs,
    serving_rates,
    serving_snapshot,
    serving_wording,
)
from services.optimizer.serving_costs import KINDS, Traffic, billed_share, cold_share
from services.optimizer.serving_rates import Replica, ServingProfile, Shape, Wishes, erlang_c
from services.optimizer.serving_values import EndpointPlan, Option, Spec
from services.optimizer.snapshot import Market
from services.optimizer.values import Assumptions, Refusal
from tests.optimizer.made import NOW
from tests.optimizer.served import GIANT, MIDDLE, SMALL, SPEC, asking, decide, option_of, planned, refused

MACHINES = catalogue.snapshot().machines
OFFERS = catalogue.snapshot().offers
SHAPE = Shape(300, 150)
RNG_SEED = 20261124


def replica_on(instance_type: str, profile: ServingProfile = MIDDLE, shape: Shape = SHAPE) -> Replica:
    found = serving_rates.replica(profile, MACHINES[instance_type], shape)
    assert found is not None
    return found


# Rates


def test_a_step_reads_the_weights_once_and_each_answers_keys_and_values() -> None:
    """By hand: 8 billion bf16 parameters at four fifths of 600 GB/s, and 375 tokens of 128 KiB."""
    replica = replica_on("g5.xlarge")
    weights = 8_030_261_248 * 2 / 480e9
    cached = 375 * 131_072 / 480e9
    assert replica.step_seconds(1) == pytest.approx(weights + cached)
    assert replica.step_seconds(8) == pytest.approx(weights + 8 * cached)


def test_the_prompt_is_bound_by_arithmetic_on_an_accelerator() -> None:
    flops = 300 * MIDDLE.flops_per_token + 300**2 * MIDDLE.attention_flops_per_pair
    assert replica_on("g5.xlarge").prefill_seconds == pytest.approx(flops / (70e12 * 0.35))


def test_a_small_model_is_bound_by_starting_kernels() -> None:
    assert replica_on("p5.4xlarge", SMALL).step_seconds(1) == pytest.approx(30 * 20 * 10e-6)


def test_weights_are_twice_as_large_on_a_processor() -> None:
    machine = MACHINES["m5.large"]
    assert replica_on("m5.large", SMALL).step_seconds_fixed == pytest.approx(
        134_515_008 * 4 / (machine.bandwidth_bytes_per_second * 0.8)
    )


def test_many_answers_on_a_processor_are_bound_by_arithmetic() -> None:
    """Two vCPUs at 0.45 of 99.2 GFLOP/s, of which thin products reach a fifth; a cache of 375 tokens in the mean."""
    machine = MACHINES["m5.large"]
    each = SMALL.flops_per_token + 375 * SMALL.attention_flops_per_pair
    rate = 2 * 99.2e9 * 0.45 * serving_rates.STEP_SHARE_ON_PROCESSORS
    replica = replica_on(machine.instance_type, SMALL)
    assert replica.step_seconds(64) == pytest.approx(64 * each / rate)
    assert replica.step_seconds(1) == pytest.approx(replica.step_seconds_fixed + replica.step_seconds_per_answer)


@pytest.mark.parametrize("name", sorted(MACHINES))
def test_as_many_answers_run_side_by_side_as_fit(name: str) -> None:
    machine = MACHINES[name]
    found = serving_rates.replica(MIDDLE, machine, SHAPE)
    room = memory.usable_bytes(machine) - serving_rates.fixed_bytes(MIDDLE, machine, SHAPE)
    each = serving_rates.bytes_per_answer(MIDDLE, machine, SHAPE)
    if found is None:
        assert room < each
    else:
        assert found.slots * each <= room
        assert found.slots == serving_rates.MAX_SLOTS or (found.slots + 1) * each > room


def test_answers_in_company_are_slower_and_the_replica_faster() -> None:
    replica = replica_on("g5.xlarge")
    rates = [count * replica.output_tokens / replica.service_seconds(count) for count in (1, 4, 16)]
    assert rates == sorted(rates)
    paces = [replica.tokens_per_second(share * replica.requests_per_second) for share in (0, 0.3, 0.6)]
    assert paces == sorted(paces, reverse=True)


def test_an_adapter_costs_steps_and_company_of_adapters_more() -> None:
    plain = replica_on("p5.4xlarge", SMALL)
    alone = replica_on("p5.4xlarge", SMALL, replace(SHAPE, adapter_rank=8))
    shared = replica_on("p5.4xlarge", SMALL, replace(SHAPE, adapter_rank=8, shared=True))
    assert plain.step_seconds(1) < alone.step_seconds(1) < shared.step_seconds(1)


# Waiting


@pytest.mark.parametrize(
    ("servers", "load", "waiting"),
    # One server: the load itself. Two: load^2 / (2 + load). Ten and eight: tables of Erlang C say 0.4092.
    [(1, 0.3, 0.3), (2, 1.0, 1 / 3), (2, 1.5, 0.642857), (10, 8.0, 0.4092)],
)
def test_erlang_c_against_known_values(servers: int, load: float, waiting: float) -> None:
    assert erlang_c(servers, load) == pytest.approx(waiting, rel=1e-3)


def simulated_latency(replica: Replica, rate: float, share: float) -> float:
    """The wait that this share of requests exceeds in an M/M/c queue played request by request, plus an answer."""
    dice = random.Random(RNG_SEED)
    service = replica.service_seconds(replica.slots)
    free = [0.0] * replica.slots
    clock, waits = 0.0, []
    for _ in range(60_000):
        clock += dice.expovariate(rate)
        begin = max(clock, heapq.heappop(free))
        heapq.heappush(free, begin + dice.expovariate(1 / service))
        waits.append(begin - clock)
    return sorted(waits)[int(len(waits) * (1 - share))] + replica.service_seconds(replica.company(rate))


@pytest.mark.parametrize(("slots", "utilisation"), [(1, 0.5), (4, 0.7), (4, 0.9), (16, 0.9)])
def test_waits_are_those_of_a_queue_that_is_played(slots: int, utilisation: float) -> None:
    replica = replace(replica_on("g5.xlarge"), slots=slots)
    rate = utilisation * replica.requests_per_second
    assert replica.latency_seconds(rate, 0.05) == pytest.approx(simulated_latency(replica, rate, 0.05), rel=0.08)


def test_more_than_a_replica_bears_waits_for_ever() -> None:
    replica = replica_on("g5.xlarge")
    assert replica.latency_seconds(replica.requests_per_second, 0.05) == math.inf


@given(
    pace=st.one_of(st.none(), st.floats(1, 100)),
    latency=st.one_of(st.none(), st.floats(0.5, 60)),
    tail=st.sampled_from([0.025, 0.05]),
)
def test_what_a_replica_bears_is_kept_and_a_little_more_is_not(
    pace: float | None, latency: float | None, tail: float
) -> None:
    replica, wishes = replica_on("g5.xlarge"), Wishes(pace, latency)
    bearable = replica.bearable_per_second(wishes, tail)
    most = serving_rates.TARGET_UTILISATION * replica.requests_per_second
    assert 0 < bearable <= most
    if replica.keeps(wishes, 1e-6 * most, tail):
        assert replica.keeps(wishes, bearable, tail)
        assert bearable == most or not replica.keeps(wishes, bearable * 1.0001, tail)


# Sleep


def simulated_sleep(rate: float, hold: float, start: float) -> tuple[float, float]:
    """Of a replica that sleeps after `hold` seconds without a request: share of cold requests, share of billed time."""
    dice = random.Random(RNG_SEED)
    clock = billed = ready = until = 0.0
    cold, count = 0, 60_000
    for _ in range(count):
        clock += dice.expovariate(rate)
        if clock > until:  # asleep: order a machine
            cold += 1
            ready = clock + start
            billed += start + hold
            until = ready + hold
        elif clock < ready:
            cold += 1  # waits with the one that ordered it
        else:
            billed += clock + hold - until
            until = clock + hold
    return cold / count, billed / clock


@pytest.mark.parametrize(
    ("rate", "hold", "start"),
    [(0.0005, 300, 120), (0.003, 300, 120), (0.01, 300, 300), (0.005, 60, 500), (0.02, 80, 0)],
)
def test_sleep_is_that_of_a_replica_that_is_played(rate: float, hold: float, start: float) -> None:
    cold, billed = simulated_sleep(rate, hold, start)
    assert cold_share(rate, hold, start) == pytest.approx(cold, rel=0.04, abs=0.002)
    assert billed_share(rate, hold, start) == pytest.approx(billed, rel=0.04)


def test_nobody_comes_and_nothing_is_billed() -> None:
    assert billed_share(0, 300, 120) == 0


def test_a_machine_is_kept_for_what_is_billed_anyway(monkeypatch: pytest.MonkeyPatch) -> None:
    way = replace(option_of(planned(), "serverless").way, cold_start_seconds=20)
    monkeypatch.setattr(serving_costs, "IDLE_SECONDS", 0.0)
    quick = replace(way, replica=replace(way.replica, output_tokens=1.0))
    assert quick.hold_seconds == 60 - 20
    assert replace(quick, cold_start_seconds=300).hold_seconds == quick.replica.service_seconds(1)


def test_a_day_has_its_requests() -> None:
    traffic = Traffic(2400, 6)
    assert sum(hours * rate * 3600 for hours, rate in traffic.hours) == pytest.approx(2400)
    assert traffic.hours[0] == (1.0, 600 / 3600)


# Choices

CHOICES = {
    "low traffic sleeps": (asking(requests_per_day=20), MIDDLE, "serverless"),
    "steady traffic is on spot": (asking(requests_per_day=1_000_000, peak_to_mean=1), MIDDLE, "spot"),
    "much traffic is on spot": (asking(requests_per_day=1_000_000), MIDDLE, "spot"),
    "one busy replica is on demand": (asking(requests_per_day=20_000, peak_to_mean=1), MIDDLE, "on-demand"),
    "a running base takes an adapter": (asking(base_is_running=True, adapter_rank=8), SMALL, "adapter"),
    "nobody may wait for a machine": (
        asking(requests_per_day=20, p95_latency_seconds=20), MIDDLE, "on-demand",
    ),
    "too much for the running base": (
        asking(requests_per_day=1_000_000, peak_to_mean=1, base_is_running=True), MIDDLE, "spot",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("spec", "profile", "kind"), CHOICES.values(), ids=CHOICES.keys())
def test_the_kind_that_is_chosen(spec: Spec, profile: ServingProfile, kind: str) -> None:
    plan = planned(spec, profile)
    assert plan.options[0].kind == kind
    assert plan.options[0].meets
    assert plan.explanation.startswith(kind)
    assert [option.meets for option in plan.options] == sorted((option.meets for option in plan.options), reverse=True)


def test_a_month_on_demand_is_730_hours_of_each_replica() -> None:
    option = option_of(planned(asking(requests_per_day=3_000_000, peak_to_mean=1), MIDDLE), "on-demand")
    assert option.service.replicas > 1
    assert option.usd_per_month == pytest.approx(option.service.replicas * option.offer.price_usd_per_hour * 730)
    tokens = 3_000_000 * 730 / 24 * 450
    assert option.usd_per_million_tokens == pytest.approx(option.usd_per_month / tokens * 1e6)


def test_replicas_follow_the_traffic_from_hour_to_hour() -> None:
    """All of a day's requests within its busiest hour, and one warm replica for the other 23."""
    option = option_of(planned(asking(requests_per_day=100_000, peak_to_mean=24), MIDDLE), "on-demand")
    busy = option.service.replicas
    assert busy > 1
    assert option.usd_per_month == pytest.approx(option.offer.price_usd_per_hour * 730 / 24 * (busy + 23))


def test_spot_keeps_one_replica_on_demand_and_pays_for_what_is_missing() -> None:
    option = option_of(planned(asking(requests_per_day=2_000_000, peak_to_mean=1), MIDDLE), "spot")
    others = option.service.replicas - 1
    assert (option.on_demand_floor, others > 1) == (1, True)
    spare = option.way.spare_share
    assert 0 < spare < 0.01
    hour = option.offer.on_demand_price_usd_per_hour + others * option.offer.price_usd_per_hour * (1 + spare)
    assert option.usd_per_month == pytest.approx(730 * hour)
    assert option_of(planned(asking(requests_per_day=1)), "spot").service.replicas == 2


def test_serverless_pays_for_starts_busy_periods_and_idle_timeouts() -> None:
    option = option_of(planned(asking(requests_per_day=1, peak_to_mean=1), MIDDLE), "serverless")
    # One request a day: a start, an answer and an idle timeout, now and then shared with the next one.
    once = option.way.cold_start_seconds + option.way.replica.service_seconds(1) + 300
    expected = once / 3600 * option.offer.price_usd_per_hour * 730 / 24
    assert option.usd_per_month == pytest.approx(expected, rel=0.01)
    assert option.service.cold_fraction > 0.99
    assert option.cold_start_seconds == option.way.cold_start_seconds > 120


def test_an_adapter_is_free_while_the_base_has_room_and_slower_than_alone() -> None:
    plan = planned(asking(base_is_running=True, adapter_rank=8), SMALL)
    adapter, alone = option_of(plan, "adapter"), option_of(plan, "on-demand")
    assert adapter.usd_per_month == 0
    assert adapter.offer.instance_type == alone.offer.instance_type
    assert adapter.service.tokens_per_second < alone.service.tokens_per_second
    assert "rests on the base" in serving_wording.detail(adapter)


@pytest.mark.parametrize(("share", "replicas"), [(0.49, 1), (0.51, 2)])
def test_half_of_a_running_base_is_free_and_more_takes_a_further_replica(share: float, replicas: int) -> None:
    only = asking(base_is_running=True, peak_to_mean=1, instance_types=("g5.xlarge",), requests_per_day=1)
    way = option_of(planned(only, MIDDLE), "adapter").way
    requests = share * way.bearable_per_second * 86_400
    option = option_of(planned(replace(only, requests_per_day=requests), MIDDLE), "adapter")
    assert option.service.replicas == replicas
    assert option.usd_per_month == pytest.approx((replicas - 1) * option.offer.price_usd_per_hour * 730)


def test_a_running_base_is_taken_to_be_on_the_cheapest_machine_that_keeps_the_wishes() -> None:
    cheap, fast = (
        option_of(planned(asking(base_is_running=True, tokens_per_second=pace), MIDDLE), "adapter")
        for pace in (None, 40)
    )
    assert cheap.offer.price_usd_per_hour < fast.offer.price_usd_per_hour
    assert fast.service.tokens_per_second >= 40
    assert cheap.usd_per_month == fast.usd_per_month == 0


def test_without_a_running_base_no_adapter_is_offered_and_that_is_said() -> None:
    plan = planned(asking(adapter_rank=8))
    assert "adapter" not in {option.kind for option in plan.options}
    assert "No endpoint on this base runs" in plan.explanation


def test_what_misses_a_wish_stands_last_and_says_by_how_much() -> None:
    last = planned(asking(requests_per_day=20, p95_latency_seconds=20), MIDDLE).options[-1]
    assert (last.kind, last.meets) == ("serverless", False)
    assert "s over 20" in serving_wording.detail(last)
    assert "wait for a machine" in serving_wording.detail(last)


def test_the_replicas_keep_the_wishes_at_the_busiest_hour() -> None:
    spec = asking(requests_per_day=500_000, tokens_per_second=25, p95_latency_seconds=7)
    for option in planned(spec, MIDDLE).options:
        assert option.meets
        assert option.service.tokens_per_second >= 25
        assert option.service.p95_latency_seconds <= 7
        assert option.service.utilisation <= serving_rates.TARGET_UTILISATION


def test_an_old_price_is_said() -> None:
    assert "days old)" in planned().explanation


def test_a_base_that_cannot_grow_enough_is_said_to_miss() -> None:
    spec = asking(requests_per_day=9e6, peak_to_mean=24, base_is_running=True, adapter_rank=8)
    adapter = option_of(planned(spec), "adapter")
    assert adapter.offer.instance_type == "m5.large"
    assert "over the limit of 1000" in serving_wording.detail(adapter)


REFUSALS = {
    "no traffic": (asking(requests_per_day=0), SMALL, "resources", "requests_per_day is 0"),
    "negative traffic": (asking(requests_per_day=-5), SMALL, "resources", "requests_per_day is -5"),
    "no number": (asking(requests_per_day=math.nan), SMALL, "resources", "requests_per_day is nan"),
    "endless traffic": (asking(requests_per_day=math.inf), SMALL, "resources", "requests_per_day is inf"),
    "no answers": (asking(output_tokens_per_request=0), SMALL, "resources", "output_tokens_per_request is 0"),
    "flatter than flat": (asking(peak_to_mean=0.5), SMALL, "resources", "peak_to_mean is 0.5"),
    "no money": (asking(budget_usd_per_month=0), SMALL, "budget", "budget_usd_per_month is 0"),
    "context": (asking(input_tokens_per_request=9000), SMALL, "model", "958 over the model's context of 8192"),
    "memory": (SPEC, GIANT, "memory", "GiB for the model and one answer"),
    "nonsense": (asking(cpus="many"), SMALL, "resources", "is no size"),
    "unknown accelerator": (asking(accelerators="Z99"), SMALL, "resources", "not in the catalogue"),
    "no such machine": (asking(instance_types=("z1.*",)), SMALL, "resources", "instance_types asks for z1.*"),
    "hourly price": (asking(max_price_usd_per_hour=0.01), SMALL, "resources", "over max_price 0.01"),
    "budget": (asking(budget_usd_per_month=1), MIDDLE, "budget", "over 1.00 USD"),
    "a base that would have to grow": (
        asking(budget_usd_per_month=1, requests_per_day=1e6, base_is_running=True), MIDDLE, "budget", "over 1.00 USD",
    ),
    "pace": (asking(tokens_per_second=1000), MIDDLE, "deadline", "short of 1000"),
    "latency": (asking(p95_latency_seconds=0.1), MIDDLE, "deadline", "s over 0.1"),
    "replicas": (
        asking(requests_per_day=1e9, instance_types=("m5.large",)), SMALL, "resources", "over the limit of 1000",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("spec", "profile", "reason", "words"), REFUSALS.values(), ids=REFUSALS.keys())
def test_a_refusal_names_what_binds_by_how_much_and_what_to_do(
    spec: Spec, profile: ServingProfile, reason: str, words: str
) -> None:
    refusal = refused(spec, profile)
    assert refusal.reason == reason
    assert words in refusal.detail
    assert refusal.advice


def test_a_budget_excludes_what_costs_more() -> None:
    free = planned(SPEC, MIDDLE)
    cheapest = min(option.usd_per_month for option in free.options)
    assert planned(asking(budget_usd_per_month=cheapest), MIDDLE).options[0].usd_per_month == cheapest
    refusal = refused(asking(budget_usd_per_month=cheapest / 2), MIDDLE)
    assert refusal.reason == "budget"
    assert f"{cheapest:.2f} USD" in refusal.detail


def test_resources_regions_and_what_is_offered_are_obeyed() -> None:
    spec = asking(accelerators="L4:1", memory="16+", regions=("us-east-1", "us-east-2"))
    for option in planned(spec, MIDDLE, assumptions=Assumptions(regions=("us-east-2",))).options:
        assert MACHINES[option.offer.instance_type].accelerator_name == "L4"
        assert option.offer.region == "us-east-2"
    types = {option.offer.instance_type for option in planned(assumptions=Assumptions(("m7i.*",))).options}
    assert types <= {"m7i.large", "m7i.xlarge"}


def test_the_ceiling_of_a_price_holds_for_the_on_demand_floor_too() -> None:
    """m7i.large costs 0.1008 USD/h on demand and about a third of that on spot."""
    only = asking(instance_types=("m7i.large",))
    assert "spot" in {option.kind for option in planned(only).options}
    assert "over max_price 0.05" in refused(replace(only, max_price_usd_per_hour=0.05)).detail


# Laws

TRAFFIC = st.floats(0.1, 3e6)
PROFILES = st.sampled_from([SMALL, MIDDLE])


@example(requests=2e6, more=5.0, peak=24.0, profile=SMALL)  # more replicas than anybody has, of the cheapest machine
@settings(max_examples=40)
@given(requests=TRAFFIC, more=st.floats(1, 100), peak=st.floats(1, 24), profile=PROFILES)
def test_more_traffic_never_costs_less(requests: float, more: float, peak: float, profile: ServingProfile) -> None:
    def costs(requests_per_day: float) -> dict[str, float]:
        spec = asking(requests_per_day=requests_per_day, peak_to_mean=peak, base_is_running=True, adapter_rank=8)
        outcome = decide(spec, profile)
        return {} if isinstance(outcome, Refusal) else {o.kind: o.usd_per_month for o in outcome.options}

    fewer, many = costs(requests), costs(requests * more)
    for kind in set(fewer) & set(many):
        assert many[kind] >= fewer[kind] * (1 - 1e-9)


@settings(max_examples=40)
@given(requests=TRAFFIC, peak=st.floats(1, 24), profile=PROFILES, wished=st.booleans())
def test_costs_cross_where_the_break_even_says(
    requests: float, peak: float, profile: ServingProfile, wished: bool
) -> None:
    wishes: dict[str, Any] = {"tokens_per_second": 10.0, "p95_latency_seconds": 30.0} if wished else {}
    outcome = decide(asking(requests_per_day=requests, peak_to_mean=peak, base_is_running=True, **wishes), profile)
    if isinstance(outcome, Refusal):
        return
    chosen = outcome.options[0]
    for option in outcome.options[1:]:
        crossing = option.break_even_requests_per_day

        def dearer(at: float, other: Option = option) -> bool:
            traffic = Traffic(at, peak)
            return other.way.weighed_usd(traffic) > chosen.way.weighed_usd(traffic)

        if crossing:
            assert dearer(crossing) != dearer(crossing + (requests - crossing) * 1e-6)
        else:
            for doubling in range(-20, 21):
                far = Traffic(requests * 2.0**doubling, peak)
                gap = option.way.weighed_usd(far) - chosen.way.weighed_usd(far)
                here = option.way.weighed_usd(Traffic(requests, peak)) - chosen.way.weighed_usd(Traffic(requests, peak))
                assert gap * here >= 0
    assert chosen.break_even_requests_per_day == outcome.options[1].break_even_requests_per_day


@settings(max_examples=40)
@given(
    keep=st.lists(st.integers(0, len(OFFERS) - 1), min_size=1, max_size=60),
    more=st.lists(st.integers(0, len(OFFERS) - 1), max_size=60),
    requests=TRAFFIC,
    latency=st.one_of(st.none(), st.floats(1, 60)),
)
def test_more_machines_never_worsen_the_choice(
    keep: list[int], more: list[int], requests: float, latency: float | None
) -> None:
    spec = asking(requests_per_day=requests, p95_latency_seconds=latency)
    few = decide(spec, offers=[OFFERS[index] for index in keep])
    if isinstance(few, Refusal):
        return
    many = decide(spec, offers=[OFFERS[index] for index in keep + more])
    assert isinstance(many, EndpointPlan)
    assert many.options[0].way.weighed_usd(spec.traffic) <= few.options[0].way.weighed_usd(spec.traffic)


@settings(max_examples=40)
@given(requests=TRAFFIC, profile=PROFILES, seed=st.integers(0, 1000))
def test_equal_questions_get_equal_answers_whatever_the_order(
    requests: float, profile: ServingProfile, seed: int
) -> None:
    spec = asking(requests_per_day=requests, base_is_running=True)
    shuffled = list(OFFERS)
    random.Random(seed).shuffle(shuffled)
    assert decide(spec, profile) == decide(spec, profile, offers=shuffled)


@pytest.mark.parametrize("spec", [SPEC, asking(budget_usd_per_month=0.01), asking(base_is_running=True)])
def test_a_stored_decision_is_decided_again_equal_to_the_bit(spec: Spec) -> None:
    market = Market(MACHINES, OFFERS)
    inputs = serving_snapshot.Inputs(spec, SMALL, Assumptions(), NOW)
    text, sha256 = serving_snapshot.freeze(inputs, market)
    arguments = serving_snapshot.thaw(text, market.text)
    assert serving.plan_endpoint(**arguments) == decide(spec)
    assert serving_snapshot.freeze(inputs, Market(MACHINES, OFFERS))[1] == sha256
    with pytest.raises(ValueError, match="not the one"):
        serving_snapshot.thaw(text, Market(MACHINES, OFFERS[:5]).text)


def test_every_kind_is_weighed() -> None:
    plan = planned(asking(base_is_running=True))
    assert sorted(option.kind for option in plan.options) == sorted(KINDS)


def test_a_rented_kind_names_other_offers_that_keep_every_wish() -> None:
    plan = planned(spec=asking(tokens_per_second=20.0))
    for kind in ("spot", "on-demand"):
        option = option_of(plan, kind)
        assert 0 < len(option.alternatives) <= serving.MAX_ALTERNATIVES
        assert option.offer not in option.alternatives
        assert len(set(option.alternatives)) == len(option.alternatives)
        assert {one.capacity_type for one in option.alternatives} == {kind}
        for one in option.alternatives:
            alone = decide(asking(tokens_per_second=20.0), offers=[one])
            assert isinstance(alone, EndpointPlan)
            assert option_of(alone, kind).meets
    assert option_of(plan, "serverless").alternatives == ()
