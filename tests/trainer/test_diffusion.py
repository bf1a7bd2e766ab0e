"""Text-to-image models: an adapter that diffusers loads, the same bits after a kill, and datasets that are wrong."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from services.trainer import artifacts, pictures
from services.trainer.domain import TrainingFailedError
from sskai.objects import Objects
from tests import tiny_diffusion
from tests.trainer.attempts import Ends, KilledError, run
from tests.trainer.pods import REPOSITORY, Job, curve, told

pytestmark = pytest.mark.usefixtures("torch_as_before")
WEIGHTS = "pytorch_lora_weights.safetensors"


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pipelines")
    tiny_diffusion.build(folder / "tiny")
    tiny_diffusion.build(folder / "velocity", prediction_type="v_prediction")
    return folder


def job_of(objects: Objects, pipelines: Path, data: bytes | None = None, *, name: str = "tiny", **plan: object) -> Job:
    data = tiny_diffusion.dataset() if data is None else data
    job = Job(objects, pipelines, **({"total_steps": 8, "checkpoint_interval_steps": 2} | plan))
    key = f"tenants/t-1/datasets/{job.id}.zip"
    objects.put_bytes(key, data)
    job.spec.model.uri = f"builtin://{name}"
    job.spec.dataset.uri = objects.uri(key)
    job.spec.dataset.format = "text-to-image"
    job.spec.dataset.sha256 = hashlib.sha256(data).hexdigest()
    return job


def test_a_kill_changes_no_bit_and_diffusers_loads_what_was_learnt(
    objects: Objects, pipelines: Path, tmp_path: Path
) -> None:
    import safetensors.torch
    import torch
    from diffusers import StableDiffusionPipeline

    whole = job_of(objects, pipelines)
    run(whole.settings(), objects, tmp_path / "whole")
    expected = curve(tmp_path / "whole")
    assert len(expected) == 8

    job = job_of(objects, pipelines)
    with pytest.raises(KilledError):
        run(job.settings(1), objects, tmp_path / "1", Ends(18))
    assert 2 < len(curve(tmp_path / "1")) < 8
    run(job.settings(2), objects, tmp_path / "2")
    assert curve(tmp_path / "2") == expected
    assert told(tmp_path / "2", "AttemptResumed")[0]["from_step"] > 0
    # Tensors: the file's own metadata comes in any order.
    resumed, straight = (
        safetensors.torch.load(job.artifact(2, WEIGHTS)),
        safetensors.torch.load(whole.artifact(1, WEIGHTS)),
    )
    assert resumed.keys() == straight.keys()
    assert all(torch.equal(resumed[name], straight[name]) for name in straight)
    (finished,) = told(tmp_path / "2", "AttemptFinished")
    artifacts.verify(objects, finished["artifact_uri"], job.id)
    assert finished["eval_loss_after"] < finished["eval_loss_before"]

    pipeline = StableDiffusionPipeline.from_pretrained(pipelines / "tiny", local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)

    def drawn() -> torch.Tensor:
        generator = torch.Generator().manual_seed(1)
        images = pipeline("stripes", num_inference_steps=2, output_type="pt", generator=generator).images
        return torch.as_tensor(images)

    before = drawn()
    folder = tmp_path / "loaded"
    objects.download(f"{objects.key(finished['artifact_uri'])}/{WEIGHTS}", folder / WEIGHTS)
    pipeline.load_lora_weights(folder)
    assert not torch.equal(before, drawn())


def test_alpha_survives_in_the_result(objects: Objects, pipelines: Path, tmp_path: Path) -> None:
    """diffusers takes the rank for alpha where a file does not say."""
    from diffusers import UNet2DConditionModel

    job = job_of(objects, pipelines, total_steps=1)
    job.spec.model.alpha = 64
    run(job.settings(), objects, tmp_path)
    objects.download(f"{job.prefix}/artifact/attempt-00001/{WEIGHTS}", tmp_path / "loaded" / WEIGHTS)
    unet = UNet2DConditionModel.from_pretrained(pipelines / "tiny", subfolder="unet", local_files_only=True)
    unet.load_lora_adapter(tmp_path / "loaded", weight_name=WEIGHTS, prefix="unet")
    scales = {layer.scaling["default_0"] for layer in unet.modules() if hasattr(layer, "scaling")}
    assert scales == {64 / 4}


def test_a_model_that_predicts_velocity_learns_from_the_object_store_too(
    objects: Objects, pipelines: Path, tmp_path: Path
) -> None:
    job = job_of(objects, pipelines, tiny_diffusion.dataset(top="folder/"), total_steps=2)
    for path in (pipelines / "velocity").rglob("*"):
        if path.is_file():
            objects.put_file(f"models/{job.id}/{path.relative_to(pipelines / 'velocity').as_posix()}", path)
    objects.put_bytes(f"models/{job.id}/unet/unet.py", b"raise SystemExit")
    objects.put_bytes(f"models/{job.id}/unet/more/deep.json", b"{}")
    job.spec.model.uri = objects.uri(f"models/{job.id}")
    run(job.settings(), objects, tmp_path)
    assert len(curve(tmp_path)) == 2
    assert not (tmp_path / "model" / "unet" / "unet.py").exists()
    assert not (tmp_path / "model" / "unet" / "more").exists()


def zipped(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


def row(**values: object) -> bytes:
    return json.dumps({"file_name": "a.png", "text": "a"} | values).encode()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"no zip", "not a zip file"),
        (zipped({"a.png": b"x"}), "no metadata.jsonl"),
        (zipped({"metadata.jsonl": b"{"}), "row 1: file_name and text are needed"),
        (zipped({"metadata.jsonl": b"[]"}), "row 1: file_name and text are needed"),
        (zipped({"metadata.jsonl": row(text=1)}), "row 1: file_name and text must be texts"),
        (zipped({"metadata.jsonl": b"\n" + row()}), "row 2: file_name: there is no 'a.png'"),
        (zipped({"metadata.jsonl": row(file_name="../../dataset.jsonl")}), "row 1: file_name: there is no"),
        (zipped({"metadata.jsonl": row(), "a.png": b"GIF89a"}), "row 1: a.png: not one of PNG, JPEG, WEBP"),
    ],
)
def test_a_dataset_that_is_wrong_names_its_row(tmp_path: Path, data: bytes, says: str) -> None:
    (tmp_path / "dataset.zip").write_bytes(data)
    with pytest.raises(TrainingFailedError, match="dataset") as caught:
        pictures.described(tmp_path / "dataset.zip", tmp_path / "pictures")
    assert says in caught.value.detail


def test_a_picture_that_is_too_large_is_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "MAX_PIXELS", 100)
    (tmp_path / "dataset.zip").write_bytes(tiny_diffusion.dataset(1))
    with pytest.raises(TrainingFailedError, match="1280 pixels, over 100"):
        pictures.described(tmp_path / "dataset.zip", tmp_path / "pictures")


def test_methods_other_than_an_adapter_are_refused(objects: Objects, pipelines: Path, tmp_path: Path) -> None:
    job = job_of(objects, pipelines)
    job.spec.model.method = "full"
    with pytest.raises(TrainingFailedError, match=r"model.method"):
        run(job.settings(), objects, tmp_path)


@pytest.mark.heavy
def test_other_jobs_do_not_import_diffusers() -> None:
    program = (
        "import sys, services.trainer.attempt, services.trainer.finetune, services.trainer.training; "
        "print('diffusers' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
