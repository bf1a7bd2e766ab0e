"""A job on several machines that loses one: it goes on with the others, in the same attempt, and is paid for those."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sskai.contract import new_id
from sskai.testing import wait_for
from tests.journeys.conftest import Stack

pytestmark = [pytest.mark.journey, pytest.mark.heavy, pytest.mark.timeout(600)]


async def test_a_lost_machine_does_not_end_the_attempt(
    running: Stack, base_model: str, conversation_file: Path
) -> None:
    name = new_id("pair").replace("_", "-")
    with running.client() as client:
        dataset = client.datasets.upload(conversation_file, name=name)
        job = client.jobs.create(
            {
                "name": name,
                "model": {"base": base_model, "method": "lora", "rank": 4},
                "dataset": {"uri": f"dataset://{dataset['name']}/{dataset['version']}"},
                "hyperparameters": {"batch_size": 8, "max_steps": 400, "sequence_length": 64},
                "resources": {"nodes": "2"},
            }
        )

        def members() -> list[dict[str, Any]]:
            return [one for one in running.cloud.machines() if one["tags"].get("sskai-job") == job["id"]]

        def steps() -> int:
            progress = client.jobs.get(job["id"])["progress"]
            return progress["step"] if progress else 0

        await wait_for(lambda: steps() >= 30, limit_seconds=200)
        (other,) = [one for one in members() if one["rank"] == 1]
        running.cloud.interrupt(other["machine_id"], 0)
        ended = client.jobs.wait(job["id"], limit_seconds=300, poll_seconds=0.5)
        assert (ended["state"], ended["attempt"]) == ("succeeded", 1), ended
        (first,) = [one for one in members() if one["rank"] == 0]
        assert len(running.cloud.said(first["machine_id"], "took over")) == 2, "its workers met again"
        assert len(members()) == 2, "nothing was launched in its place"
        assert {one["tags"]["sskai-attempt"] for one in members()} == {"1"}
        receipt = client.receipts.wait(job["id"])
    assert int(receipt["paid_nano_usd"]) > 0
