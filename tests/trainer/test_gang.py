"""Several workers of one attempt, as real processes over gloo: equal to one, and to themselves; lost; noticed."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load

from services.trainer.domain import Exit
from sskai.local.objectstore import ObjectStore
from sskai.local.processes import free_ports
from sskai.objects import Objects
from tests.trainer.pods import Job, Pod, curve, told

pytestmark = pytest.mark.timeout(400)
# Sums of float32 in another order: each step's loss may differ by so much from one worker's.
TOLERANCE = 1e-4
STEPS = 40


@pytest.fixture(scope="module")
def store() -> Iterator[ObjectStore]:
    with ObjectStore.start() as running:
        yield running


@pytest.fixture(scope="module")
def bucket(store: ObjectStore) -> Objects:
    return Objects(store.url, store.bucket, store.credentials.access_key, store.credentials.secret_key)


@pytest.fixture(scope="module")
def start(store: ObjectStore) -> Iterator[Callable[..., list[Pod]]]:
    """Start the machines of an attempt; none outlives the tests."""
    credentials = {
        "SSKAI_OBJECTS_URL": store.url,
        "SSKAI_OBJECTS_BUCKET": store.bucket,
        "SSKAI_OBJECTS_ACCESS_KEY": store.credentials.access_key,
        "SSKAI_OBJECTS_SECRET_KEY": store.credentials.secret_key,
    }
    pods: list[Pod] = []

    def start_machines(job: Job, folder: Path, machines: int = 1, attempt: int = 1, workers: int = 0) -> list[Pod]:
        settings = job.settings(attempt, lora_dropout=0.0, trainer_workers=workers)
        (port,) = free_ports(1)
        gang = {"WORLD_SIZE": str(machines), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        started = [
            Pod(settings, credentials, folder / str(rank), {**gang, "RANK": str(rank)} if machines > 1 else None)
            for rank in range(machines)
        ]
        pods.extend(started)
        return started

    yield start_machines
    for one in pods:
        one.kill()
        one.end()


@pytest.fixture(scope="module")
def alone(
    bucket: Objects, models_dir: Path, start: Callable[..., list[Pod]], tmp_path_factory: pytest.TempPathFactory
) -> list[float]:
    """The losses of one worker that nobody disturbed."""
    folder = tmp_path_factory.mktemp("alone")
    (pod,) = start(Job(bucket, models_dir, total_steps=STEPS), folder)
    assert pod.end() == Exit.DONE
    return curve(pod.folder)


def spoken(pods: list[Pod]) -> Pod:
    """The machine whose worker spoke for all."""
    (first,) = [pod for pod in pods if (pod.folder / "events.jsonl").exists()]
    return first


def output(pods: list[Pod]) -> str:
    return "\n".join((pod.folder / "pod.log").read_text() for pod in pods)


def workers_of(pod: Pod) -> list[psutil.Process]:
    return [one for one in psutil.Process(pod.process.pid).children() if "services.trainer.pod" in one.cmdline()]


@pytest.mark.heavy
def test_two_workers_equal_one_and_a_killed_one_is_started_again(
    bucket: Objects, models_dir: Path, start: Callable[..., list[Pod]], alone: list[float], tmp_path: Path
) -> None:
    job = Job(bucket, models_dir, total_steps=STEPS)
    (pod,) = start(job, tmp_path, workers=2)
    pod.wait_for_step(10)
    workers_of(pod)[-1].send_signal(signal.SIGKILL)
    assert pod.end() == Exit.DONE, output([pod])
    assert curve(pod.folder) == pytest.approx(alone, abs=TOLERANCE)
    (finished,) = told(pod.folder, "AttemptFinished")
    assert finished["succeeded"]
    assert output([pod]).count('"event": "took over"') == 2


@pytest.mark.heavy
def test_a_machine_lost_in_the_middle_does_not_end_the_run(
    bucket: Objects, models_dir: Path, start: Callable[..., list[Pod]], alone: list[float], tmp_path: Path
) -> None:
    job = Job(bucket, models_dir, total_steps=STEPS)
    pods = start(job, tmp_path, machines=2)
    pods[0].wait_for(lambda: any(len(curve(pod.folder)) >= 10 for pod in pods))
    workers = workers_of(pods[1])
    pods[1].kill()
    assert pods[0].end() == Exit.DONE, output(pods)
    assert curve(pods[0].folder) == pytest.approx(alone, abs=TOLERANCE)
    assert output(pods).count('"event": "took over"') == 2, "they met again"
    assert not any(one.is_running() for one in workers), "a worker does not outlive its agent"
    (finished,) = told(pods[0].folder, "AttemptFinished")
    assert finished["succeeded"]


@pytest.mark.heavy
def test_a_machine_that_vanishes_without_a_word_does_not_hold_up_the_others(
    bucket: Objects, models_dir: Path, start: Callable[..., list[Pod]], alone: list[float], tmp_path: Path
) -> None:
    """Its connections stay open, as those of a node without power do."""
    pods = start(Job(bucket, models_dir, total_steps=STEPS), tmp_path, machines=2)
    pods[0].wait_for(lambda: any(len(curve(pod.folder)) >= 10 for pod in pods))
    stopped = [*workers_of(pods[1]), psutil.Process(pods[1].process.pid)]
    for process in stopped:
        process.suspend()
    assert pods[0].end() == Exit.DONE, output(pods)
    assert curve(pods[0].folder) == pytest.approx(alone, abs=TOLERANCE)
    assert output(pods).count('"event": "took over"') == 2, "they met again"


@pytest.mark.heavy
def test_a_notice_to_one_machine_drains_all_and_one_worker_goes_on(
    bucket: Objects, models_dir: Path, start: Callable[..., list[Pod]], alone: list[float], tmp_path: Path
) -> None:
    job = Job(bucket, models_dir, total_steps=STEPS, checkpoint_interval_steps=1000)
    pods = start(job, tmp_path / "1", machines=2)
    pods[0].wait_for(lambda: any(len(curve(pod.folder)) >= 10 for pod in pods))
    os.kill(pods[1].process.pid, signal.SIGTERM)
    assert [pod.end() for pod in pods] == [Exit.DRAINED, Exit.DRAINED], output(pods)
    first = spoken(pods)
    saved_at = len(curve(first.folder))
    assert 10 <= saved_at < STEPS
    assert job.manifests() == [f"attempt-00001/checkpoint-{saved_at}"]
    (drained,) = told(first.folder, "AttemptDrained")
    assert drained["step"] == saved_at

    (resumed,) = start(job, tmp_path / "2", attempt=2)
    assert resumed.end() == Exit.DONE, output([resumed])
    assert curve(resumed.folder) == pytest.approx(alone, abs=TOLERANCE)


@pytest.mark.heavy
def test_a_model_in_parts_is_saved_by_all_and_read_by_any_number(
    bucket: Objects, models_dir: Path, start: Callable[..., list[Pod]], alone: list[float], tmp_path: Path
) -> None:
    job = Job(bucket, models_dir, total_steps=STEPS, checkpoint_interval_steps=1000, shard=True)
    saved_at = 0
    for attempt in (1, 2):  # each by two workers: the second reads what the first saved
        (pod,) = start(job, tmp_path / str(attempt), attempt=attempt, workers=2)
        pod.wait_for_step(saved_at + 8)
        pod.process.send_signal(signal.SIGTERM)
        assert pod.end() == Exit.DRAINED, output([pod])
        assert "the model is in parts" in output([pod])
        saved_at = len(curve(pod.folder))
        files = {
            info.key.rpartition("/")[2] for info in bucket.list(f"{job.prefix}/checkpoints/attempt-0000{attempt}/")
        }
        for rank in (0, 1):
            assert f"adapter_model-shard-0000{rank}-of-00002.safetensors" in files
            assert f"optimizer-shard-0000{rank}-of-00002.safetensors" in files
    (resumed,) = start(job, tmp_path / "3", attempt=3)
    assert resumed.end() == Exit.DONE, output([resumed])
    assert curve(resumed.folder) == pytest.approx(alone, abs=TOLERANCE)


@pytest.mark.heavy
def test_the_same_number_of_workers_gives_the_same_bits_and_parts_the_same_model(
    bucket: Objects, models_dir: Path, start: Callable[..., list[Pod]], tmp_path: Path
) -> None:
    """Of every weight, one sample a step: the second worker has nothing to learn from."""
    runs = []
    for name, sharded in (("a", False), ("b", False), ("parts", True)):
        job = Job(bucket, models_dir, total_steps=6, batch_size=1, shard=sharded)
        job.spec.model.method = "full"
        runs.append((job, *start(job, tmp_path / name, workers=2)))
    assert [pod.end() for _, pod in runs] == [Exit.DONE] * 3, output([pod for _, pod in runs])
    one, again, parts = (curve(pod.folder) for _, pod in runs)
    assert one == again
    assert parts == pytest.approx(one, abs=TOLERANCE)
    whole, same, together = (load(job.artifact(1, "model.safetensors")) for job, _ in runs)
    assert whole.keys() == together.keys()
    assert all(torch.equal(whole[name], same[name]) for name in whole)
    assert all(torch.allclose(whole[name], together[name], atol=1e-3) for name in whole)
