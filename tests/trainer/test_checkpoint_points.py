"""Checkpoints while the object store fails, lies or falls silent, or the process dies, at each request of a save, a
resume and a pruning: a resume never reads a partial one, and the next save succeeds."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from services.trainer.checkpoints import Checkpoints
from services.trainer.domain import Point
from services.trainer.manifests import MANIFEST, Manifest
from sskai.contract import new_id
from sskai.failpoints import Action, points
from sskai.objects import Objects, ObjectsUnavailableError
from tests.reliability.matrix import Crash
from tests.reliability.strikes import ENDS, SAYS_NO, each, struck

Open = Callable[[int], Checkpoints]
DONE = (Action.RAISE_AFTER, Action.KILL_AFTER)


@pytest.fixture
def job(objects: Objects) -> Open:
    """`job(2)`: the checkpoints of one job as attempt 2 sees them."""
    job_id = new_id("job")
    return lambda attempt: Checkpoints(objects, f"jobs/{job_id}", job_id, attempt)


def files(folder: Path, step: int) -> dict[str, Path]:
    """Two, of which each checkpoint's differ."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "state.json").write_text(f'"{step}"')
    (folder / "weights.safetensors").write_bytes(bytes([step]) * 100)
    return {path.name: path for path in folder.iterdir()}


def save(checkpoints: Checkpoints, step: int, tmp_path: Path) -> None:
    checkpoints.commit(step, files(tmp_path / f"step-{step}", step), {})


def resume(checkpoints: Checkpoints, tmp_path: Path) -> Point | None:
    """Where it goes on, once what was read is known to be what was saved there."""
    restored = checkpoints.take_over(tmp_path / new_id("restored"))
    if restored is None:
        return None
    step = restored.point.step
    found = {path.name: path.read_bytes() for path in restored.folder.iterdir()}
    assert found == {"state.json": f'"{step}"'.encode(), "weights.safetensors": bytes([step]) * 100}
    return restored.point


@pytest.mark.parametrize("action", each(*SAYS_NO, *ENDS, Action.SKIP))
@pytest.mark.parametrize(("point", "nth"), [("objects.put_file", 1), ("objects.put_file", 2), ("objects.put_bytes", 1)])
def test_a_commit_is_whole_or_not_there(job: Open, tmp_path: Path, point: str, nth: int, action: Action) -> None:
    first, second = job(1), job(2)
    if action not in points()[point]:  # what answers something cannot only say that it was done
        return
    resume(first, tmp_path)
    save(first, 10, tmp_path)
    with struck(point, action, nth), suppress(ObjectsUnavailableError, Crash):
        save(first, 20, tmp_path)
        assert action is Action.SKIP, "who was not told that it stands must not believe so"
    if action in SAYS_NO:
        save(first, 20, tmp_path)  # the same attempt tries again
    stands = action in SAYS_NO or (point == "objects.put_bytes" and action in DONE)
    assert resume(second, tmp_path) == (Point(1, 20) if stands else Point(1, 10))
    save(second, 20, tmp_path)
    save(second, 30, tmp_path)
    assert resume(job(3), tmp_path) == Point(2, 30)


RESUME = [("objects.fetch", nth) for nth in (1, 2)] + [("objects.put_bytes", nth) for nth in (1, 2)]


@pytest.mark.parametrize("action", each(*SAYS_NO, *ENDS))
@pytest.mark.parametrize(("point", "nth"), RESUME)  # of the fence, and of the word to the one before
def test_a_resume_reads_whole_or_raises(job: Open, tmp_path: Path, point: str, nth: int, action: Action) -> None:
    """A store that does not answer is no torn checkpoint: nothing of the lineage is given up for it."""
    first = job(1)
    resume(first, tmp_path)
    save(first, 10, tmp_path)
    save(first, 20, tmp_path)
    with struck(point, action, nth), pytest.raises((ObjectsUnavailableError, Crash)):
        resume(job(2), tmp_path)
    third = job(3)
    assert resume(third, tmp_path) == Point(1, 20)
    save(third, 30, tmp_path)
    assert resume(job(4), tmp_path) == Point(3, 30)


@pytest.mark.parametrize("action", each(*SAYS_NO, *ENDS))
@pytest.mark.parametrize("nth", [1, 2, 3, 4])  # of two checkpoints, the manifest and then the rest
def test_retention_leaves_what_is_needed(job: Open, objects: Objects, tmp_path: Path, nth: int, action: Action) -> None:
    first = job(1)
    resume(first, tmp_path)
    for step in (10, 20, 30):
        save(first, step, tmp_path)
    with struck("objects.delete", action, nth), pytest.raises((ObjectsUnavailableError, Crash)):
        first.prune(keep=1)
    keys = {info.key for info in objects.list(f"{first.prefix}/checkpoints/")}
    for key in (key for key in keys if key.endswith(MANIFEST)):
        named = Manifest.from_json(objects.get_bytes(key)).files
        assert {key.removesuffix(MANIFEST) + name for name in named} <= keys, "what has a manifest is whole"
    if action in SAYS_NO:
        first.prune(keep=1)  # with the next checkpoint
        kept = {info.key.split("/")[-2] for info in objects.list(f"{first.prefix}/checkpoints/")}
        assert kept == {"checkpoint-30"}
    assert resume(job(2), tmp_path) == Point(1, 30)
