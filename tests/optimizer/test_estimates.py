"""The parts of an estimate: sizes, steps, memory, roofline, learning, checkpoints, prices."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.optimizer import catalogue, completion, prices, throughput, work
from services.optimizer.completion import Hazard
from services.optimizer.constraints import ConstraintError, parse_size
from services.optimizer.prices import Observed
from services.optimizer.throughput import Measured
from tests.optimizer.made import NOW, REQUEST, SMOLLM2_PROFILE, asking

C5 = catalogue.snapshot().machines["c5.xlarge"]
L4 = catalogue.snapshot().machines["g6.xlarge"]


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("4", [4], [3, 5]),
        ("4+", [4, 100], [3]),
        ("2..8", [2, 8], [1, 9]),
        ("..8", [0, 8], [9]),
        ("2..", [2, 99], [1]),
        ("1.5GB", [1.5], [1]),
        (" 16+ ", [16], [15]),
    ],
)
def test_sizes(text: str, inside: list[float], outside: list[float]) -> None:
    size = parse_size(text, "cpus")
    assert size is not None
    assert all(amount in size for amount in inside)
    assert all(amount not in size for amount in outside)


@pytest.mark.parametrize("text", ["four", "4-8", "-1", "8..2", "..", "+", "1e3", "4++"])
def test_what_is_no_size_is_refused_with_how_to_write_one(text: str) -> None:
    with pytest.raises(ConstraintError, match=r"resources\.cpus .* write 4"):
        parse_size(text, "cpus")


def test_auto_is_resolved_with_reasons() -> None:
    job = work.resolve(REQUEST, SMOLLM2_PROFILE, 0)
    assert (job.batch_size, job.sequence_length, job.learning_rate) == (8, 256, 5e-4)
    assert job.eval_rows == 20
    assert job.total_steps == math.ceil(380 * 3 / 8)
    assert [reason.split()[0] for reason in job.reasons] == [
        "sequence_length",
        "n_epochs",
        "batch_size",
        "learning_rate",
    ]


def test_what_the_user_says_is_kept() -> None:
    wish = asking(n_epochs=1.5, batch_size=4, learning_rate=1e-3, sequence_length=512, max_steps=50)
    job = work.resolve(wish, SMOLLM2_PROFILE, 20)
    assert (job.batch_size, job.sequence_length, job.learning_rate) == (4, 512, 1e-3)
    assert (job.total_steps, job.steps_left) == (50, 30)
    assert job.reasons == ()


@pytest.mark.parametrize(("parameters", "rate"), [(135e6, 5e-4), (7e9, 2e-4), (70e9, 1e-4)])
def test_larger_models_learn_slower(parameters: float, rate: float) -> None:
    profile = replace(SMOLLM2_PROFILE, parameters=int(parameters))
    assert work.resolve(REQUEST, profile, 0).learning_rate == rate


@given(
    rows=st.integers(1, 10**7), tokens=st.integers(1, 10**10), fraction=st.floats(0, 0.9), epochs=st.floats(0.01, 50)
)
def test_there_is_always_a_step_to_do(rows: int, tokens: int, fraction: float, epochs: float) -> None:
    wish = asking(rows=rows, estimated_tokens=tokens, eval_fraction=fraction, n_epochs=epochs)
    job = work.resolve(wish, SMOLLM2_PROFILE, 0)
    assert job.total_steps >= 1
    assert 1 <= job.batch_size <= rows
    assert 0 <= job.eval_rows < rows
    assert 0 < job.padded_tokens_per_sequence <= job.sequence_length <= REQUEST.context_length


@given(batch=st.integers(1, 512), memory_gib=st.floats(1, 64))
def test_the_planned_micro_batch_fits_and_one_more_round_would_not(batch: int, memory_gib: float) -> None:
    machine = replace(C5, memory_gib=memory_gib)
    size = work.micro_batch_size(SMOLLM2_PROFILE, machine, batch)
    usable = work.usable_bytes(machine)
    if size == 0:
        assert work.footprint(SMOLLM2_PROFILE, machine, 1).peak_bytes > usable
        return
    assert work.footprint(SMOLLM2_PROFILE, machine, size).peak_bytes <= usable
    rounds = math.ceil(batch / size)
    if rounds > 1:
        larger = math.ceil(batch / (rounds - 1))
        assert work.footprint(SMOLLM2_PROFILE, machine, larger).peak_bytes > usable


def test_a_pinned_micro_batch_is_kept_only_where_it_fits() -> None:
    small = replace(C5, memory_gib=4.0)
    assert work.micro_batch_size(SMOLLM2_PROFILE, C5, 8, pinned=3) == 3
    assert work.micro_batch_size(SMOLLM2_PROFILE, small, 64, pinned=64) < 64


def test_frozen_weights_are_half_as_large_on_an_accelerator() -> None:
    on_cpu = work.footprint(SMOLLM2_PROFILE, C5, 1)
    on_gpu = work.footprint(SMOLLM2_PROFILE, L4, 1)
    assert on_cpu.weight_bytes == 4 * SMOLLM2_PROFILE.parameters + 4 * SMOLLM2_PROFILE.trainable_parameters
    assert on_gpu.weight_bytes == 2 * SMOLLM2_PROFILE.parameters + 4 * SMOLLM2_PROFILE.trainable_parameters
    assert on_gpu.activation_bytes < on_cpu.activation_bytes


def test_the_longer_of_arithmetic_and_traffic_counts() -> None:
    both = {"micro_batches": 1, "optimizer_bytes": 0, "layers": 1}
    compute = throughput.step_time(C5, flops_per_micro_batch=1e12, bytes_per_micro_batch=1, **both)
    traffic = throughput.step_time(C5, flops_per_micro_batch=1, bytes_per_micro_batch=1e12, **both)
    overhead = throughput.STEP_OVERHEAD_SECONDS
    assert compute.bound_by == "compute"
    assert compute.seconds == pytest.approx(1e12 / (4 * 108.8e9 * 0.45) + overhead)
    assert traffic.bound_by == "memory-bandwidth"
    assert traffic.seconds == pytest.approx(1e12 / (4 * 3.5e9 * 0.8) + overhead)


def test_a_relative_teaches_less_than_the_machine_itself() -> None:
    own = Measured("c5.xlarge", "cpu", "lora", 5, 0.8)
    relative = replace(own, instance_type="m5.large")
    stranger = replace(own, instance_type="g6.xlarge", hardware="L4")
    other_method = replace(own, method="full")
    learnt = {
        name: throughput.correction(C5, "lora", rows).mean_log
        for name, rows in {
            "own": [own],
            "relative": [relative],
            "both": [own, relative],
            "none": [stranger, other_method],
        }.items()
    }
    assert learnt["none"] == 0
    assert 0 < learnt["relative"] <= learnt["own"] < learnt["both"] < 0.8


@given(count=st.integers(1, 1000), ratio=st.floats(-3, 3))
def test_a_correction_lies_between_the_roofline_and_the_measurements(count: int, ratio: float) -> None:
    factor = throughput.correction(C5, "lora", [Measured("c5.xlarge", "cpu", "lora", count, ratio)])
    assert min(0, ratio) - 1e-9 <= factor.mean_log <= max(0, ratio) + 1e-9
    assert factor.low < factor.expected < factor.high


def pace(**changes: object) -> completion.Pace:
    job = work.resolve(REQUEST, SMOLLM2_PROFILE, 0)
    found = completion.pace(REQUEST, SMOLLM2_PROFILE, job, C5, (), machine_start_seconds=60)
    assert found is not None
    return replace(found, **changes)  # type: ignore[arg-type]


def test_the_checkpoint_interval_is_youngs_where_nothing_else_limits_it() -> None:
    # 2 s to save and an interruption every 100 s: sqrt(2 x 2 x 100) = 20 s, which is 10 steps of 2 s.
    step = completion.Range(2.0, 2.0, 2.0)
    found = pace(step_seconds=step, save_seconds=2.0, stall_seconds=0.01)
    assert completion.checkpoint_interval_steps(found, 1000, interruptions_per_hour=36) == 10


@given(
    step=st.floats(0.001, 1000),
    steps=st.integers(1, 10**6),
    per_hour=st.floats(0, 1000),
    save=st.floats(0.01, 1000),
    stall=st.floats(0.001, 100),
)
def test_the_checkpoint_interval_is_within_the_job(
    step: float, steps: int, per_hour: float, save: float, stall: float
) -> None:
    found = pace(step_seconds=completion.Range(step, step, step), save_seconds=save, stall_seconds=stall)
    assert 1 <= completion.checkpoint_interval_steps(found, steps, per_hour) <= steps


@given(low=st.floats(0, 0.1), more=st.floats(0, 0.5))
def test_a_riskier_market_never_promises_less_time(low: float, more: float) -> None:
    job = work.resolve(REQUEST, SMOLLM2_PROFILE, 0)
    calm = completion.complete(pace(), job, Hazard(low, 0, low), 50).hours
    wild = completion.complete(pace(), job, Hazard(low + more, 0, low + more), 50).hours
    assert wild.expected >= calm.expected
    assert wild.high >= calm.high
    assert calm.low <= calm.expected <= calm.high


def test_bands_become_rates() -> None:
    rates = [completion.hazard("spot", band).expected for band in range(5)]
    assert rates == sorted(rates)
    assert rates[0] == pytest.approx(0.025 / 730, rel=0.02)
    assert completion.hazard("spot", None) == completion.hazard("spot", 4)
    assert completion.hazard("on-demand", 4).expected < rates[0]


def test_a_job_of_seconds_is_billed_for_a_minute() -> None:
    quick = pace(step_seconds=completion.Range(0.001, 0.001, 0.001), startup_seconds=1.0, finish_seconds=0.1)
    job = work.resolve(asking(max_steps=10), SMOLLM2_PROFILE, 0)
    done = completion.complete(quick, job, completion.hazard("spot", 0))
    assert done.hours.expected * 3600 < 5
    assert done.billed_hours.expected * 3600 == pytest.approx(60)


OFFER = next(each for each in catalogue.snapshot().offers if each.capacity_type == "spot")


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, "accepted"),
        ({"price_usd_per_hour": 0.0}, "not-a-price"),
        ({"price_usd_per_hour": -0.1}, "not-a-price"),
        ({"price_usd_per_hour": math.nan}, "not-a-price"),
        ({"price_usd_per_hour": math.inf}, "not-a-price"),
        ({"price_usd_per_hour": OFFER.on_demand_price_usd_per_hour * 10.1}, "implausible"),
        ({"observed_at": NOW + timedelta(hours=1)}, "from-the-future"),
        ({"observed_at": NOW - timedelta(hours=2)}, "outdated"),
    ],
)
def test_prices_are_taken_only_if_they_can_be_true(changes: dict[str, object], verdict: str) -> None:
    observed = replace(Observed(0.05, NOW, "feed"), **changes)  # type: ignore[arg-type]
    newest = Observed(0.04, NOW - timedelta(hours=1), "feed")
    assert prices.verdict(OFFER.on_demand_price_usd_per_hour, observed, newest, NOW) == verdict


def test_a_price_for_an_offer_that_nobody_knows_is_ignored() -> None:
    assert prices.verdict(None, Observed(0.05, NOW, "feed"), None, NOW) == "unknown-offer"


def test_the_newest_price_replaces_the_catalogues() -> None:
    offers = prices.current(catalogue.snapshot(), {OFFER.key: Observed(0.01, NOW, "feed")}, NOW)
    changed = [(old, new) for old, new in zip(catalogue.snapshot().offers, offers, strict=True) if old != new]
    assert [(new.key, new.price_usd_per_hour, new.price_source) for _, new in changed] == [(OFFER.key, 0.01, "feed")]


def test_every_offer_of_the_catalogue_has_a_machine_and_a_key_of_its_own() -> None:
    known = catalogue.snapshot()
    assert len({offer.key for offer in known.offers}) == len(known.offers) == 904
    for offer in known.offers:
        machine = known.machines[offer.instance_type]
        assert machine.peak_flops_per_second > 1e10
        assert machine.bandwidth_bytes_per_second > 1e9
        assert 0 < offer.price_usd_per_hour < 200
        assert bool(machine.accelerator_name) == (machine.accelerator_count > 0) == (machine.accelerator_memory_gib > 0)
