"""Steps on the tiny model: computing activations again instead of keeping them changes no bit."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from services.trainer import finetune
from services.trainer.datasets import Row
from services.trainer.device import device_of_this_machine
from services.trainer.domain import Plan, Recipe, resolve
from services.trainer.randomness import make_deterministic
from services.trainer.training import Training
from services.trainer.weights import ADAPTER
from sskai.events import v1 as events

pytestmark = pytest.mark.usefixtures("torch_as_before")
STEPS = 3


@dataclass
class Run:
    """What some steps left behind, and how often the first layer was computed for them."""

    losses: list[float]
    adapter: dict[str, bytes]
    passes: int


def recipe(*, gradient_checkpointing: bool) -> Recipe:
    # Dropout draws from the generators in each pass: a pass that is made again must draw the same.
    return resolve(
        events.JobSpec(hyperparameters=events.Hyperparameters(seed=7), model=events.ModelRef(rank=4)),
        Plan(batch_size=4, micro_batch_size=2, gradient_checkpointing=gradient_checkpointing),
        rows=20,
        sequence_length=64,
        parameters=1_000_000,
        dropout=0.1,
    )


def rows() -> list[Row]:
    """Of differing lengths, so that some are padded."""
    generator = np.random.default_rng(3)
    lengths = (40, 17, 33, 25)
    return [
        Row(number, generator.integers(3, 300, length, dtype=np.int32), np.arange(length) > 4)
        for number, length in enumerate(lengths, 1)
    ]


def run(models_dir: Path, *, gradient_checkpointing: bool) -> Run:
    make_deterministic(1)
    base = finetune.load_base(models_dir / "tiny", device_of_this_machine())
    settled = recipe(gradient_checkpointing=gradient_checkpointing)
    training = Training(finetune.LanguageModel(base, settled, "tiny", rows(), []), settled, base.device)
    passes = []
    base.model.model.layers[0].self_attn.register_forward_pre_hook(lambda *_: passes.append(1))
    losses = [training.learn(range(4), 1e-2, nullcontext).loss for _ in range(STEPS)]
    tensors = training.task.weights.tensors()[ADAPTER]
    adapter = {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}
    return Run(losses, adapter, len(passes))


def test_computing_activations_again_changes_no_bit(models_dir: Path) -> None:
    kept, again = (run(models_dir, gradient_checkpointing=each) for each in (False, True))
    assert (kept.passes, again.passes) == (2 * STEPS, 4 * STEPS), "twice for each of two micro-batches"
    assert again.losses == kept.losses
    assert len(set(kept.losses)) == STEPS
    assert again.adapter == kept.adapter
    assert kept.adapter
