"""What a user's own model takes and gives, learnt by trying it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

from services.trainer.usercode import OwnWeights
from sskai import usermodel_signature
from sskai.usermodel import UserError, UserModel
from sskai.usermodel_signature import learn, rebuilt


class Samples(Dataset[Any]):
    def __init__(self, sample: Any) -> None:
        self._sample = sample

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self._sample, 0


class Called(nn.Module):
    """Whose forward is a function of the input, or of inputs by names or places."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4, 2))
        self.function = function

    def forward(self, *inputs: Any, **named: Any) -> Any:
        return self.function(self.weight, *inputs, **named)


def signature(sample: Any, function: Any) -> dict[str, Any]:
    samples = Samples(sample)
    return learn(UserModel(Called(function), samples, samples, "mse", "adamw"))


def shapes(told: dict[str, Any]) -> list[tuple[str, str, list[int]]]:
    return [(one["name"], one["datatype"], one["shape"]) for one in (*told["inputs"], *told["outputs"])]


def test_a_row_of_fixed_size() -> None:
    told = signature(torch.zeros(4), lambda weight, x: x @ weight)
    assert shapes(told) == [("input", "FP32", [-1, 4]), ("output", "FP32", [-1, 2])]
    assert told["takes"] == "input"


def test_a_size_that_may_differ_goes_through_to_the_output() -> None:
    told = signature(torch.zeros(7, 4), lambda weight, x: x @ weight)
    assert shapes(told) == [("input", "FP32", [-1, -1, 4]), ("output", "FP32", [-1, -1, 2])]


def test_numbers_and_names_and_places() -> None:
    sample = {"x": torch.zeros(4), "more": (1.5, torch.tensor(True))}
    told = signature(sample, lambda weight, x, more: x @ weight + more[0][:, None] * more[1][:, None])
    assert shapes(told) == [
        ("x", "FP32", [-1, 4]),
        ("more.0", "FP32", [-1]),
        ("more.1", "BOOL", [-1]),
        ("output", "FP32", [-1, 2]),
    ]
    assert told["takes"] == {"x": "x", "more": ["more.0", "more.1"]}
    assert rebuilt(told["takes"], {"x": 1, "more.0": 2, "more.1": 3}) == {"x": 1, "more": (2, 3)}


def test_two_places() -> None:
    told = signature((torch.zeros(4), torch.zeros(4)), lambda weight, a, b: (a + b) @ weight)
    assert [one["name"] for one in told["inputs"]] == ["input.0", "input.1"]


def test_half_precision_is_told_as_float32() -> None:
    told = signature(torch.zeros(4).bfloat16(), lambda weight, x: x @ weight.bfloat16())
    assert shapes(told) == [("input", "BF16", [-1, 4]), ("output", "FP32", [-1, 2])]


@pytest.mark.parametrize(
    ("sample", "function", "words"),
    [
        (
            torch.zeros(4, dtype=torch.complex64),
            lambda weight, x: x.real @ weight,
            "the input input is torch.complex64",
        ),
        (torch.zeros(4), lambda weight, x: (x @ weight).to(torch.complex64), "the output is torch.complex64"),
        (torch.zeros(4), lambda weight, x: [x], "forward\\(\\) gives a list"),
        (torch.zeros(4), lambda weight, x: x[:1] @ weight, "for 2 samples"),
        ((torch.zeros(1),) * 17, lambda weight, *x: x[0], "an input is 17 tensors"),
        ({"a": {"b": torch.zeros(1)}, "a.b": torch.zeros(1)}, lambda weight, **x: x["a.b"], "both told as 'a.b'"),
        ({1: torch.zeros(1)}, lambda weight, **x: x, "are texts"),
        (torch.zeros((1,) * 9), lambda weight, x: x, "has 10 dimensions"),
    ],
)
def test_what_cannot_be_told(sample: Any, function: Any, words: str) -> None:
    with pytest.raises(UserError, match=words):
        signature(sample, function)


def test_trying_changes_nothing_of_the_model() -> None:
    norm = nn.BatchNorm1d(4)
    samples = Samples(torch.arange(4.0))
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    learn(UserModel(norm, samples, samples, "mse", "adamw"))
    assert norm.training
    assert all(torch.equal(before[name], value) for name, value in norm.state_dict().items())


def test_a_model_that_does_not_tell_is_kept_all_the_same(tmp_path: Path) -> None:
    samples = Samples(torch.zeros(4))
    own = UserModel(Called(lambda weight, x: {"a": x}), samples, samples, "mse", "adamw")
    about = OwnWeights(own, tmp_path, "s3://b/code.zip").texts()["sskai.json"]
    assert usermodel_signature.KEY.encode() not in about
