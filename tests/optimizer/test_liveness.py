"""Which bytes are alive in a training step: a stack grown from a few layers agrees with all of its layers."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from services.optimizer import liveness, profile
from services.optimizer.liveness import Build, Lines
from tests.optimizer.test_profile import TINY

LAYERS, LENGTH = 7, 96
CONFIG = TINY | {"model_type": "qwen3", "num_hidden_layers": LAYERS, "head_dim": 16}


def builder(method: str, precision: torch.dtype, *, checkpointing: bool, config: dict[str, Any] = CONFIG) -> Build:
    asked = {"method": method, "rank": 4, "alpha": 8, "target_modules": []}

    def build(few: int | None) -> Any:
        model = profile._fake(profile._trainable(profile._build(json.dumps(config), few, precision), asked))
        if checkpointing:
            model.activation_checkpointing_enable({"use_reentrant": False})
        return model.train()

    return build


def bytes_at(lines: Lines, sequences: int) -> float:
    return max(fixed + each * sequences for fixed, each in lines)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(
    "precision",
    [
        pytest.param(torch.float32, id="float32"),
        pytest.param(torch.bfloat16, id="bfloat16", marks=pytest.mark.heavy),
    ],
)
@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_stack_grown_from_a_few_layers_is_the_whole_stack(
    method: str, precision: torch.dtype, checkpointing: bool
) -> None:
    build = builder(method, precision, checkpointing=checkpointing)
    with FakeTensorMode():
        grown, whole = (liveness.measure(build, LAYERS, LENGTH, period=period) for period in (1, 0))
        flops = {liveness.flops(build, LAYERS, LENGTH, period=period) for period in (1, 0)}
    assert len(flops) == 1
    for lines in ("fresh", "accumulating"):
        for sequences in (2, 3, 8, 64):
            one, other = (bytes_at(getattr(each, lines), sequences) for each in (grown, whole))
            assert one == pytest.approx(other, rel=1e-3)


MIXED = CONFIG | {
    "num_hidden_layers": 8,
    "layer_types": ["sliding_attention", "full_attention"] * 4,
    "sliding_window": 32,
    "use_sliding_window": True,
}


@pytest.mark.parametrize("checkpointing", [False, pytest.param(True, marks=pytest.mark.heavy)])
def test_a_stack_of_alternating_layers_is_grown_by_its_period(checkpointing: bool) -> None:
    build = builder("lora", torch.float32, checkpointing=checkpointing, config=MIXED)
    with FakeTensorMode():
        assert profile._period(build(None), 8) == 2
        grown, whole = (liveness.measure(build, 8, LENGTH, period=period) for period in (2, 0))
    for sequences in (2, 3, 8, 64):
        assert bytes_at(grown.fresh, sequences) == pytest.approx(bytes_at(whole.fresh, sequences), rel=1e-3)


@pytest.mark.parametrize(
    ("changes", "period"),
    [
        ({}, 1),
        ({"layer_types": ["full_attention"] * 6 + ["sliding_attention"]}, 0),
        ({"layer_types": (["sliding_attention"] * 2 + ["full_attention"]) * 3, "num_hidden_layers": 9}, 3),
    ],
)
def test_a_stack_repeats_itself_or_is_counted_whole(changes: dict[str, Any], period: int) -> None:
    config = CONFIG | {"sliding_window": 32, "use_sliding_window": "layer_types" in changes} | changes
    model = profile._build(json.dumps(config))
    assert profile._period(model, config["num_hidden_layers"]) == period


def test_weights_are_not_counted_and_gradients_are() -> None:
    build = builder("full", torch.float32, checkpointing=True)
    with FakeTensorMode():
        model = build(2)
        run = liveness.timeline(model, 2, LENGTH)
        weights = sum(weight.numel() * 4 for weight in model.parameters())
    gradients = run.with_gradients[-1] - run.without_gradients[-1]
    assert gradients == weights
    assert run.without_gradients[-1] < 0.01 * weights


def test_the_highest_lines_are_kept_and_no_others() -> None:
    rows = liveness.np.array([[100.0, 1.0], [50.0, 1.0], [90.0, 5.0], [0.0, 20.0], [1.0, 2.0]])
    kept = liveness._highest(rows)
    for sequences in range(1, 50):
        assert bytes_at(kept, sequences) == (rows[:, 0] + rows[:, 1] * sequences).max()
    assert [1.0, 2.0] not in kept
