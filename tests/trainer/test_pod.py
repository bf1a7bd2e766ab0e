"""Attempts on the tiny model: exact resume after kill -9 and after a notice, and every way to end.

What must survive a signal runs as a process; the rest runs in this one, with the same code.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from services.trainer import artifacts, patience
from services.trainer.domain import Exit
from services.trainer.interruption import Interruption
from services.trainer.settings import PodSettings
from sskai import contract, faults
from sskai.events import v1 as events
from sskai.failpoints import Action
from sskai.faults import Armed, Fault
from sskai.objects import Objects
from sskai.testing import heard
from tests.trainer.pods import PLAN, REPOSITORY, ROWS, Job, Pod, curve, told

pytestmark = pytest.mark.usefixtures("torch_as_before")
NOBODY_LISTENS = "127.0.0.1:9"


@pytest.mark.timeout(400)  # two processes that import torch, on a machine that may be busy
def test_kill_9_and_notice_change_no_bit_of_the_curve(
    bucket: Objects,
    models_dir: Path,
    start: Callable[[PodSettings, Path], Pod],
    run_here: Callable[..., Exit],
    tmp_path: Path,
) -> None:
    """Attempt 1 is killed, its newest checkpoint torn; attempt 2 gets a notice; attempt 3 finishes."""
    plan = {"total_steps": 60, "checkpoint_interval_steps": 4}
    undisturbed = Job(bucket, models_dir, **plan)
    assert run_here(undisturbed.settings(), tmp_path / "undisturbed") is Exit.DONE
    expected = curve(tmp_path / "undisturbed")
    assert len(expected) == 60

    job = Job(bucket, models_dir, **plan)
    first = start(job.settings(1), tmp_path / "1")
    first.wait_for(lambda: len(job.manifests()) >= 2)
    first.wait_for_step(len(curve(first.folder)) + random.randint(1, 8))
    first.process.kill()
    first.end()
    killed_at = curve(first.folder)
    assert killed_at == expected[: len(killed_at)]
    saved = sorted(job.manifests(), key=lambda name: int(name.rpartition("-")[2]))
    bucket.put_bytes(f"{job.prefix}/checkpoints/{saved[-1]}/optimizer.safetensors", b"torn")

    previous = {"attempt": 1, "step": len(killed_at), "at": datetime.now(UTC)}
    second = start(job.settings(2, previous=previous), tmp_path / "2")
    resumed_step = int(saved[-2].rpartition("-")[2])
    second.wait_for_step(resumed_step + random.randint(2, 9))
    second.process.send_signal(signal.SIGTERM)
    assert second.end() == Exit.DRAINED
    noticed_at = curve(second.folder)
    assert noticed_at == expected[: len(noticed_at)]
    (resumed,) = told(second.folder, "AttemptResumed")
    assert (resumed["from_attempt"], resumed["from_step"]) == (1, resumed_step)
    assert resumed["lost_steps"] == len(killed_at) - resumed_step
    assert resumed["gap_seconds"] > 0
    (drained,) = told(second.folder, "AttemptDrained")
    assert drained["step"] == len(noticed_at)
    assert told(second.folder, "CheckpointCommitted")[-1]["step"] == len(noticed_at)

    previous = {"attempt": 2, "step": len(noticed_at), "at": datetime.now(UTC)}
    assert run_here(job.settings(3, previous=previous), tmp_path / "3") is Exit.DONE
    assert curve(tmp_path / "3") == expected
    (resumed,) = told(tmp_path / "3", "AttemptResumed")
    assert (resumed["from_attempt"], resumed.get("lost_steps", 0)) == (2, 0)
    (finished,) = told(tmp_path / "3", "AttemptFinished")
    (other,) = told(tmp_path / "undisturbed", "AttemptFinished")
    for figure in ("eval_loss_before", "eval_loss_after", "tokens", "steps"):
        assert finished[figure] == other[figure], figure
    assert job.artifact(3, "adapter_model.safetensors") == undisturbed.artifact(1, "adapter_model.safetensors")


@pytest.mark.timeout(400)  # two processes that import torch, on a machine that may be busy
def test_a_successor_stands_by_while_its_predecessor_drains_and_nothing_is_lost(
    bucket: Objects, models_dir: Path, start: Callable[[PodSettings, Path], Pod], tmp_path: Path
) -> None:
    # Its only checkpoint is the one that answers the notice.
    job = Job(bucket, models_dir, total_steps=2000, checkpoint_interval_steps=1000)
    first = start(job.settings(1), tmp_path / "1")
    awaits = {"attempt": 1, "until": datetime.now(UTC) + timedelta(minutes=5)}
    second = start(job.settings(2, awaits=awaits), tmp_path / "2")
    second.wait_for(lambda: "base model and data loaded" in (second.folder / "pod.log").read_text())
    first.wait_for_step(5)
    assert told(second.folder, "AttemptProgressed")[-1]["phase"] == "standing-by"
    first.process.send_signal(signal.SIGTERM)
    assert first.end() == Exit.DRAINED
    second.wait_for_step(len(curve(first.folder)) + 1)
    second.wait_for(lambda: bool(told(second.folder, "AttemptResumed")))
    (resumed,) = told(second.folder, "AttemptResumed")
    assert (resumed["from_attempt"], resumed["from_step"]) == (1, len(curve(first.folder)))
    ended, began = (
        json.loads(bucket.get_bytes(f"{job.prefix}/{key}")) for key in ("ends/00001.json", "fences/00002.json")
    )
    assert (ended["outcome"], ended["awaited"]) == ("drained", None)
    assert ended["at"] <= began["at"]
    second.process.send_signal(signal.SIGTERM)
    assert second.end() == Exit.DRAINED


@pytest.mark.heavy
@pytest.mark.timeout(200)
def test_a_successor_that_is_sent_away_while_it_stands_by_has_written_nothing_but_its_end(
    bucket: Objects, models_dir: Path, start: Callable[[PodSettings, Path], Pod], tmp_path: Path
) -> None:
    job = Job(bucket, models_dir)
    second = start(
        job.settings(2, awaits={"attempt": 1, "until": datetime.now(UTC) + timedelta(minutes=5)}), tmp_path / "2"
    )
    second.wait_for(lambda: "base model and data loaded" in (second.folder / "pod.log").read_text())
    second.process.send_signal(signal.SIGTERM)
    assert second.end() == Exit.DRAINED
    assert [info.key for info in bucket.list(job.prefix)] == [f"{job.prefix}/ends/00002.json"]


def test_the_result_is_a_verified_adapter_with_its_card_and_curve(
    bucket: Objects, models_dir: Path, run_here: Callable[..., Exit], tmp_path: Path
) -> None:
    long_row = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "so " * 300}]}
    job = Job(bucket, models_dir, rows=[*ROWS, long_row], total_steps=20, sequence_length=64)
    assert run_here(job.settings(), tmp_path) is Exit.DONE
    (finished,) = told(tmp_path, "AttemptFinished")
    assert finished["succeeded"] is True
    assert finished["eval_loss_after"] < finished["eval_loss_before"]
    assert int(finished["tokens"]) > 0
    assert int(finished["peak_memory_bytes"]) > 10_000_000
    artifacts.verify(bucket, finished["artifact_uri"], job.id)
    card = job.artifact(1, "README.md").decode()
    assert "- 1 rows were cut to 64 tokens." in card
    assert job.spec.dataset.sha256 in card
    assert "attempt 1: began at step 0" in card
    lines = job.artifact(1, "training_curve.jsonl").splitlines()
    assert [json.loads(line)["loss"] for line in lines] == curve(tmp_path)
    assert json.loads(job.artifact(1, "adapter_config.json"))["base_model_name_or_path"] == "tiny"
    # Retention keeps three; the last step is always among them.
    assert len(job.manifests()) <= 3
    assert "attempt-00001/checkpoint-20" in job.manifests()


def test_peft_itself_loads_result_and_checkpoint(
    bucket: Objects, models_dir: Path, run_here: Callable[..., Exit], tmp_path: Path
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    job = Job(bucket, models_dir, total_steps=4)
    assert run_here(job.settings(), tmp_path) is Exit.DONE
    (finished,) = told(tmp_path, "AttemptFinished")
    (committed,) = told(tmp_path, "CheckpointCommitted")
    for uri in (finished["artifact_uri"], committed["uri"]):
        folder = tmp_path / "loaded"
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            bucket.download(f"{bucket.key(uri)}/{name}", folder / name)
        base = AutoModelForCausalLM.from_pretrained(models_dir / "tiny", local_files_only=True)
        tuned = PeftModel.from_pretrained(base, folder)
        learnt = [it for name, it in tuned.named_parameters() if "lora_B" in name]
        assert len(learnt) == 4 * 7  # seven linear layers in each of four blocks
        assert all(it.abs().sum() > 0 for it in learnt)


def test_an_attempt_that_only_has_to_publish_does_so(
    bucket: Objects,
    models_dir: Path,
    run_here: Callable[..., Exit],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The broker is away, so the result cannot be told; the next attempt begins at the final checkpoint, and waits for
    an object store that is away at whatever is asked of it first."""
    job = Job(bucket, models_dir, total_steps=5)
    assert run_here(job.settings(1, kafka_bootstrap=NOBODY_LISTENS), tmp_path / "1") is Exit.UNAVAILABLE
    assert len(curve(tmp_path / "1")) == 5
    monkeypatch.setattr(patience, "RETRY_SECONDS", 0.05)
    asked = ("objects.list", "objects.get_bytes", "objects.fetch", "objects.download", "objects.put_bytes")
    with faults.armed(Armed({point: Fault(Action.RAISE) for point in asked})) as away:
        assert run_here(job.settings(2, unavailable_seconds=60), tmp_path / "2") is Exit.DONE
    assert all(fault.crossings > 1 for fault in away.faults.values()), away.faults
    assert told(tmp_path / "2", "AttemptFinished")[0]["steps"] == 5
    assert job.artifact(2, "adapter_model.safetensors") == job.artifact(1, "adapter_model.safetensors")


class ComesAfter(Interruption):
    """Something from outside after so many questions."""

    def __init__(self, questions: int, act: Callable[[], None] | None = None) -> None:
        super().__init__()
        self._left = questions
        self._act = act or self._noticed.set

    def check(self) -> None:
        self._left -= 1
        if self._left == 0:
            self._act()
        super().check()


@pytest.mark.parametrize(("questions", "steps"), [(1, 0), (4, 0), (7, 0), (9, 1), (10, 2)])
def test_a_notice_at_any_time_is_answered(
    bucket: Objects, models_dir: Path, run_here: Callable[..., Exit], tmp_path: Path, questions: int, steps: int
) -> None:
    """While loading (3 questions) or evaluating (2), before a step, or in the middle of one (2 each)."""
    job = Job(bucket, models_dir)
    assert run_here(job.settings(), tmp_path, ComesAfter(questions)) is Exit.DRAINED
    (drained,) = told(tmp_path, "AttemptDrained")
    assert drained.get("step", 0) == len(curve(tmp_path)) == steps
    commits = [(it["step"], it["cause"]) for it in told(tmp_path, "CheckpointCommitted")]
    assert commits == ([(steps, "notice")] if steps else [])


def test_a_fenced_attempt_stops_and_says_nothing_more(
    bucket: Objects, models_dir: Path, run_here: Callable[..., Exit], tmp_path: Path
) -> None:
    job = Job(bucket, models_dir)
    fence = json.dumps({"attempt": 2, "resumed_from": None}).encode()
    newer = ComesAfter(12, lambda: bucket.put_bytes(f"{job.prefix}/fences/00002.json", fence))
    assert run_here(job.settings(1), tmp_path, newer) is Exit.FENCED
    assert job.manifests() == []
    assert told(tmp_path, "CheckpointCommitted") == []
    assert told(tmp_path, "AttemptFinished") == []


@pytest.mark.parametrize(
    ("rows", "plan", "reason", "detail"),
    [
        (None, {"learning_rate": 1e30}, "nan-loss", "rows "),
        ([], {}, "dataset", "0 usable rows"),
        ([{"messages": "hello"}], {}, "dataset", "row 1: messages"),
    ],
)
def test_failures_name_what_was_wrong(
    bucket: Objects,
    models_dir: Path,
    run_here: Callable[..., Exit],
    tmp_path: Path,
    rows: list[dict[str, str]] | None,
    plan: dict[str, float],
    reason: str,
    detail: str,
) -> None:
    job = Job(bucket, models_dir, rows=rows, **plan)
    assert run_here(job.settings(), tmp_path) is Exit.USER_ERROR
    (finished,) = told(tmp_path, "AttemptFinished")
    assert finished.get("succeeded", False) is False
    assert finished["reason"] == reason
    assert detail in finished["detail"]
    assert bucket.list(f"{job.prefix}/artifact/") == []


@pytest.mark.parametrize(
    ("change", "reason", "detail"),
    [
        (lambda spec: setattr(spec.dataset, "sha256", "0" * 64), "dataset", "is not what was validated"),
        (lambda spec: setattr(spec.dataset, "uri", "s3://other/x"), "user-error", "dataset.uri"),
        (lambda spec: setattr(spec.dataset, "uri", spec.dataset.uri + "x"), "dataset", "there is nothing at"),
        (lambda spec: setattr(spec.model, "uri", "builtin://../tiny"), "user-error", "is not installed"),
        (lambda spec: setattr(spec.model, "uri", "builtin://huge"), "user-error", "is not installed"),
        (lambda spec: setattr(spec.model, "uri", spec.dataset.uri), "user-error", "no config.json"),
    ],
)
def test_wrong_inputs_are_the_users_to_mend(
    bucket: Objects,
    models_dir: Path,
    run_here: Callable[..., Exit],
    tmp_path: Path,
    change: Callable[[events.JobSpec], None],
    reason: str,
    detail: str,
) -> None:
    job = Job(bucket, models_dir)
    change(job.spec)
    assert run_here(job.settings(), tmp_path) is Exit.USER_ERROR
    (finished,) = told(tmp_path, "AttemptFinished")
    assert (finished["reason"], detail in finished["detail"]) == (reason, True), finished["detail"]


def test_running_out_of_memory_is_told_as_such(
    bucket: Objects, models_dir: Path, run_here: Callable[..., Exit], tmp_path: Path
) -> None:
    def exhaust() -> None:
        raise MemoryError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes")

    alone = Job(bucket, models_dir, micro_batch_size=1)
    assert run_here(alone.settings(), tmp_path / "alone", ComesAfter(12, exhaust)) is Exit.OUT_OF_MEMORY
    assert told(tmp_path / "alone", "AttemptFinished")[0]["reason"] == "out-of-memory"

    halved = Job(bucket, models_dir)
    assert run_here(halved.settings(), tmp_path / "halved", ComesAfter(12, exhaust)) is Exit.DONE, "with half of it"


def test_a_model_of_the_tenants_own_comes_from_the_object_store(
    bucket: Objects, models_dir: Path, run_here: Callable[..., Exit], tmp_path: Path
) -> None:
    job = Job(bucket, models_dir, total_steps=2)
    for path in (models_dir / "tiny").iterdir():
        bucket.put_file(f"models/{job.id}/{path.name}", path)
    bucket.put_bytes(f"models/{job.id}/modeling_evil.py", b"raise SystemExit('code of the model ran')")
    job.spec.model.uri = bucket.uri(f"models/{job.id}")
    assert run_here(job.settings(), tmp_path) is Exit.DONE
    assert not (tmp_path / "model" / "modeling_evil.py").exists()


def test_the_broker_hears_each_fact_once_and_in_order(
    kafka: str, bucket: Objects, models_dir: Path, run_here: Callable[..., Exit], tmp_path: Path
) -> None:
    job = Job(bucket, models_dir)
    # Real time to reach the broker; it is not away.
    assert run_here(job.settings(kafka_bootstrap=kafka, unavailable_seconds=30), tmp_path) is Exit.DONE
    topic = contract.topic_of(events.AttemptProgressed)
    mine = [envelope for envelope in asyncio.run(heard(kafka, topic)) if envelope.key == job.id]
    assert len({envelope.id for envelope in mine}) == len(mine)
    *commits, finished = [it.message for it in mine if not isinstance(it.message, events.AttemptProgressed)]
    assert isinstance(finished, events.AttemptFinished)
    assert [it.step for it in commits] == sorted({it["step"] for it in told(tmp_path, "CheckpointCommitted")})
    assert commits[-1].step == PLAN["total_steps"]
    beats = [it.message for it in mine if isinstance(it.message, events.AttemptProgressed)]
    phases = list(dict.fromkeys(beat.phase for beat in beats))
    assert phases == ["starting", "evaluating", "training", "saving", "publishing"]
    assert beats[-1].step == PLAN["total_steps"]
    assert [beat.step for beat in beats] == sorted(beat.step for beat in beats)


def test_a_second_signal_ends_the_process_at_once() -> None:
    program = (
        "import os, signal, time; from services.trainer.interruption import Interruption; "
        "it = Interruption(); it.install(); os.kill(os.getpid(), signal.SIGTERM); assert it.noticed; "
        "os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)"
    )
    ended = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, timeout=30, check=False)
    assert ended.returncode == Exit.KILLED


def test_an_environment_that_is_not_a_pods_is_told_so() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "services.trainer.pod"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert ended.returncode == Exit.MISCONFIGURED
    assert "job_id" in ended.stderr


PREFERENCES = [
    {"prompt": f"Where is order {number}?", "chosen": f" Order {number} is on its way.", "rejected": " No idea."}
    for number in range(40)
]
LABELLED = [
    {"text": f"I want order {number} {word}", "label": word} for number in range(20) for word in ("back", "soon")
]


@pytest.mark.parametrize("kind", ["preference", "classification", "full", "scratch", "dora", "packed"])
def test_every_kind_of_training_learns_and_leaves_a_result(
    kind: str, bucket: Objects, models_dir: Path, run_here: Callable[..., Exit], tmp_path: Path
) -> None:
    rows = {"preference": PREFERENCES, "classification": LABELLED}.get(kind)
    rate = 1e-3 if kind in ("full", "scratch") else 5e-3
    job = Job(bucket, models_dir, rows, total_steps=12, checkpoint_interval_steps=6, learning_rate=rate)
    if rows:
        job.spec.dataset.format = kind
    if kind == "classification":
        job.spec.dataset.labels[:] = ["back", "soon"]
    if kind in ("full", "scratch"):
        job.spec.model.method = kind
    job.spec.model.dora = kind == "dora"
    if kind == "packed":
        job.spec.hyperparameters.packing = True
        job.spec.hyperparameters.max_steps = 12
    assert run_here(job.settings(), tmp_path) is Exit.DONE, (tmp_path / "events.jsonl").read_text()
    losses = curve(tmp_path)
    assert len(losses) == 12
    assert sum(losses[-4:]) < sum(losses[:4])
    (finished,) = told(tmp_path, "AttemptFinished")
    assert finished["eval_loss_after"] < finished["eval_loss_before"]
    weights = "model.safetensors" if kind in ("full", "scratch") else "adapter_model.safetensors"
    assert job.artifact(1, weights)
    card = job.artifact(1, "README.md").decode()
    assert ("sequences hold the training rows" in card) == (kind == "packed")
    assert ("| accuracy on the held-out rows |" in card) == (kind == "classification")


def test_an_attempt_fetches_before_torch_is_imported() -> None:
    """Downloads and the taking over run beside the seconds that the libraries take to load."""
    program = (
        "import sys, services.trainer.pod, services.trainer.attempt; print({'torch', 'transformers'} & {*sys.modules})"
    )
    told = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "set()"
