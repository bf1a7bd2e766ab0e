"""Jobs of other kinds than the demo's, as their users submit them."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from sskai.client import Client, SskaiError
from sskai.testing import wait_for
from tests import tiny_diffusion
from tests.journeys.conftest import Stack

pytestmark = [pytest.mark.journey, pytest.mark.timeout(400)]

EXAMPLE = Path(__file__).parents[2] / "examples" / "tabular-regressor"


async def ended(client: Client, job_file: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """(job, the version that it made, its receipt) of a job that has to succeed."""
    submitted = client.jobs.create(job_file)
    try:
        job = client.jobs.wait(submitted["id"], limit_seconds=240, poll_seconds=0.5)
    except TimeoutError:
        job = client.jobs.get(submitted["id"])
    assert job["state"] == "succeeded", job
    versions: list[dict[str, Any]] = []

    def ready() -> bool:
        try:
            versions.append({**client.models.get(f"{job_file['name']}@1")})
        except SskaiError as error:
            if error.status != 404:
                raise
        return bool(versions)

    await wait_for(ready, limit_seconds=60)
    return {**job}, versions[0], {**client.receipts.wait(job["id"])}


async def test_an_example_is_trained_as_its_readme_says(running: Stack, tmp_path: Path) -> None:
    archive = tmp_path / "progress.zip"
    with zipfile.ZipFile(archive, "w") as zipped:
        for name in ("model.py", "data.py", "train.json", "requirements.txt"):
            zipped.write(EXAMPLE / name, name)
    job_file = yaml.safe_load((EXAMPLE / "job.yaml").read_text())
    with running.client() as client:
        assert client.models.upload(archive, name="progress-code")["id"] == "progress-code@1"
        job, version, receipt = await ended(client, job_file)
    assert version["job_id"] == job["id"]
    assert version["eval_loss_after"] < version["eval_loss_before"]
    assert int(receipt["paid_nano_usd"]) > 0


async def test_a_pipeline_learns_from_pictures_and_diffusers_loads_it(running: Stack, tmp_path: Path) -> None:
    import torch
    from diffusers import StableDiffusionPipeline

    folder = tiny_diffusion.build(tmp_path / "pipeline")
    (tmp_path / "stripes.zip").write_bytes(tiny_diffusion.dataset())
    job_file = {
        "kind": "finetune",
        "name": "striped",
        "model": {"base": "tiny-painter@1", "method": "lora", "rank": 4},
        "dataset": {"uri": "dataset://stripes/1", "eval_fraction": 0.2},
        "hyperparameters": {"max_steps": 20, "learning_rate": 2e-3},
        "budget": {"total_usd": 1},
    }
    with running.client() as client:
        model = client.models.upload(folder, name="tiny-painter")
        assert (model["id"], model["task"]) == ("tiny-painter@1", "text-to-image")
        assert client.datasets.upload(tmp_path / "stripes.zip", name="stripes")["format"] == "text-to-image"
        (best, *_) = client.plans.create(job_file)["candidates"]
        assert best["total_usd"]["expected"] < 1
        job, version, receipt = await ended(client, job_file)
    assert (version["job_id"], version["parent"]) == (job["id"], model["model_id"])
    assert version["eval_loss_after"] < version["eval_loss_before"]
    assert int(receipt["paid_nano_usd"]) > 0

    objects, weights = running.objects, "pytorch_lora_weights.safetensors"
    objects.download(f"{objects.key(version['artifact_uri'])}/{weights}", tmp_path / "adapter" / weights)
    pipeline = StableDiffusionPipeline.from_pretrained(folder, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)

    def drawn() -> torch.Tensor:
        given = torch.Generator().manual_seed(1)
        return torch.as_tensor(pipeline("stripes", num_inference_steps=2, output_type="pt", generator=given).images)

    before = drawn()
    pipeline.load_lora_weights(tmp_path / "adapter")
    assert not torch.equal(before, drawn())
