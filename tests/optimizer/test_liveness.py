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


def builder(method: str, precision: torch.dtype, *, checkpointing: bool) -> Build:
    asked = {"method": method, "rank": 4, "alpha": 8, "target_modules": []}

    def build(few: int | None) -> Any:
        model = profile._fake(profile._trainable(profile._build(json.dumps(CONFIG), few, precision), asked))
        if checkpointing:
            model.activation_checkpointing_enable({"use_reentrant": False})
        return model.train()

    return build


def bytes_at(lines: Lines, sequences: int) -> float:
    return max(fixed + each * sequences for fixed, each in lines)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_stack_grown_from_a_few_layers_is_the_whole_stack(
    method: str, precision: torch.dtype, checkpointing: bool
) -> None:
    build = builder(method, precision, checkpointing=checkpointing)
    with FakeTensorMode():
        grown, whole = (liveness.measure(build, LAYERS, LENGTH, homogeneous=alike) for alike in (True, False))
        flops = {liveness.flops(build, LAYERS, LENGTH, homogeneous=alike) for alike in (True, False)}
    assert len(flops) == 1
    for lines in ("fresh", "accumulating"):
        for sequences in (2, 3, 8, 64):
            one, other = (bytes_at(getattr(each, lines), sequences) for each in (grown, whole))
            assert one == pytest.approx(other, rel=1e-3)


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
