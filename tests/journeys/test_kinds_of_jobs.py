"""Jobs of other kinds than the demo's, as their users submit them."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from sskai.client import Client, SskaiError
from sskai.testing import wait_for
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
            versions.append(client.models.get(f"{job_file['name']}@1"))
        except SskaiError as error:
            if error.status != 404:
                raise
        return bool(versions)

    await wait_for(ready, limit_seconds=60)
    return job, versions[0], client.receipts.wait(job["id"])


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
