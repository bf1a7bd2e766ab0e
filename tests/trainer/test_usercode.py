"""Models as code, trained: the three examples, exact resume through kill -9, every mistake with file and line."""

from __future__ import annotations

import io
import json
import os
import random
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from services.trainer import artifacts, credentials
from services.trainer.domain import Exit
from services.trainer.manifests import ManifestError
from services.trainer.settings import PodSettings
from sskai import usermodel
from sskai.contract import new_id
from sskai.events import v1 as events
from sskai.objects import Objects
from tests.trainer.pods import REPOSITORY, Job, Pod, curve, told

pytestmark = [pytest.mark.usefixtures("torch_as_before", "no_module_of_the_user")]
EXAMPLES = REPOSITORY / "examples"
MODEL = """
import torch
from torch import nn

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden, self.norm, self.head = nn.Linear(6, 10), nn.BatchNorm1d(10), nn.Linear(10, 3)
        self.dropout = nn.Dropout(0.1)

    def forward(self, x):
        return self.head(self.dropout(torch.relu(self.norm(self.hidden(x)))))
"""
# Augmented by all three generators that the platform restores.
DATA = """
import random
import numpy as np
import torch

class Rows(torch.utils.data.Dataset):
    def __len__(self): return 50
    def __getitem__(self, index):
        noise = torch.from_numpy(np.random.randn(6).astype(np.float32)) + random.random() + torch.randn(6)
        return torch.full((6,), float(index % 3)) + 0.1 * noise, index % 3

def datasets():
    return Rows(), Rows()
"""


class OwnJob(Job):
    """A job of kind train on a zip."""

    def __init__(self, objects: Objects, content: bytes, weights_uri: str = "", **plan: Any) -> None:
        super().__init__(objects, Path("/nowhere"), rows=[], **plan)
        key = f"tenants/t-1/code/{new_id('code')}.zip"
        objects.put_bytes(key, content)
        self.spec.kind, self.spec.name = "train", "digits"
        self.spec.ClearField("dataset")
        self.spec.model.CopyFrom(
            events.ModelRef(model_id="model_1", code_uri=objects.uri(key), uri=weights_uri, method="scratch")
        )


def zipped(files: dict[str, str | bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {"model.py": MODEL, "data.py": DATA, **files}.items():
            archive.writestr(name, content)
    return file.getvalue()


def example(name: str) -> bytes:
    return zipped({path.name: path.read_bytes() for path in (EXAMPLES / name).iterdir() if path.is_file()})


@pytest.fixture
def no_module_of_the_user() -> Iterator[None]:
    """An attempt in this process leaves the modules and the path of its model behind."""
    path, shared = list(sys.path), sys.modules["random"]
    yield
    sys.path[:] = path
    sys.modules["random"] = shared
    for name in ("model", "data"):
        sys.modules.pop(name, None)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Where the check's user may pass through; pytest's own folders are closed."""
    with tempfile.TemporaryDirectory(prefix="sskai-test-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.parametrize("name", ["image-classifier", "tabular-regressor", "tiny-transformer"])
@pytest.mark.timeout(200)
def test_an_example_learns_and_its_result_is_a_model_as_code_again(
    bucket: Objects, run_here: Callable[..., Exit], open_folder: Path, name: str
) -> None:
    rate = 2e-3 if name != "tabular-regressor" else 2e-2
    job = OwnJob(bucket, example(name), total_steps=40, batch_size=16, micro_batch_size=8, learning_rate=rate)
    job.spec.hyperparameters.learning_rate = rate
    assert run_here(job.settings(), open_folder) is Exit.DONE
    (finished,) = told(open_folder, "AttemptFinished")
    assert finished["eval_loss_after"] < finished["eval_loss_before"]
    artifacts.verify(bucket, finished["artifact_uri"], job.id)

    result = open_folder / "result"
    for info in bucket.list(bucket.key(finished["artifact_uri"])):
        bucket.download(info.key, result / info.key.rpartition("/")[2])
    sys.path.insert(0, str(result))
    for stale in ("model", "data"):
        sys.modules.pop(stale, None)
    again = usermodel.build(result)
    first = next(iter(usermodel.named_tensors(again.model).values())).clone()
    from safetensors.torch import load_file

    usermodel.take(again.model, load_file(result / "weights.safetensors"))
    assert not first.equal(next(iter(usermodel.named_tensors(again.model).values())))
    of_classes = name != "tabular-regressor"
    assert ("| accuracy on the held-out rows |" in (result / "README.md").read_text()) == of_classes
    about = json.loads((result / "sskai.json").read_text())
    assert (about["code_uri"], about["optimizer"]) == (job.spec.model.code_uri, again.optimizer)
    assert about["left_out"] == ["README.md", "job.yaml"]  # the result has a README.md of its own
    shape = {"image-classifier": [-1, 1, 8, 8], "tabular-regressor": [-1, 10], "tiny-transformer": [-1, -1]}[name]
    assert [one["shape"] for one in about["signature"]["inputs"]] == [shape]


@pytest.mark.heavy
@pytest.mark.timeout(400)  # two processes that import torch, on a machine that may be busy
def test_kill_9_changes_no_bit_of_curve_or_weights(
    bucket: Objects, start: Callable[[PodSettings, Path], Pod], run_here: Callable[..., Exit], tmp_path: Path
) -> None:
    """With random augmentation by every generator, dropout, and the moving figures of batch normalisation."""
    plan = {"total_steps": 400, "checkpoint_interval_steps": 20}
    content = zipped(
        {"data.py": DATA.replace("return torch.full", "import time; time.sleep(0.002); return torch.full")}
    )
    undisturbed = OwnJob(bucket, content, **plan)
    assert run_here(undisturbed.settings(), tmp_path / "undisturbed") is Exit.DONE
    expected = curve(tmp_path / "undisturbed")
    assert len(expected) == 400

    job = OwnJob(bucket, content, **plan)
    first = start(job.settings(1), tmp_path / "1")
    first.wait_for(lambda: len(job.manifests()) >= 2)
    first.wait_for_step(len(curve(first.folder)) + random.randint(1, 15))
    first.process.kill()
    first.end()
    killed_at = curve(first.folder)
    assert killed_at == expected[: len(killed_at)]
    assert len(killed_at) < 400

    second = start(job.settings(2), tmp_path / "2")
    second.wait_for_step(len(killed_at) + random.randint(1, 15))
    second.process.terminate()
    assert second.end() == Exit.DRAINED
    third = start(job.settings(3), tmp_path / "3")
    assert third.end() == Exit.DONE
    assert curve(tmp_path / "3") == expected
    assert job.artifact(3, "weights.safetensors") == undisturbed.artifact(1, "weights.safetensors")


@pytest.mark.heavy
def test_a_trained_version_is_trained_further(bucket: Objects, run_here: Callable[..., Exit], tmp_path: Path) -> None:
    first = OwnJob(bucket, zipped({}), total_steps=30)
    assert run_here(first.settings(), tmp_path / "1") is Exit.DONE
    (one,) = told(tmp_path / "1", "AttemptFinished")
    more = OwnJob(bucket, zipped({}), weights_uri=one["artifact_uri"], total_steps=2)
    assert run_here(more.settings(), tmp_path / "2") is Exit.DONE
    (two,) = told(tmp_path / "2", "AttemptFinished")
    # Not the same figure: the held-out samples are augmented, and drawn anew.
    learnt = one["eval_loss_before"] - one["eval_loss_after"]
    assert abs(two["eval_loss_before"] - one["eval_loss_after"]) < learnt / 2


def replaced(old: str, new: str) -> dict[str, Any]:
    place, text = ("model.py", MODEL) if old in MODEL else ("data.py", DATA)
    assert old in text
    return {place: text.replace(old, new)}


MISTAKES = {
    "in the model": (replaced("self.hidden(x)", "self.hidden(x[:, :5])"), "model.py, line 12: RuntimeError: mat1"),
    "in the data": (replaced("noise = ", "raise KeyError('row')  # "), "data.py, line 9: KeyError: 'row'"),
    "a package": ({"model.py": "import einops\n" + MODEL}, "model.py, line 1: ModuleNotFoundError"),
    "a shape": (replaced(", index % 3", ", torch.ones(2)"), "the targets are [2, 2]: mse wants targets of [2, 3]"),
    "a loss": ({"train.json": '{"loss": "focal"}'}, "train.json: loss 'focal' is not known"),
    "a pickle": ({"values.bin": b"\x80\x04K\x01."}, "values.bin: this is a pickle"),
    "a hard exit": ({"data.py": "import os\nos._exit(5)\n"}, "ended with code 5 before a step was made"),
    "another torch": (
        {"requirements.txt": "numpy\ntorch==1.0\n"},
        "requirements.txt, line 2: torch==1.0 cannot be had",
    ),
    "an option": ({"requirements.txt": "--index-url=x\n"}, "requirements.txt: line 1, '--index-url=x': write NAME"),
}


@pytest.mark.parametrize(("files", "words"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_ends_the_job_before_its_first_step_and_is_named(
    bucket: Objects, run_here: Callable[..., Exit], open_folder: Path, files: dict[str, Any], words: str
) -> None:
    job = OwnJob(bucket, zipped(files))
    assert run_here(job.settings(), open_folder) is Exit.USER_ERROR
    (finished,) = told(open_folder, "AttemptFinished")
    assert finished["reason"] == "user-error"
    assert words in finished["detail"]
    assert curve(open_folder) == []
    assert "model" not in sys.modules, "the code ran in the pod's own process"


def test_a_mistake_in_a_later_sample_is_named_too(
    bucket: Objects, run_here: Callable[..., Exit], open_folder: Path
) -> None:
    job = OwnJob(bucket, zipped(replaced("        noise = ", "        assert index != 17\n        noise = ")))
    assert run_here(job.settings(), open_folder) is Exit.USER_ERROR
    (finished,) = told(open_folder, "AttemptFinished")
    assert "data.py, line 9: AssertionError" in finished["detail"]


def test_a_package_is_installed_for_the_model_alone_and_an_absent_one_names_its_line(
    bucket: Objects, run_here: Callable[..., Exit], open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheels = open_folder / "wheels"
    wheels.mkdir()
    with zipfile.ZipFile(wheels / "sskai_threes-1.0-py3-none-any.whl", "w") as wheel:
        about = "sskai_threes-1.0.dist-info"
        wheel.writestr("sskai_threes.py", "THREE = 3\n")
        wheel.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: sskai-threes\nVersion: 1.0\n")
        wheel.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{about}/RECORD", "")
    monkeypatch.setenv("UV_FIND_LINKS", str(wheels))
    monkeypatch.setenv("UV_NO_INDEX", "1")
    model = MODEL.replace("nn.Linear(10, 3)", "nn.Linear(10, sskai_threes.THREE)").replace(
        "import torch\n", "import sskai_threes, torch\n", 1
    )
    listed = {"model.py": model, "requirements.txt": "torch\nsskai-threes==1.0\n"}
    assert run_here(OwnJob(bucket, zipped(listed), total_steps=2).settings(), open_folder / "1") is Exit.DONE
    sys.modules.pop("sskai_threes")

    refused = {**listed, "requirements.txt": "torch\nsskai-threes==2.0\n"}
    for number, (settings, words) in enumerate(
        [({}, "cannot be installed"), ({"trainer_install_requirements": False}, "pods here install nothing")], 2
    ):
        job = OwnJob(bucket, zipped(refused))
        assert run_here(job.settings(**settings), open_folder / str(number)) is Exit.USER_ERROR
        (finished,) = told(open_folder / str(number), "AttemptFinished")
        assert "requirements.txt, line 2: sskai-threes==2.0" in finished["detail"]
        assert words in finished["detail"]


def test_the_users_code_finds_no_credentials_where_they_were(
    bucket: Objects, start: Callable[[PodSettings, Path], Pod], open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "the-clouds")
    monkeypatch.setenv("HF_TOKEN", "the-users")
    data = DATA + (
        "import os\n"
        "shown = open('/proc/self/environ').read() if os.environ.get('SSKAI_JOB_ID') else ''\n"
        "assert not [name for name in os.environ if 'SECRET' in name or 'ACCESS' in name]\n"
        "assert 'SECRET' not in shown and 'the-clouds' not in shown\n"
        "assert not shown or os.environ['HF_TOKEN'] == 'the-users'\n"
    )
    job = OwnJob(bucket, zipped({"data.py": data}), total_steps=2)
    pod = start(job.settings(), open_folder)
    assert pod.end() == Exit.DONE, (open_folder / "pod.log").read_text()
    assert "checked" in (open_folder / "pod.log").read_text()


def test_what_the_job_asks_for_stays_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_REGION", "AWS_PROFILE", "SSKAI_INTERNAL_TOKEN", "SSKAI_JOB_ID"):
        monkeypatch.setenv(name, "x")
    credentials.scrub(given=["AWS_REGION"])
    kept = {"AWS_REGION", "AWS_PROFILE", "SSKAI_INTERNAL_TOKEN", "SSKAI_JOB_ID"} & set(os.environ)
    assert kept == {"AWS_REGION", "SSKAI_JOB_ID"}


@pytest.mark.parametrize("harm", ["undeclared source", "a pickle's name", "sources of an adapter"])
def test_a_result_with_code_that_is_not_declared_is_refused(
    bucket: Objects, run_here: Callable[..., Exit], tmp_path: Path, harm: str
) -> None:
    from services.trainer.checkpoints import Checkpoints

    folder = tmp_path / "harmed"
    folder.mkdir()
    about = {"kind": "own-model", "sources": ["data.py", "model.py"]}
    (folder / "weights.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    for name in ("model.py", "data.py"):
        (folder / name).write_text("")
    if harm != "sources of an adapter":
        (folder / "sskai.json").write_text(json.dumps(about))
    if harm == "undeclared source":
        (folder / "more.py").write_text("")
    if harm == "a pickle's name":
        (folder / "more.pkl").write_text("")
    job_id = new_id("job")
    uri = Checkpoints(bucket, f"jobs/{job_id}", job_id, 1).publish(1, folder, {}).uri
    with pytest.raises(ManifestError):
        artifacts.verify(bucket, uri, job_id)


def test_the_pod_of_a_model_as_code_imports_no_transformers() -> None:
    program = "import sys, services.trainer.usercode; print({'transformers', 'peft', 'scipy'} & {*sys.modules})"
    found = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
