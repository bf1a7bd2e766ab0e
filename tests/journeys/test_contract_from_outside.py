"""What others do to the running system: publish by hand, publish garbage, ask for the impossible."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from sskai import broker_admin
from sskai.client import SskaiError
from sskai.demo.observer import Observer
from sskai.local import kafka
from sskai.testing import wait_for
from tests.journeys.conftest import Stack

pytestmark = [pytest.mark.journey, pytest.mark.timeout(300)]


def job_file(dataset: dict[str, object], base_model: str, **changes: object) -> dict[str, object]:
    job = {
        "kind": "finetune",
        "name": "by-hand",
        "model": {"base": base_model, "method": "lora", "rank": 4},
        "dataset": {"uri": f"dataset://{dataset['name']}/{dataset['version']}"},
        # Longer than three Java programs take to be compiled and run.
        "hyperparameters": {"n_epochs": 200, "max_steps": 3000, "batch_size": 8, "sequence_length": 64},
        "budget": {"total_usd": 1},
    }
    return job | changes


def publish_with_java(bootstrap: str, topic: str, key: str, value: str, headers: dict[str, str]) -> None:
    java = shutil.which("java")
    if java is None or shutil.which("javac") is None:
        pytest.skip("needs a JDK: Apache's Java client is run from source")
    source = Path(__file__).with_name("Publish.java")
    arguments = [bootstrap, topic, key, value, *(f"{name}={text}" for name, text in headers.items())]
    subprocess.run(
        [java, "-cp", f"{kafka.jars()}/*", str(source), *arguments], check=True, timeout=60, capture_output=True
    )


async def test_an_event_by_apaches_java_client_is_handled_and_garbage_is_set_aside(
    running: Stack, conversation_file: Path, base_model: str
) -> None:
    bootstrap = running.state.environment["SSKAI_KAFKA_BOOTSTRAP"]
    with running.client() as client:
        see = Observer(client)
        dataset = client.datasets.upload(conversation_file, name="by-hand")
        job = client.jobs.create(job_file(dataset, base_model))
        see.wait("AttemptStarted", job_id=job["id"], limit_seconds=120)
        publish_with_java(bootstrap, "sskai.jobs.v1", job["id"], "{not json", {"ce_type": "x", "ce_id": "garbage-1"})
        publish_with_java(
            bootstrap,
            "sskai.jobs.v1",
            job["id"],
            json.dumps({"job_id": job["id"], "tenant_id": "tenant_default", "requested_by": "java"}),
            {
                "ce_specversion": "1.0",
                "ce_id": f"by-java-{job['id']}",
                "ce_source": "a-java-program",
                "ce_type": "sskai.events.v1.JobCancelRequested",
                "content-type": "application/json",
            },
        )
        publish_with_java(
            bootstrap,
            "sskai.jobs.v1",
            job["id"],
            "no event at all",
            {
                "ce_specversion": "1.0",
                "ce_id": "g-2",
                "ce_source": "x",
                "ce_type": "sskai.events.v1.JobCancelRequested",
            },
        )
        see.wait("JobCancelled", job_id=job["id"], limit_seconds=120)

    async def letter() -> bool:
        letters = await broker_admin.read_dead_letters(bootstrap, "sskai.jobs.v1", limit=1000)
        return any(one.value == b"no event at all" for one in letters)

    await wait_for(letter, limit_seconds=30)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": {"base": "no-such-model", "method": "lora"}}, "no-such-model"),
        ({"budget": {"total_usd": 0}}, "budget"),
        ({"deadline": "2020-01-01T00:00:00Z"}, "deadline"),
        ({"colour": "blue"}, "colour"),
    ],
)
def test_bad_jobs_are_refused_at_the_door_with_what_to_do(
    running: Stack, conversation_file: Path, base_model: str, changes: dict[str, object], words: str
) -> None:
    with running.client() as client:
        dataset = client.datasets.upload(conversation_file, name="by-hand")
        with pytest.raises(SskaiError) as refused:
            client.jobs.create(job_file(dataset, base_model, **changes))
    assert refused.value.status == 422
    assert words in json.dumps(refused.value.problem)


def test_an_impossible_deadline_is_refused_with_the_distance(
    running: Stack, conversation_file: Path, base_model: str
) -> None:
    hurried = {"deadline": "1m", "hyperparameters": {"n_epochs": 1_000, "batch_size": 1, "sequence_length": 128}}
    with running.client() as client:
        dataset = client.datasets.upload(conversation_file, name="by-hand")
        with pytest.raises(SskaiError) as refused:
            client.plans.create(job_file(dataset, base_model, **hurried))
        assert refused.value.status == 422
        assert "deadline" in str(refused.value)
        see = Observer(client)
        job = client.jobs.create(job_file(dataset, base_model, **hurried))
        failed = see.wait("JobFailed", limit_seconds=60, where=lambda data: data["job_id"] == job["id"])
        assert failed["reason"] == "no-plan:deadline"
        assert failed["advice"]


def test_a_broken_row_is_named_and_nothing_is_stored(running: Stack, tmp_path: Path) -> None:
    rows = [{"text": f"row {number}"} for number in range(1, 10)]
    rows[6] = {"text": 7}  # type: ignore[dict-item]
    broken = tmp_path / "broken.jsonl"
    broken.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with running.client() as client:
        with pytest.raises(SskaiError) as refused:
            client.datasets.upload(broken, name="broken-set")
        problem = refused.value.problem
        assert (refused.value.status, problem["row"], problem["column"]) == (422, 7, "text")
        assert problem["detail"]
        assert not [one for one in client.datasets.list() if one["name"] == "broken-set"]
