"""Rows that share a sequence: nothing is lost, nothing is seen of another row, and the loss is that of rows apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from services.trainer import finetune
from services.trainer.datasets import Row
from services.trainer.device import device_of_this_machine
from services.trainer.domain import Plan, TrainingFailedError, resolve
from services.trainer.packing import Packed, fit
from services.trainer.randomness import make_deterministic
from sskai.events import v1 as events


def rows(lengths: list[int]) -> list[Row]:
    generator = np.random.default_rng(3)
    return [
        Row(number, generator.integers(3, 300, length, dtype=np.int32), np.arange(length) >= length // 3)
        for number, length in enumerate(lengths, 1)
    ]


@given(lengths=st.lists(st.integers(1, 64), max_size=60))
def test_every_row_is_in_one_sequence_and_sequences_are_well_filled(lengths: list[int]) -> None:
    groups = fit(lengths, 64)
    assert sorted(index for group in groups for index in group) == list(range(len(lengths)))
    filled = [sum(lengths[index] for index in group) for group in groups]
    assert all(tokens <= 64 for tokens in filled)
    # No two sequences would fit into one.
    assert len(filled) < 2 or sum(sorted(filled)[:2]) > 64
    assert groups == fit(lengths, 64)


def test_a_packed_row_says_where_its_parts_begin() -> None:
    apart = rows([6, 4, 3])
    (packed,) = Packed(apart, 16)
    assert packed.numbers == (1, 2, 3)
    assert packed.positions is not None
    assert packed.positions.tolist() == [*range(6), *range(4), *range(3)]
    assert packed.tokens.tolist() == [token for row in apart for token in row.tokens]
    assert not packed.learnt[[0, 6, 10]].any(), "the first token of a row is predicted by none of its own"
    assert packed.targets == sum(row.targets for row in apart)


def language_model(models_dir: Path, samples: Any) -> finetune.LanguageModel:
    make_deterministic(1)
    base = finetune.load_base(models_dir / "tiny", device_of_this_machine())
    recipe = resolve(
        events.JobSpec(model=events.ModelRef(rank=4)), Plan(), rows=20, sequence_length=64, parameters=1_000_000
    )
    return finetune.LanguageModel(base, recipe, "tiny", samples, [])


@pytest.mark.usefixtures("torch_as_before")
def test_the_loss_of_packed_rows_is_that_of_the_same_rows_apart(models_dir: Path) -> None:
    apart = rows([30, 21, 17, 12, 9, 5, 3, 40])
    packed = Packed(apart, 64)
    assert len(packed) == 3
    task = language_model(models_dir, packed)
    for plain_head in (True, False):
        task._plain_head = plain_head
        with torch.no_grad():
            expected = sum(task.loss([row]).item() for row in apart)
            together = task.loss(list(packed)).item()
        assert together == pytest.approx(expected, rel=1e-5)


def test_a_model_that_sees_across_parts_is_refused(models_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = finetune.load_base(models_dir / "tiny", device_of_this_machine())
    finetune.require_parts_apart(base)
    as_it_is = base.model.forward

    def without_positions(input_ids: torch.Tensor, position_ids: torch.Tensor | None = None) -> Any:
        return as_it_is(input_ids=input_ids)

    monkeypatch.setattr(base.model, "forward", without_positions)
    with pytest.raises(TrainingFailedError, match="packing: false"):
        finetune.require_parts_apart(base)
