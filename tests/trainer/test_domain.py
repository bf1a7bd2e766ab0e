"""Decisions of the trainer, by tables and properties."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.trainer import domain
from services.trainer.domain import Fence, Plan, Point, Recipe, TrainingFailedError
from sskai.events import v1 as events


def spec(**hyperparameters: float) -> events.JobSpec:
    return events.JobSpec(
        model=events.ModelRef(rank=0), hyperparameters=events.Hyperparameters(**hyperparameters), name="bot"
    )


AUTO = Plan()


def recipe(plan: Plan = AUTO, rows: int = 100, wanted: events.JobSpec | None = None, **changes: int) -> Recipe:
    values = {"rows": rows, "sequence_length": 128, "parameters": 135_000_000} | changes
    return domain.resolve(wanted or spec(), plan, **values)


@pytest.mark.parametrize(
    ("plan", "hyperparameters", "field", "expected"),
    [
        (Plan(total_steps=7), {"max_steps": 9, "n_epochs": 2}, "total_steps", 7),
        (Plan(), {"max_steps": 9, "n_epochs": 2}, "total_steps", 9),
        (Plan(), {"n_epochs": 2, "batch_size": 10}, "total_steps", 19),  # 95 rows to train on
        (Plan(), {}, "total_steps", math.ceil(95 * 3 / 8)),
        (Plan(batch_size=4), {"batch_size": 6}, "batch_size", 4),
        (Plan(), {"batch_size": 6}, "batch_size", 6),
        (Plan(batch_size=500), {}, "batch_size", 95),
        (Plan(micro_batch_size=64, batch_size=16), {}, "micro_batch_size", 16),
        (Plan(), {}, "micro_batch_size", 4),
        (Plan(learning_rate=1e-3), {"learning_rate": 2e-3}, "learning_rate", 1e-3),
        (Plan(), {"learning_rate": 2e-3}, "learning_rate", 2e-3),
        (Plan(), {}, "learning_rate", 5e-4),
        (Plan(checkpoint_interval_steps=3), {}, "checkpoint_interval_steps", 3),
        (Plan(total_steps=200), {}, "checkpoint_interval_steps", 20),
        (Plan(total_steps=200), {}, "warmup_steps", 6),
        (Plan(), {}, "evaluation_rows", 5),
        (Plan(), {}, "keep_checkpoints", 3),
        (Plan(), {}, "alpha", 16),
    ],
)
def test_the_plan_comes_first_then_the_user_then_auto(
    plan: Plan, hyperparameters: dict[str, float], field: str, expected: float
) -> None:
    assert getattr(recipe(plan, wanted=spec(**hyperparameters)), field) == expected


@pytest.mark.parametrize(
    ("plan", "max_steps", "steps"),
    [
        (Plan(total_steps=60, packed_sequences=20), 0, 60),
        (Plan(total_steps=60, packed_sequences=25), 0, 48),
        (Plan(total_steps=60, packed_sequences=10), 0, 120),
        (Plan(total_steps=95), 0, 20),  # of an older planner, by the 95 rows
        (Plan(total_steps=60, packed_sequences=25), 60, 60),
    ],
)
def test_packed_rows_are_gone_through_as_often_as_planned(plan: Plan, max_steps: int, steps: int) -> None:
    wanted = spec(packing=True, **({"max_steps": max_steps} if max_steps else {}))
    assert recipe(plan, wanted=wanted, sequences=20).total_steps == steps


@pytest.mark.parametrize(
    ("plan", "user", "longest", "context", "expected"),
    [
        (Plan(sequence_length=64), 128, 300, 2048, 64),
        (Plan(), 128, 300, 2048, 128),
        (Plan(), 0, 300, 2048, 512),
        (Plan(), 0, 512, 2048, 512),
        (Plan(), 0, 5, 2048, 32),
        (Plan(), 0, 5000, 8192, 1024),
        (Plan(sequence_length=4096), 0, 5000, 2048, 2048),
        (Plan(), 0, 300, 0, 512),
    ],
)
def test_sequence_length(plan: Plan, user: int, longest: int, context: int, expected: int) -> None:
    wanted = spec(sequence_length=user) if user else spec()
    assert domain.sequence_length(wanted, plan, longest_row_tokens=longest, context_tokens=context) == expected


@pytest.mark.parametrize(
    ("parameters", "method", "format_name", "rate"),
    [
        (1e8, "lora", "messages", 5e-4),
        (7e9, "qlora", "text", 2e-4),
        (13e9, "lora", "messages", 2e-4),
        (70e9, "lora", "messages", 1e-4),
        (1e8, "full", "messages", 2e-5),
        (7e9, "full", "messages", 1e-5),
        (7e9, "lora", "preference", 1e-5),
        (7e9, "full", "preference", 1e-6),
    ],
)
def test_larger_models_and_more_weights_take_smaller_steps(
    parameters: float, method: str, format_name: str, rate: float
) -> None:
    assert domain.auto_learning_rate(int(parameters), method, format_name)[0] == rate


@pytest.mark.parametrize(
    ("rows", "fraction", "held_out"), [(2, 0.05, 1), (100, 0.1, 10), (100, 0.0, 5), (10_000, 0.5, 64), (3, 0.99, 2)]
)
def test_evaluation_rows(rows: int, fraction: float, held_out: int) -> None:
    assert domain.evaluation_rows(rows, fraction) == held_out


@pytest.mark.parametrize("rows", [0, 1])
def test_too_few_rows_are_the_datasets_fault(rows: int) -> None:
    with pytest.raises(TrainingFailedError, match="at least 2") as caught:
        domain.evaluation_rows(rows, 0.1)
    assert (caught.value.reason, caught.value.exit) == ("dataset", 65)


def test_a_resumed_run_keeps_its_recipe_but_may_use_less_memory() -> None:
    saved = recipe(Plan(total_steps=100, batch_size=8, micro_batch_size=4, learning_rate=1e-3))
    planned = recipe(Plan(total_steps=50, batch_size=4, micro_batch_size=2, checkpoint_interval_steps=7))
    resumed = domain.resumed(saved, planned)
    assert (resumed.total_steps, resumed.batch_size, resumed.learning_rate) == (100, 8, 1e-3)
    assert (resumed.micro_batch_size, resumed.checkpoint_interval_steps) == (2, 7)


@pytest.mark.parametrize(
    ("planned", "asked", "expected"),
    [(True, None, True), (False, True, True), (False, False, False), (True, False, True)],
)
def test_activations_are_computed_again_where_the_plan_or_the_user_says_so(
    planned: bool, asked: bool | None, expected: bool
) -> None:
    wanted = spec() if asked is None else spec(gradient_checkpointing=asked)
    assert recipe(Plan(gradient_checkpointing=planned), wanted=wanted).gradient_checkpointing is expected


@pytest.mark.parametrize("saved", [False, True])
@pytest.mark.parametrize("planned", [False, True])
def test_a_resumed_run_computes_activations_again_as_its_machine_needs(saved: bool, planned: bool) -> None:
    before, now = (recipe(Plan(total_steps=50, gradient_checkpointing=each)) for each in (saved, planned))
    assert domain.resumed(before, now).gradient_checkpointing is planned


def test_a_recipe_survives_json() -> None:
    wanted = spec()
    wanted.model.target_modules.extend(["q_proj", "v_proj"])
    made = recipe(Plan(gradient_checkpointing=True), wanted=wanted)
    assert Recipe.from_json(made.to_json()) == made


def test_a_recipe_that_says_nothing_of_checkpointing_keeps_activations() -> None:
    """As checkpoints say that were written before there was a choice."""
    older = recipe().to_json()
    del older["gradient_checkpointing"]
    assert Recipe.from_json(older) == recipe()


@pytest.mark.parametrize("values", [{}, {"total_steps": 0}, {"unknown": 1, "total_steps": None}])
def test_an_empty_plan_leaves_the_choice(values: dict[str, int]) -> None:
    assert Plan.from_json(values) == Plan()


def test_a_plan_reads_numbers_of_either_kind() -> None:
    assert Plan.from_json({"total_steps": 5.0, "learning_rate": 1}) == Plan(total_steps=5, learning_rate=1.0)


@pytest.mark.parametrize(
    ("values", "expected"),
    [({"gradient_checkpointing": True}, True), ({"gradient_checkpointing": False}, False), ({}, False)],
)
def test_a_plan_says_whether_activations_are_computed_again(values: dict[str, bool], expected: bool) -> None:
    assert Plan.from_json(values).gradient_checkpointing is expected


def test_learning_rate_warms_up_then_falls() -> None:
    made = recipe(Plan(total_steps=100, learning_rate=1.0))
    rates = [domain.learning_rate(step, made) for step in range(1, 101)]
    assert rates[:3] == pytest.approx([1 / 3, 2 / 3, 1.0])
    assert all(later < earlier for earlier, later in pairwise(rates[2:]))
    assert 0 < rates[-1] < 0.001


@given(rows=st.integers(1, 60), size=st.integers(1, 20), steps=st.integers(1, 12), seed=st.integers(0, 5))
def test_batches_depend_on_the_position_alone_and_each_epoch_sees_each_row_once(
    rows: int, size: int, steps: int, seed: int
) -> None:
    at_once = domain.batch(0, size * steps, rows, seed)
    one_by_one = [index for step in range(steps) for index in domain.batch(step * size, size, rows, seed)]
    assert at_once == one_by_one
    for epoch in range(len(at_once) // rows):
        assert sorted(at_once[epoch * rows : (epoch + 1) * rows]) == list(range(rows))


def test_epochs_and_seeds_differ_and_stay_as_they_are() -> None:
    assert domain.shuffled(6, 0, "epoch-0") == (2, 0, 3, 1, 5, 4)
    assert domain.shuffled(50, 0, "epoch-0") != domain.shuffled(50, 0, "epoch-1")
    assert domain.shuffled(50, 0, "epoch-0") != domain.shuffled(50, 1, "epoch-0")


def test_the_split_is_a_partition() -> None:
    training, held_out = domain.split(100, recipe())
    assert len(held_out) == 5
    assert sorted([*training, *held_out]) == list(range(100))


LINEAGES = [
    # attempt, fences, saved, expected
    (1, [], [], []),
    (2, [Fence(1, None)], [Point(1, 10), Point(1, 20)], [Point(1, 20), Point(1, 10)]),
    # 1 went on after 2 had begun from its step 20: steps 30 and 40 are a zombie's.
    (
        3,
        [Fence(1, None), Fence(2, Point(1, 20))],
        [Point(1, 20), Point(1, 30), Point(1, 40), Point(2, 30)],
        [Point(2, 30), Point(1, 20)],
    ),
    # 2 found step 20 torn and began from 10.
    (3, [Fence(1, None), Fence(2, Point(1, 10))], [Point(1, 10), Point(1, 20)], [Point(1, 10)]),
    # 2 began anew: nothing of 1 counts.
    (3, [Fence(1, None), Fence(2, None)], [Point(1, 10), Point(2, 5)], [Point(2, 5)]),
    # 2 never began.
    (3, [Fence(1, None)], [Point(1, 10)], [Point(1, 10)]),
    # Three generations.
    (
        4,
        [Fence(1, None), Fence(2, Point(1, 20)), Fence(3, Point(2, 30))],
        [Point(1, 10), Point(1, 20), Point(2, 30), Point(2, 40), Point(3, 40)],
        [Point(3, 40), Point(2, 30), Point(1, 20), Point(1, 10)],
    ),
    # What was saved without a fence, or by a newer attempt, is nobody's.
    (2, [Fence(3, None)], [Point(1, 10), Point(3, 10)], []),
]


@pytest.mark.parametrize(("attempt", "fences", "saved", "expected"), LINEAGES)
def test_what_a_fenced_attempt_saves_is_never_read(
    attempt: int, fences: list[Fence], saved: list[Point], expected: list[Point]
) -> None:
    assert domain.resume_candidates(attempt, fences, saved) == expected


@pytest.mark.parametrize(("keep", "gone"), [(1, [2, 1]), (2, [1]), (3, []), (0, [2, 1])])
def test_retention_keeps_the_newest(keep: int, gone: list[int]) -> None:
    assert domain.outdated([Point(1, 3), Point(1, 2), Point(1, 1)], keep) == [Point(1, step) for step in gone]


@pytest.mark.parametrize(
    ("step", "saved", "save"), [(9, 0, False), (10, 0, True), (15, 10, False), (25, 10, True), (100, 90, False)]
)
def test_saves_come_at_the_interval_and_the_last_step_is_saved_otherwise(step: int, saved: int, save: bool) -> None:
    assert domain.should_save(step, saved, interval_steps=10, total_steps=100) is save


def test_a_job_without_checkpoints_saves_none_on_the_way() -> None:
    wanted = spec()
    wanted.checkpoint.disabled = True
    without = recipe(Plan(total_steps=100, checkpoint_interval_steps=10), wanted=wanted)
    interval, total = without.checkpoint_interval_steps, without.total_steps
    assert not any(domain.should_save(step, 0, interval, total) for step in range(101))


@pytest.mark.parametrize(
    ("stall", "save", "step", "hazard", "expected"),
    [
        (0.5, 7.5, 1.0, 1.0, 240),  # sqrt(2 * 8 * 3600)
        (0.5, 7.5, 2.0, 1.0, 120),
        (0.5, 7.5, 1.0, 4.0, 120),
        (0.0, 0.02, 1.0, 0.01, 120),  # hardly any hazard, hardly any cost: sqrt(2 * 0.02 * 360,000)
        (0.5, 7.5, 1.0, 1e-9, 500),  # ten times the plan at the most
        (10.0, 590.0, 1.0, 100.0, 600),  # as long as a save takes
        (10.0, 590.0, 1.0, 1.0, 600),  # even where ten times the plan is less
        (0.5, 7.5, 1.0, 0.0, 50),  # nothing is known of the machine
        (0.5, 7.5, 0.0, 1.0, 50),
    ],
)
def test_the_interval_follows_what_a_save_costs_and_how_often_machines_go(
    stall: float, save: float, step: float, hazard: float, expected: int
) -> None:
    found = domain.adapted_interval(
        50, stall_seconds=stall, save_seconds=save, step_seconds=step, interruptions_per_hour=hazard
    )
    assert found == expected


POSITIVE = st.floats(1e-6, 1e6)


@given(st.integers(1, 10_000), POSITIVE, POSITIVE, POSITIVE, POSITIVE)
def test_an_adapted_interval_keeps_its_bounds_and_shortens_with_the_hazard(
    planned: int, stall: float, save: float, step: float, hazard: float
) -> None:
    def interval(of_hazard: float) -> int:
        return domain.adapted_interval(
            planned, stall_seconds=stall, save_seconds=save, step_seconds=step, interruptions_per_hour=of_hazard
        )

    shortest = max(1, math.ceil((stall + save) / step))
    assert shortest <= interval(hazard) <= max(shortest, 10 * planned)
    assert interval(2 * hazard) <= interval(hazard)


@pytest.mark.parametrize(("told", "resumed", "lost"), [(17, 10, 7), (10, 10, 0), (9, 10, 0)])
def test_lost_steps(told: int, resumed: int, lost: int) -> None:
    assert domain.lost_steps(told, resumed) == lost


@pytest.mark.parametrize(("values", "expected"), [([], 0), ([3], 3), ([1, 9, 2], 2), ([1, 2, 3, 10], 2.5)])
def test_median(values: list[float], expected: float) -> None:
    assert domain.median(values) == expected


def test_cleaning_up_spares_the_checkpoint_that_is_the_result() -> None:
    keys = [f"jobs/j/checkpoints/attempt-00001/checkpoint-{step}/{name}" for step in (4, 8) for name in ("a", "b")]
    four, eight = (f"jobs/j/checkpoints/attempt-00001/checkpoint-{step}/" for step in (4, 8))
    assert domain.deletable(keys, "jobs/j/artifact/attempt-00001") == [four, eight]
    assert domain.deletable(keys, eight.rstrip("/")) == [four]


@pytest.mark.parametrize(
    ("plan", "workers", "learnt", "memory", "parts"),
    [
        (Plan(shard=True), 2, 0, 0, True),
        (Plan(shard=True), 1, 0, 0, False),  # nobody to share with
        (Plan(), 2, 4 * 10**9, 0, False),  # no GPU
        (Plan(), 2, 10**9, 80 * 10**9, False),
        (Plan(), 2, 7 * 10**9, 80 * 10**9, True),
    ],
)
def test_a_model_is_held_in_parts_when_it_does_not_fit(
    plan: Plan, workers: int, learnt: int, memory: int, parts: bool
) -> None:
    assert (
        domain.must_shard(plan, workers=workers, weight_bytes=4 * learnt, learnt=learnt, memory_bytes=memory) is parts
    )
