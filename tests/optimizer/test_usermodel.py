"""A user's own model through the real object store and the real sandbox: counts by hand, mistakes explained."""

from __future__ import annotations

import io
import json
import os
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest

from services.optimizer import usermodel
from services.optimizer.profiler import ProfileError, WorkerError
from services.optimizer.settings import Settings
from services.optimizer.user_profiler import COUNTS, UserProfiler, counts_of
from sskai.contract import new_id
from sskai.objects import Objects
from sskai.sandbox import Limits, Outcome

EXAMPLES = Path(__file__).parents[2] / "examples"
MODEL = """
import torch
from torch import nn

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden, self.head = nn.Linear(6, 10), nn.Linear(10, 3)

    def forward(self, x):
        return self.head(torch.relu(self.hidden(x)))
"""
DATA = """
import torch

class Rows(torch.utils.data.Dataset):
    def __len__(self): return 50
    def __getitem__(self, index): return torch.full((6,), float(index)), index % 3

def datasets():
    return Rows(), Rows()
"""


def zipped(**files: str | bytes) -> bytes:
    """`model=..., data=...` become model.py and data.py; other names are given whole."""
    sources = {"model.py": MODEL, "data.py": DATA}
    for name, content in files.items():
        sources[f"{name}.py" if name in ("model", "data", "helper") else name] = content  # type: ignore[assignment]
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in sources.items():
            archive.writestr(name, content)
    return file.getvalue()


def stored(objects: Objects, content: bytes) -> str:
    key = f"tenants/test/code/{new_id('code')}.zip"
    objects.put_bytes(key, content)
    return objects.uri(key)


def traced(folder: Path, **files: str | bytes) -> dict[str, Any]:
    """By the program that runs inside, here: what the tests' own models do is known. Spares the import of torch."""
    with zipfile.ZipFile(io.BytesIO(zipped(**files))) as archive:
        archive.extractall(folder)
    return usermodel.answer(folder)


def example(name: str) -> bytes:
    return zipped(**{path.name: path.read_bytes() for path in (EXAMPLES / name).iterdir() if path.is_file()})


async def profiled(objects: Objects, limits: Limits | None = None, **files: str | bytes) -> dict[str, Any]:
    uri = stored(objects, zipped(**files))
    return await UserProfiler(objects, limits or Limits()).profile(uri)


async def test_the_example_is_counted_as_by_hand(objects: Objects) -> None:
    counts = await UserProfiler(objects).profile(stored(objects, example("image-classifier")))
    # Two 3 x 3 convolutions on 8 x 8 pixels (1 to 8, 8 to 16 channels), one linear layer from 16 x 4 x 4 to 10.
    first, second, head = 2 * 64 * 8 * 9 * 1, 2 * 64 * 16 * 9 * 8, 2 * 256 * 10
    assert counts["flops_forward_per_sample"] == first + second + head
    # For weights and for inputs, but nobody asks for the gradient of the pictures.
    assert counts["flops_backward_per_sample"] == first + 2 * (second + head)
    assert counts["parameters"] == counts["trainable_parameters"] == (8 * 9 + 8) + (16 * 72 + 16) + (2560 + 10)
    assert (counts["samples"], counts["held_out_samples"], counts["dtype"]) == (1_437, 360, "float32")
    assert counts["sample_bytes"] == 64 * 4 + 8  # one picture, one label
    assert counts["buffers_bytes"] == 0
    # Kept for the backward pass: picture, the first convolution after ReLU, the second, pooled values and their places,
    # log-probabilities and the label; the mean's count is one number for both samples.
    kept = 64 * 4 + 8 * 64 * 4 + 16 * 64 * 4 + 256 * 4 + 256 * 8 + 10 * 4 + 8
    assert counts["activation_bytes_per_sample"] == pytest.approx(kept, abs=4)
    assert counts["peak_bytes_two_samples"] > 2 * 4 * counts["parameters"] + 2 * kept


@pytest.mark.parametrize(("name", "rate"), [("tabular-regressor", 1e-2), ("tiny-transformer", 1e-3)])
async def test_the_other_examples_can_be_planned_and_their_rate_goes_by_their_optimizer(
    objects: Objects, name: str, rate: float
) -> None:
    counts = await UserProfiler(objects).profile(stored(objects, example(name)))
    assert counts["flops_forward_per_sample"] > 0
    assert counts["learning_rate"] == rate


async def test_a_perceptron_is_counted_as_by_hand(objects: Objects) -> None:
    counts = await profiled(objects)
    forward = 2 * 6 * 10 + 2 * 10 * 3
    assert counts["flops_forward_per_sample"] == forward
    assert counts["flops_backward_per_sample"] == 2 * forward - 2 * 6 * 10
    assert counts["parameters"] == 6 * 10 + 10 + 10 * 3 + 3
    # Input, hidden layer, log-probabilities (float32) and the label.
    assert counts["activation_bytes_per_sample"] == pytest.approx(4 * (6 + 10 + 3) + 8, abs=4)
    assert set(counts) == {*COUNTS, "dtype", "learning_rate"}


def test_what_is_frozen_is_not_trained_and_costs_no_gradient(tmp_path: Path) -> None:
    frozen = MODEL.replace("nn.Linear(10, 3)", "nn.Linear(10, 3)\n        self.hidden.requires_grad_(False)")
    counts = traced(tmp_path, model=frozen)
    assert (counts["parameters"], counts["trainable_parameters"]) == (103, 33)
    assert counts["flops_backward_per_sample"] == 2 * 10 * 3


def test_the_peak_grows_with_what_is_kept_and_buffers_are_counted(tmp_path: Path) -> None:
    wide = MODEL.replace("nn.Linear(10, 3)", "nn.Linear(10, 3)\n        self.register_buffer('b', torch.zeros(1000))")
    plain, buffered = traced(tmp_path), traced(tmp_path, model=wide)
    assert buffered["buffers_bytes"] == 4_000
    assert buffered["peak_bytes_two_samples"] - plain["peak_bytes_two_samples"] == 4_000
    assert buffered["activation_bytes_per_sample"] == plain["activation_bytes_per_sample"]


SAMPLES = {
    "numpy": ("np.full(6, index, np.float32), np.int64(index % 3)", MODEL, {}),
    "dict": (
        "{'x': torch.ones(6)}, index % 3",
        MODEL,
        {},
    ),
    "tuple": (
        "(torch.ones(6), torch.ones(6)), index % 3",
        MODEL.replace("self, x)", "self, x, y)").replace("hidden(x)", "hidden(x + y)"),
        {},
    ),
    "regression": ("torch.ones(6), torch.ones(3)", MODEL, {}),
    "l1": ("torch.ones(6), torch.ones(3)", MODEL, {"loss": "l1"}),
    "labels": ("torch.ones(6), torch.ones(3)", MODEL, {"loss": "bce_with_logits", "optimizer": "sgd"}),
    "probabilities": ("torch.ones(6), torch.ones(3) / 3", MODEL, {"loss": "cross_entropy"}),
}


@pytest.mark.parametrize(("sample", "model", "train"), SAMPLES.values(), ids=SAMPLES.keys())
def test_samples_of_every_kind_are_stacked(tmp_path: Path, sample: str, model: str, train: dict[str, str]) -> None:
    data = "import numpy as np\n" + DATA.replace("torch.full((6,), float(index)), index % 3", sample)
    counts = traced(tmp_path, data=data, model=model, **{"train.json": json.dumps(train)})
    assert counts["flops_forward_per_sample"] == 2 * 6 * 10 + 2 * 10 * 3


def replaced(old: str, new: str) -> dict[str, str]:
    """A mistake in one of the two files."""
    place, text = ("model", MODEL) if old in MODEL else ("data", DATA)
    assert old in text
    return {place: text.replace(old, new)}


ONE_TENSOR = b'{"hidden.bias": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}'
MISTAKES = {
    "syntax": ({"model": "class Model(\n"}, r"model\.py, line 1: SyntaxError: '\(' was never closed"),
    "a package": (
        {"model": "import einops\n" + MODEL},
        r"model\.py, line 1: ModuleNotFoundError.*A plan imports torch",
    ),
    "no model": ({"model": "import torch\n"}, "holds no subclass of torch.nn.Module"),
    "an imported model only": ({"model": "from torch.nn import Linear\n"}, "holds no subclass"),
    "two models": (
        {"model": MODEL.replace("class Model", "class A") + "\nclass B(A): pass\n"},
        r"several models \(A, B\): name the one to train Model",
    ),
    "arguments": (replaced("__init__(self)", "__init__(self, width)"), "TypeError.*built without arguments"),
    "in its constructor": (
        replaced("super().__init__()", "super().__init__(); 1 / 0"),
        r"model\.py, line 7: ZeroDivisionError",
    ),
    "in forward": (replaced("hidden(x)", "hidden(x[:, :5])"), r"model\.py, line 11: RuntimeError: mat1 and mat2"),
    "type of the input": (replaced("float(index)", "1.0, dtype=torch.float64"), r"model\.py, line 11.*dtype.*float32"),
    "in the data": (
        replaced("return torch.full", "raise KeyError('row'); torch.full"),
        r"data\.py, line 6: KeyError: 'row'",
    ),
    "no datasets": (replaced("def datasets", "def data"), "no function datasets"),
    "one dataset": (replaced("Rows(), Rows()", "Rows()"), r"returns a Rows, not the pair"),
    "a stream": (replaced("Rows(), Rows()", "iter([1]), Rows()"), "without __len__ and __getitem__"),
    "one sample": (replaced("return 50", "return 1"), "train has 1 samples; at least 2"),
    "no pair": (replaced("return torch.full((6,), float(index)), index % 3", "return 1"), "is a int, not the pair"),
    "text": (replaced("index % 3", "'cat'"), "target is a str: give tensors"),
    "shapes": (replaced("(6,)", "(6 + index,)"), r"input has the shapes \[6\] and \[7\]"),
    "class": (replaced("index % 3", "index + 2"), "a target is class 3 or 2, but forward.* gives scores for 0 to 2"),
    "target": (replaced("index % 3", "torch.ones(2)"), r"gives \[2, 3\] for 2 samples, the targets are \[2, 2\]: mse"),
    "integers": (
        replaced("index % 3", "torch.ones(3, dtype=torch.long)") | {"train.json": '{"loss": "mse"}'},
        "targets are torch.int64, but mse wants floating-point",
    ),
    "the sum": (replaced("self.head(torch", "torch.sum(torch"), r"gives \[\] for 2 samples"),
    "detached": (replaced("self.hidden(x)))", "self.hidden(x))).detach()"), "depends on no parameter"),
    "a dict comes out": (replaced("return self.head", "return {}; self.head"), "gives a dict, but cross_entropy"),
    "nothing to train": (
        replaced("nn.Linear(10, 3)", "nn.Linear(10, 3)\n        self.requires_grad_(False)"),
        "no parameter has requires_grad",
    ),
    "an unknown optimizer": (
        {"train.json": '{"optimizer": "lion"}'},
        "optimizer 'lion' is not known: use",
    ),
    "an unknown loss": ({"train.json": '{"loss": "focal"}'}, "loss 'focal' is not known: use one of cross_entropy"),
    "weights": (
        {"weights.safetensors": len(ONE_TENSOR).to_bytes(8, "little") + ONE_TENSOR + bytes(4)},
        r"tensor 'head.bias' is missing, but in model.py it is \[3\]",
    ),
    "exit": ({"data": "import sys\nsys.exit('no')\n"}, r"data\.py, line 2: SystemExit: no"),
}


@pytest.mark.parametrize(("files", "words"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_named_with_its_file_and_line(tmp_path: Path, files: dict[str, Any], words: str) -> None:
    error = traced(tmp_path, **files)["error"]
    assert re.search(words, error), error
    assert str(tmp_path) not in error
    assert "usermodel.py" not in error


# What only the real sandbox can show.
ENDINGS = {
    "a hard exit": ({"data": "import os\nos._exit(5)\n"}, "ended with code 5 before the model was traced"),
    "a crash": ({"data": "import ctypes\nctypes.string_at(0)\n"}, "ended with code -11 before"),
    "a read outside": ({"data": "open('/etc/passwd')\n" + DATA}, r"data\.py, line 1: (FileNotFound|Permission)Error"),
    "the network": (
        {"data": "import urllib.request\nurllib.request.urlopen('http://127.0.0.1:9')\n"},
        r"data\.py, line 2: URLError",
    ),
    "time": ({"data": "import time\ntime.sleep(99)\n"}, "took more than 8 s"),
    "memory": ({"data": "x = [bytearray(b'x' * 2**20) for _ in range(900)]\nwhile True: pass\n"}, "more than 0.8 GiB"),
    "output": ({"data": "while True: print('x' * 999)\n"}, "more than 1048576 bytes to its output"),
    "threads": (
        {
            "data": "import threading, time\n"
            "for _ in range(70): threading.Thread(target=time.sleep, args=(9,)).start()\n"
            "time.sleep(9)\n"
        },
        "more than 64 processes and threads",
    ),
    "a pickle": ({"data.bin": b"\x80\x04K\x01."}, "data.bin: this is a pickle"),
}


@pytest.mark.heavy  # tests/chassis/test_sandbox.py has them without torch
@pytest.mark.parametrize(("files", "words"), ENDINGS.values(), ids=ENDINGS.keys())
async def test_what_code_does_to_its_process_is_explained(objects: Objects, files: dict[str, Any], words: str) -> None:
    limits = Limits(wall_seconds=8 if "8 s" in words else 60, memory_bytes=800 * 2**20)
    with pytest.raises(ProfileError, match=words):
        await profiled(objects, limits, **files)


async def test_the_service_is_not_touched(objects: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither its variables nor its user are inside; prints do not mix with the answer; the zip may be read."""
    monkeypatch.setenv("SSKAI_OBJECTS_SECRET_KEY", "hidden")
    data = f"""
import os, pathlib, helper
print("{{}}", flush=True)
assert "SSKAI_OBJECTS_SECRET_KEY" not in os.environ
assert os.getuid() != 0
assert (pathlib.Path(__file__).parent / "values.txt").read_text() == "1 2 3"
{DATA}"""
    files = {"data": data, "helper": "import model", "values.txt": "1 2 3"}
    assert (await profiled(objects, **files))["samples"] == 50
    assert os.environ["SSKAI_OBJECTS_SECRET_KEY"] == "hidden"


async def test_what_is_ours_is_tried_again_and_what_is_gone_is_said(objects: Objects) -> None:
    with pytest.raises(ProfileError, match=r"not in the object store.*upload it again"):
        await UserProfiler(objects).profile(objects.uri("tenants/test/code/nothing.zip"))
    with pytest.raises(ProfileError, match="not in the object store"):
        await UserProfiler(objects).profile("s3://elsewhere/code.zip")
    away = Objects("http://127.0.0.1:1", objects.bucket, "a", "b")
    with pytest.raises(WorkerError, match="cannot be fetched"):
        await UserProfiler(away).profile(objects.uri("code.zip"))
    with pytest.raises(WorkerError, match="is not run here, for its walls cannot be had"):
        await UserProfiler(objects, walls=()).profile(stored(objects, zipped()))


def test_limits_come_from_the_settings(objects: Objects) -> None:
    settings = Settings(profile_limit_seconds=7.5, user_profile_memory_gib=0.5, sandbox_walls="filters,limits")
    profiler = UserProfiler.from_settings(settings)
    assert (profiler.limits.wall_seconds, profiler.limits.cpu_seconds, profiler.limits.memory_bytes) == (7.5, 8, 2**29)
    assert profiler.walls == ("filters", "limits")


GOOD = dict.fromkeys(COUNTS, 1) | {"dtype": "float32", "learning_rate": 1e-3}


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"", "ended with code 0"),
        (b"[]", "ended with code 0"),
        (b"7", "ended with code 0"),
        (b"[" * 100_000, "ended with code 0"),
        (json.dumps(GOOD | {"parameters": -1}).encode(), "parameters came out as -1"),
        (json.dumps(GOOD | {"parameters": 2**70}).encode(), "parameters came out as"),
        (json.dumps(GOOD | {"samples": True}).encode(), "samples came out as True"),
        (json.dumps(GOOD | {"samples": 1e9}).encode(), "samples came out as"),
        (json.dumps(GOOD | {"dtype": "x" * 99}).encode(), "dtype"),
        (json.dumps(GOOD | {"learning_rate": 0.0}).encode(), "learning_rate came out as 0.0"),
        (json.dumps(GOOD | {"learning_rate": [1]}).encode(), "learning_rate came out as"),
        (json.dumps({"error": "a\0b\nc" + "x" * 5_000}).encode(), "^a b cx{995}$"),
    ],
)
def test_an_answer_that_user_code_forged_is_believed_in_its_form_only(answer: bytes, words: str) -> None:
    with pytest.raises(ProfileError, match=words):
        counts_of(Outcome(answer, "", 0, "", "filters"), Limits())


def test_a_good_answer_is_taken_without_what_else_it_holds() -> None:
    answer = json.dumps(GOOD | {"more": 1}).encode()
    assert counts_of(Outcome(answer, "", 0, "", "filters"), Limits()) == GOOD
