"""The Python client against the real gateway."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from sskai.client import Client, SskaiError
from tests.gateway.conftest import ROWS, House, job_file, jsonl

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_journey_by_the_client(house: House, tmp_path: Path) -> None:
    path = tmp_path / "support.jsonl"
    path.write_bytes(jsonl(ROWS))
    key = house.ann.headers["Authorization"].removeprefix("Bearer ")

    def submit() -> dict[str, Any]:
        with Client(house.url, key) as sskai:
            dataset = sskai.datasets.upload(path, name="support")
            assert sskai.datasets.preview(dataset["id"], rows=1) == ROWS[:1]
            assert [found["id"] for found in sskai.datasets.list()] == [dataset["id"]]
            assert "tiny-llama" in [model["id"] for model in sskai.models.list()]
            path.write_bytes(jsonl([{"text": "fine"}, {"text": 7}]))
            with pytest.raises(SskaiError) as refused:
                sskai.datasets.upload(path, name="support")
            assert refused.value.problem["row"] == 2
            job = sskai.jobs.create(job_file(dataset={"uri": dataset["uri"]}))
            assert sskai.jobs.cancel(job["id"])["state"] == "cancelling"
            endpoint = sskai.endpoints.create("chat", "tiny-llama")
            assert sskai.endpoints.delete(endpoint["id"])["state"] == "deleting"
            return job

    job = await asyncio.to_thread(submit)
    await house.bus.settle()

    def listen() -> list[str]:
        with Client(house.url, key) as sskai:
            facts = sskai.events(after=0, subject=job["id"])
            return [next(facts).type for _ in range(2)]

    assert await asyncio.to_thread(listen) == ["JobSubmitted", "JobCancelRequested"]
