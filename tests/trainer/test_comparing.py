"""A new version and its champion on the same rows, by pods' own attempts on the tiny model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from services.trainer import artifacts
from services.trainer.comparison import Comparison
from services.trainer.domain import Exit
from sskai.events import v1 as events
from sskai.objects import Objects
from tests.trainer.pods import ROWS, Job
from tests.trainer.test_pod import LABELLED, PREFERENCES

pytestmark = [pytest.mark.usefixtures("torch_as_before"), pytest.mark.timeout(200)]

OTHERS = [
    {"messages": [row["messages"][0], {"role": "assistant", "content": f"It is at platform {number}, at noon."}]}
    for number, row in enumerate(ROWS)
]
Run = Callable[..., Exit]


class Trained:
    """One job after the other, each measured against the one before."""

    def __init__(self, bucket: Objects, models_dir: Path, run_here: Run, folder: Path) -> None:
        self._bucket, self._models_dir, self._run, self._folder = bucket, models_dir, run_here, folder
        self.version = 0

    def job(self, rows: list[dict[str, Any]] | None = None, champion: Job | None = None, **plan: Any) -> Job:
        made = Job(self._bucket, self._models_dir, rows, **({"total_steps": 12} | plan))
        made.spec.dataset.eval_fraction = 0.25
        if champion is not None:
            made.spec.champion.CopyFrom(
                events.Champion(
                    model_id="m-1",
                    version=self.version,
                    job_id=champion.id,
                    base_uri=champion.spec.model.uri,
                    artifact_uri=self._bucket.uri(f"{champion.prefix}/artifact/attempt-00001"),
                    method=champion.spec.model.method,
                )
            )
        return made

    def run(self, job: Job, **changes: Any) -> Comparison | None:
        self.version += 1
        folder = self._folder / job.id
        assert self._run(job.settings(**changes), folder) is Exit.DONE, (folder / "events.jsonl").read_text()
        artifacts.verify(self._bucket, self._bucket.uri(f"{job.prefix}/artifact/attempt-00001"), job.id)
        names = {info.key.rpartition("/")[2] for info in self._bucket.list(f"{job.prefix}/artifact/")}
        return Comparison.from_json(job.artifact(1, "evaluation.json")) if "evaluation.json" in names else None

    def card(self, job: Job) -> str:
        return job.artifact(1, "README.md").decode()


@pytest.fixture
def trained(bucket: Objects, models_dir: Path, run_here: Run, tmp_path: Path) -> Trained:
    return Trained(bucket, models_dir, run_here, tmp_path)


def test_each_version_is_measured_against_the_one_before(trained: Trained) -> None:
    first = trained.job(OTHERS)
    against_base = trained.run(first)
    assert against_base is not None
    assert (against_base.champion_version, against_base.left_out) == (0, 0)
    assert against_base.value < against_base.champion_value, "it has learnt something"

    better = trained.job(ROWS, first, total_steps=24)
    better.spec.model.rank = 8  # an adapter of another shape
    found = trained.run(better)
    assert found is not None
    assert (found.metric, found.champion_version, found.sample_size, found.left_out) == ("row_loss", 1, 10, 0)
    assert found.value + 1.96 * found.standard_error < found.champion_value
    assert "of version 1" in trained.card(better)

    worse = trained.job(ROWS, better, total_steps=1, learning_rate=1e-5)
    found = trained.run(worse)
    assert found is not None
    assert found.value - 1.96 * found.standard_error > found.champion_value


def test_the_champion_is_measured_as_it_measured_itself(trained: Trained) -> None:
    """Swapped in beside another adapter it gives the very losses that it gave when it was the new one."""
    first = trained.job()
    itself = trained.run(first)
    found = trained.run(trained.job(ROWS, first, total_steps=1))
    assert itself is not None
    assert found is not None
    assert found.champion_value == pytest.approx(itself.value, rel=1e-5)
    assert found.left_out == 0, "the same dataset and seed hold the same rows out"


def test_rows_that_the_champion_has_learnt_are_left_out(trained: Trained) -> None:
    first = trained.job(ROWS + OTHERS[:20])
    trained.run(first)
    learnt = set(first.artifact(1, "trained_rows.txt").decode().split())
    assert len(learnt) == 45
    second = trained.job(OTHERS, first)
    found = trained.run(second)
    assert found is not None
    assert found.left_out
    assert found.sample_size + found.left_out == 10
    assert f"{found.left_out} held-out rows were left out" in trained.card(second)


@pytest.mark.parametrize("kind", ["classification", "preference", "full"])
def test_other_kinds(trained: Trained, kind: str) -> None:
    rows = {"classification": LABELLED, "preference": PREFERENCES}.get(kind)

    def job(champion: Job | None = None, **plan: Any) -> Job:
        made = trained.job(rows, champion, **plan)
        if rows:
            made.spec.dataset.format = kind
            made.spec.dataset.labels[:] = ["back", "soon"] if kind == "classification" else []
        else:
            made.spec.model.method = "full"
        return made

    first = job(total_steps=1, learning_rate=1e-5)
    alone = trained.run(first)
    assert (alone is not None) == (kind == "full")
    if alone is None:
        assert "Not compared with the base" in trained.card(first)
    found = trained.run(job(first, total_steps=20, learning_rate=1e-3 if kind == "full" else 5e-3))
    assert found is not None
    metric = {"classification": "accuracy", "preference": "preference_accuracy", "full": "row_loss"}[kind]
    assert (found.metric, found.champion_version) == (metric, 1)
    assert (found.value < found.champion_value) == (kind == "full")


LONGER = [pytest.param(why, marks=pytest.mark.heavy) for why in ("torn", "no adapter")]


@pytest.mark.parametrize("why", ["base", "task", "gone", *LONGER])
def test_a_champion_that_cannot_be_compared_costs_nobody_the_job(trained: Trained, bucket: Objects, why: str) -> None:
    first = trained.job(total_steps=2)
    trained.run(first)
    second = trained.job(LABELLED if why == "task" else ROWS, first, total_steps=2)
    folder = f"{first.prefix}/artifact/attempt-00001"
    if why == "base":
        second.spec.champion.base_uri = "builtin://another"
    elif why == "task":
        second.spec.dataset.format = "classification"
        second.spec.dataset.labels[:] = ["back", "soon"]
    elif why == "torn":
        bucket.put_bytes(f"{folder}/adapter_model.safetensors", b"short")
    elif why == "gone":
        bucket.delete(f"{folder}/")
    else:
        second.spec.model.method = "full"
    assert trained.run(second) is None
    words = {"base": "another base", "task": "another task", "torn": "has 5 bytes", "gone": "cannot be used"}
    card = trained.card(second)
    assert "Not compared with version 1: " in card
    assert words.get(why, "of kind 'adapter'") in card


@pytest.mark.heavy
def test_no_more_time_and_rows_are_taken_than_allowed(trained: Trained) -> None:
    found = trained.run(trained.job(), trainer_compare_rows=6)
    assert found is not None
    assert found.sample_size == 6
    late = trained.job()
    assert trained.run(late, trainer_compare_seconds=1e-9) is None
    assert "only 0 rows" in trained.card(late)
    off = trained.job()
    assert trained.run(off, trainer_compare_rows=0) is None
    assert "Against the champion" not in trained.card(off)
