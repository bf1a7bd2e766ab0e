"""What several workers, packed rows and the methods beside plain LoRA make of a job's size, memory and time."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from typing import Any

import pytest

from services.optimizer import catalogue, completion, memory, messages, replay, snapshot, throughput, work
from services.optimizer.memory import GIB, Layout, ModelProfile
from services.optimizer.snapshot import Inputs, Market
from services.optimizer.throughput import Machine
from services.optimizer.values import Assumptions, History, Plan
from services.optimizer.work import Request
from services.trainer import packing
from sskai.events import v1 as events
from tests.optimizer.made import (
    LLAMA_8B,
    LLAMA_8B_FULL,
    NOW,
    SMOLLM2_FULL,
    SMOLLM2_PROFILE,
    asking,
    planned,
    refused,
    spec,
)

KNOWN = catalogue.snapshot()
C5, EIGHT_40, EIGHT_80 = (KNOWN.machines[name] for name in ("c5.xlarge", "p4d.24xlarge", "p4de.24xlarge"))
GANGS = Assumptions(max_workers=64)
FULL_8B = asking(method="full", rows=5_000, estimated_tokens=2_000_000)


def split(profile: ModelProfile, method: str, shards: int, *, checkpointing: bool = True) -> memory.Footprint:
    layout = Layout(shards=shards)
    return memory.footprint(
        profile, EIGHT_80, method, 1, checkpointing=checkpointing, accumulating=False, layout=layout
    )


@pytest.mark.parametrize("shards", [2, 4, 8, 16, 64])
@pytest.mark.parametrize(
    ("profile", "method", "state"), [(LLAMA_8B_FULL, "full", 16.0), (LLAMA_8B, "lora", 2 + 16 * 0.0026116)]
)
def test_workers_share_weights_gradients_and_moments(
    profile: ModelProfile, method: str, state: float, shards: int
) -> None:
    """16 bytes a parameter that learns and 2 of a frozen one, over all workers; what is gathered is shared by none."""
    part = split(profile, method, shards)
    states = part.weight_bytes + part.gradient_bytes + part.optimizer_bytes
    assert states == pytest.approx(state * profile.parameters / shards, rel=1e-3)
    assert part.activation_bytes == split(profile, method, 2).activation_bytes
    assert part.peak_bytes == sum(part.terms.values())


def test_what_is_gathered_is_two_blocks_and_what_is_outside_of_them() -> None:
    """Llama 3.1 8B: blocks of 218,112,000 parameters, embeddings, head and last norm outside."""
    whole = 2 * 128256 * 4096 + 4096 + 2 * 218_112_000
    growing = max(each for _, each in LLAMA_8B_FULL.bfloat16.checkpointed.fresh)
    # Float32 weights and gradients of those, and autocast's bfloat16 copy of all.
    gathered = split(LLAMA_8B_FULL, "full", 8).activation_bytes - growing
    assert gathered == pytest.approx(8 * whole + 2 * LLAMA_8B_FULL.parameters, rel=1e-6)
    growing = max(each for _, each in LLAMA_8B.bfloat16.checkpointed.fresh)
    adapters = 2 * 20_971_520 // 32 * 2 + 4 * 20_971_520  # of two blocks, and every gradient of theirs
    assert split(LLAMA_8B, "lora", 8).activation_bytes - growing == pytest.approx(2 * whole + adapters, rel=1e-3)


@pytest.mark.parametrize(
    ("machine", "method", "workers", "reference", "can"),
    [
        (EIGHT_80, "full", 8, False, True),
        (EIGHT_80, "lora", 8, True, True),
        (EIGHT_80, "full", 1, False, False),
        (EIGHT_80, "qlora", 8, False, False),
        (EIGHT_80, "full", 8, True, False),
        (C5, "full", 8, False, False),
    ],
)
def test_what_the_trainer_splits(machine: Machine, method: str, workers: int, reference: bool, can: bool) -> None:
    assert memory.can_shard(LLAMA_8B_FULL, machine, method, workers, reference=reference) is can
    whole = replace(LLAMA_8B_FULL, block_parameters=0)  # a user's own model
    assert not memory.can_shard(whole, machine, method, workers, reference=reference)


def test_eight_billion_parameters_are_trained_on_one_machine_of_eight_accelerators() -> None:
    wish = replace(FULL_8B, instance_types=("p4de.24xlarge",), nodes="1")
    plan = planned(wish, profile=LLAMA_8B_FULL, assumptions=GANGS)
    assert {(each.pace.machines, each.pace.workers, each.pace.shard) for each in plan.candidates} == {(1, 8, True)}
    assert "split over 8 accelerators" in plan.explanation
    for each in plan.candidates:
        assert each.pace.footprint.peak_bytes <= memory.usable_bytes(each.pace.machine)
    assert refused(wish, profile=LLAMA_8B_FULL, assumptions=Assumptions(max_workers=1)).reason == "memory"
    small = refused(replace(wish, instance_types=("p4d.24xlarge",)), profile=LLAMA_8B_FULL, assumptions=GANGS)
    assert "on each of 8 accelerators" in small.detail
    two = planned(
        replace(wish, instance_types=("p4d.24xlarge",), nodes="2", batch_size=16),
        profile=LLAMA_8B_FULL,
        assumptions=GANGS,
    )
    assert {(each.pace.machines, each.pace.workers, each.pace.shard) for each in two.candidates} == {(2, 16, True)}


def test_what_fits_one_accelerator_is_not_split() -> None:
    plan = planned(asking(nodes="1", batch_size=64), profile=SMOLLM2_PROFILE, assumptions=GANGS)
    assert {each.pace.shard for each in plan.candidates} == {False}


def test_a_split_model_travels_three_times_in_every_micro_batch() -> None:
    """Two all-gathers of float32 weights and one reduce-scatter of as large gradients, 7/8 of each over NVLink."""
    effort = work.effort(FULL_8B, LLAMA_8B_FULL, checkpointing=False)
    assert effort.travelling_bytes == 3 * 4 * LLAMA_8B_FULL.parameters
    lora = work.effort(asking(), LLAMA_8B, checkpointing=True)
    assert lora.travelling_bytes == 2 * 2 * LLAMA_8B.parameters + 4 * LLAMA_8B.trainable_parameters
    given: dict[str, Any] = {
        "micro_batches": 3,
        "flops_per_micro_batch": 1,
        "bytes_per_micro_batch": 1,
        "optimizer_bytes": 0,
        "gradient_bytes": 10**9,
        "layers": 1,
        "passes": 2,
        "machines": 1,
    }
    alone = throughput.step_time(EIGHT_80, "full", workers=1, **given).seconds
    parts = throughput.step_time(EIGHT_80, "full", workers=8, travelling_bytes_per_micro_batch=96e9, **given)
    assert parts.seconds - alone == pytest.approx(3 * 7 / 8 * 96e9 / (300e9 * 0.8))
    assert parts.bound_by == "interconnect"


def test_a_split_plan_is_replayed_equal_and_one_of_older_inputs_is_read() -> None:
    market = Market(KNOWN.machines, KNOWN.offers)
    request = replace(FULL_8B, instance_types=("p4*", "p5*"), packing=True)
    inputs = Inputs(request, LLAMA_8B_FULL, GANGS, NOW, History())
    text, _ = snapshot.freeze(inputs, market)
    first, again = (replay.decide(text, market.text).outcome for _ in range(2))
    assert repr(first) == repr(again) == repr(planned(request, profile=LLAMA_8B_FULL, assumptions=GANGS))
    assert isinstance(first, Plan)
    assert any(each.pace.shard for each in first.candidates)
    older = json.loads(text)
    for name in ("dataset_format", "packing", "dora"):
        del older["request"][name]
    for name in ("block_parameters", "outside_parameters"):
        del older["profile"][name]
    outcome = replay.decide(snapshot.canonical(older), market.text).outcome
    assert isinstance(outcome, Plan)
    assert not any(each.pace.shard for each in outcome.candidates)


def test_packed_sequences_are_what_is_counted() -> None:
    rows = work.resolve(asking(sequence_length=1024, batch_size=8), SMOLLM2_PROFILE, 0)
    packed = work.resolve(asking(sequence_length=1024, batch_size=8, packing=True), SMOLLM2_PROFILE, 0)
    # 380 rows of 50 tokens: 19,000 in sequences of 1,024 that are 95 % full.
    assert packed.packed_sequences == math.ceil(19_000 / (1024 * 0.95)) == 20
    assert packed.total_steps == math.ceil(20 * 3 / 8)
    assert packed.total_tokens == pytest.approx(rows.total_tokens, rel=0.1)
    assert packed.padded_tokens_per_sequence == pytest.approx(1000, rel=0.03)
    assert any(reason.startswith("packing: 380 rows make about 20 sequences") for reason in packed.reasons)
    assert rows.packed_sequences == 0


def test_packing_saves_the_padding() -> None:
    wish = asking(rows=20_000, estimated_tokens=2_000_000, nodes="1", instance_types=("c5.xlarge",))
    plain, packed = (planned(each).candidates[0] for each in (wish, replace(wish, packing=True)))
    training = [each.completion.seconds.training for each in (plain, packed)]
    assert 0.5 < training[1] / training[0] < 0.8


@pytest.mark.parametrize("capacity", [512, 1024, 2048])
def test_the_packed_sequences_are_about_those_of_the_trainer(capacity: int) -> None:
    dice = random.Random(capacity)
    lengths = [min(capacity, max(8, round(dice.lognormvariate(5, 0.7)))) for _ in range(2000)]
    request = asking(
        rows=2000, estimated_tokens=sum(lengths), eval_fraction=0.0, sequence_length=capacity, packing=True
    )
    estimated = work.resolve(request, SMOLLM2_PROFILE, 0).packed_sequences
    assert estimated == pytest.approx(len(packing.fit(lengths, capacity)), rel=0.07)


PAIRS = asking(dataset_format="preference", estimated_tokens=400 * 150, sequence_length=256, nodes="1")


def test_a_preference_is_two_sequences_and_a_reference() -> None:
    job = work.resolve(PAIRS, SMOLLM2_PROFILE, 0)
    assert job.sequences_per_sample == 2
    # Prompt and answers of 50 tokens each: two sequences of 100.
    assert job.total_tokens == job.total_steps * job.batch_size * 200
    assert job.learning_rate == 1e-5
    assert work.resolve(replace(PAIRS, method="full"), SMOLLM2_FULL, 0).learning_rate == 1e-6


@pytest.mark.parametrize(("method", "profile", "more"), [("lora", SMOLLM2_PROFILE, 1.5), ("full", SMOLLM2_FULL, 4 / 3)])
def test_the_reference_is_a_forward_pass_more(method: str, profile: ModelProfile, more: float) -> None:
    plain, pairs = (
        work.effort(asking(method=method, dataset_format=name), profile, checkpointing=False)
        for name in ("messages", "preference")
    )
    assert pairs.flops_per_token == pytest.approx(more * plain.flops_per_token)
    assert pairs.passes == plain.passes + 1


def test_pairs_take_twice_the_activations_and_all_weights_a_copy() -> None:
    pair = Layout(sequences_per_sample=2, reference=True)

    def footprint(profile: ModelProfile, method: str, size: int, layout: Layout) -> memory.Footprint:
        return memory.footprint(profile, C5, method, size, checkpointing=False, accumulating=False, layout=layout)

    adapter = footprint(SMOLLM2_PROFILE, "lora", 4, pair)
    assert adapter == footprint(SMOLLM2_PROFILE, "lora", 8, Layout())
    full = footprint(SMOLLM2_FULL, "full", 4, pair), footprint(SMOLLM2_FULL, "full", 8, Layout())
    assert full[0].peak_bytes - full[1].peak_bytes == 4 * SMOLLM2_FULL.parameters


def step_seconds(request: Request) -> float:
    job = work.resolve(request, SMOLLM2_PROFILE, 0)
    found = completion.pace(request, SMOLLM2_PROFILE, job, C5, (), machine_start_seconds=60)
    assert found is not None
    return found.step_seconds.expected - throughput.STEP_OVERHEAD_SECONDS


def test_a_step_of_dora_and_of_pairs_takes_longer() -> None:
    plain = step_seconds(asking(sequence_length=256))
    assert step_seconds(asking(sequence_length=256, dora=True)) == pytest.approx(work.DORA_SLOWDOWN * plain, rel=0.02)
    # Twice the sequences of 100 instead of 50 tokens, and half as much again for the reference.
    assert step_seconds(PAIRS) == pytest.approx(6 * plain, rel=0.05)


def test_what_a_job_says_of_data_and_method_reaches_the_planner() -> None:
    told = spec(hyperparameters=events.Hyperparameters(packing=True))
    told.model.dora = True
    request = messages.request_of(told)
    assert (request.packing, request.dora, request.sequences_per_sample) == (True, True, 1)
    assert messages.profile_question(told, request)["dora"] is True
    told.dataset.format = "classification"
    told.dataset.labels.extend(["good", "bad", "neither"])
    assert messages.profile_question(told, messages.request_of(told))["labels"] == 3
    told.dataset.format = "preference"
    request = messages.request_of(told)
    assert request.sequences_per_sample == 2
    assert messages.profile_question(told, request)["labels"] == 0


def test_the_event_tells_of_parts_and_packed_sequences() -> None:
    request = replace(FULL_8B, instance_types=("p4de.24xlarge",), nodes="1", packing=True)
    plan = planned(request, profile=LLAMA_8B_FULL, assumptions=GANGS)
    inputs = Inputs(request, LLAMA_8B_FULL, GANGS, NOW, History())
    told = messages.proposed(plan, inputs, Market(KNOWN.machines, KNOWN.offers), plan_id="plan_1")
    assert all(each.shard and each.workers == 8 for each in told.candidates)
    assert told.profile.packed_sequences == plan.work.packed_sequences > 0
    assert told.profile.peak_bytes < 80 * GIB
