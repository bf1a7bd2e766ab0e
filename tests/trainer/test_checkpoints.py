"""Checkpoints on a real object store: whole or not at all, fenced, pruned; and the saver beside the training."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch

from services.trainer.checkpoints import Checkpoints, Stored
from services.trainer.domain import FencedError, Point
from services.trainer.saving import Save, Saver, Snapshot
from sskai.contract import new_id
from sskai.objects import PART_BYTES, ObjectInfo, Objects, ObjectsUnavailableError
from tests.trainer import kills

Open = Callable[..., Checkpoints]


@pytest.fixture
def job(objects: Objects, tmp_path: Path) -> Callable[[int], Checkpoints]:
    """`job(2)`: the checkpoints of one job as attempt 2 sees them."""
    job_id = new_id("job")

    def open_as(attempt: int, bucket: Objects = objects, gang: str = "") -> Checkpoints:
        return Checkpoints(bucket, f"jobs/{job_id}", job_id, attempt, gang=gang)

    return open_as


def files(folder: Path, text: str) -> dict[str, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "state.json").write_text(text)
    (folder / "weights.safetensors").write_bytes(b"w" * 100)
    return {path.name: path for path in folder.iterdir()}


def begin(checkpoints: Checkpoints, tmp_path: Path) -> Point | None:
    restored = checkpoints.take_over(tmp_path / new_id("restored"))
    return restored.point if restored else None


def commit(checkpoints: Checkpoints, step: int, tmp_path: Path) -> str:
    return checkpoints.commit(step, files(tmp_path / f"step-{step}", f'"{step}"'), {}).uri


def test_the_next_attempt_gets_the_newest_checkpoint_back(job: Open, tmp_path: Path) -> None:
    first, second = job(1), job(2)
    assert begin(first, tmp_path) is None
    commit(first, 10, tmp_path)
    stored = first.commit(20, files(tmp_path / "20", '"twenty"'), {"torch": "2"})
    assert stored.uri.endswith("/checkpoints/attempt-00001/checkpoint-20")
    assert stored.bytes == 108
    restored = second.take_over(tmp_path / "restored")
    assert restored is not None
    assert restored.point == Point(1, 20)
    assert (restored.folder / "state.json").read_text() == '"twenty"'
    assert second.resumed_step == 20


@pytest.mark.parametrize("tear", ["a file is cut", "a file is changed", "a file is gone", "the manifest is cut"])
def test_a_torn_checkpoint_is_passed_over(job: Open, objects: Objects, tmp_path: Path, tear: str) -> None:
    first = job(1)
    begin(first, tmp_path)
    commit(first, 10, tmp_path)
    prefix = objects.key(commit(first, 20, tmp_path))
    if tear == "a file is cut":
        objects.put_bytes(f"{prefix}/weights.safetensors", b"w" * 99)
    elif tear == "a file is changed":
        objects.put_bytes(f"{prefix}/weights.safetensors", b"v" * 100)
    elif tear == "a file is gone":
        objects.delete(f"{prefix}/weights.safetensors")
    else:
        objects.put_bytes(f"{prefix}/MANIFEST.json", objects.get_bytes(f"{prefix}/MANIFEST.json")[:-5])
    assert begin(job(2), tmp_path) == Point(1, 10)


class Forgetful:
    """Acknowledges everything, and lists nothing that has this in its name: SeaweedFS after its disk was full."""

    def __init__(self, objects: Objects, forgets: str) -> None:
        self._objects = objects
        self.forgets = forgets
        self.written_again = 0

    def put_bytes(self, key: str, data: bytes, *, if_absent: bool = False) -> str:
        self.written_again += self.forgets in key and not if_absent
        return self._objects.put_bytes(key, data, if_absent=if_absent)

    def __getattr__(self, name: str) -> object:
        return getattr(self._objects, name)

    def list(self, prefix: str) -> list[ObjectInfo]:
        return [info for info in self._objects.list(prefix) if self.forgets not in info.key]


def test_what_no_list_has_is_not_committed(job: Open, objects: Objects, tmp_path: Path) -> None:
    first = job(1, Forgetful(objects, "checkpoint-20"))
    begin(first, tmp_path)
    commit(first, 10, tmp_path)
    with pytest.raises(ObjectsUnavailableError, match="no list has it"):
        commit(first, 20, tmp_path)
    assert first.line == [Point(1, 10)]


def test_a_result_that_no_list_has_is_not_published(job: Open, objects: Objects, tmp_path: Path) -> None:
    """Its folder would be neither shared, exported nor deleted whole. It is uploaded again, which is what the store
    needs."""
    store = Forgetful(objects, "artifact/attempt-00001/")
    first = job(1, store)
    begin(first, tmp_path)
    files(tmp_path / "result", "{}")
    with pytest.raises(ObjectsUnavailableError, match=r"MANIFEST.json, state.json, .* no list has it"):
        first.publish(20, tmp_path / "result", {})
    store.forgets = "weights.safetensors"
    with pytest.raises(ObjectsUnavailableError, match=r"^weights.safetensors of "):
        first.publish(20, tmp_path / "result", {})
    store.forgets = "nothing"
    assert first.publish(20, tmp_path / "result", {}).uri.endswith("/artifact/attempt-00001")


def test_a_fence_that_no_list_has_stops_its_own_attempt(job: Open, objects: Objects, tmp_path: Path) -> None:
    """Nobody else would be stopped by it. It is written again, which is what such a store needs."""
    store = Forgetful(objects, "00002.json")
    second = job(2, store)
    with pytest.raises(ObjectsUnavailableError, match="no list has it"):
        begin(second, tmp_path)
    assert store.written_again == 1
    store.forgets = "nothing"
    assert begin(second, tmp_path) is None
    with pytest.raises(FencedError):
        begin(job(1), tmp_path)


def test_files_without_a_manifest_are_no_checkpoint(job: Open, objects: Objects, tmp_path: Path) -> None:
    first = job(1)
    begin(first, tmp_path)
    prefix = objects.key(commit(first, 10, tmp_path))
    objects.delete(f"{prefix}/MANIFEST.json")
    assert begin(job(2), tmp_path) is None


def test_a_manifest_is_written_after_the_last_file(
    job: Open, objects: Objects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = job(1)
    begin(first, tmp_path)
    stored = objects.put_file

    def breaks_off(key: str, path: Path) -> None:
        if path.suffix == ".safetensors":
            raise ObjectsUnavailableError("the store is away")
        stored(key, path)

    monkeypatch.setattr(objects, "put_file", breaks_off)
    with pytest.raises(ObjectsUnavailableError):
        commit(first, 10, tmp_path)
    (left,) = objects.list(f"{first.prefix}/checkpoints/")
    assert left.key.endswith("/state.json")


def test_a_fenced_attempt_writes_nothing_more(job: Open, objects: Objects, tmp_path: Path) -> None:
    first, second = job(1), job(2)
    begin(first, tmp_path)
    commit(first, 10, tmp_path)
    begin(second, tmp_path)
    for write in (
        lambda: commit(first, 20, tmp_path),
        lambda: first.publish(20, tmp_path / "step-10", {}),
        lambda: first.prune(1),
        first.check_fence,
    ):
        with pytest.raises(FencedError, match="attempt 2"):
            write()
    assert begin(job(3), tmp_path) == Point(1, 10)


def test_what_a_zombie_wrote_in_the_gap_is_never_read(job: Open, tmp_path: Path) -> None:
    """Its check of the fence came before the newer attempt's fence, its manifest after."""
    first, second = job(1), job(2)
    begin(first, tmp_path)
    commit(first, 10, tmp_path)
    begin(second, tmp_path)
    first.check_fence = lambda: None
    commit(first, 20, tmp_path)
    assert begin(job(3), tmp_path) == Point(1, 10)


def test_an_older_or_equal_attempt_cannot_begin_any_more(job: Open, tmp_path: Path) -> None:
    begin(job(2), tmp_path)
    for attempt in (1, 2):
        with pytest.raises(FencedError):
            begin(job(attempt), tmp_path)


def test_a_repeated_write_of_the_same_step_is_the_same_checkpoint(job: Open, tmp_path: Path) -> None:
    first = job(1)
    begin(first, tmp_path)
    assert commit(first, 10, tmp_path) == commit(first, 10, tmp_path)


def test_retention_deletes_the_oldest_of_the_lineage(job: Open, objects: Objects, tmp_path: Path) -> None:
    first, second = job(1), job(2)
    begin(first, tmp_path)
    uri = commit(first, 10, tmp_path)
    commit(first, 20, tmp_path)
    begin(second, tmp_path)
    commit(second, 30, tmp_path)
    second.prune(2)
    assert objects.list(objects.key(uri)) == []
    assert begin(job(3), tmp_path) == Point(2, 30)


def test_a_large_file_comes_back_in_parts(job: Open, tmp_path: Path) -> None:
    data = random.Random(0).randbytes(5 * PART_BYTES // 2)
    (tmp_path / "large.safetensors").write_bytes(data)
    first = job(1)
    begin(first, tmp_path)
    first.commit(10, {"large.safetensors": tmp_path / "large.safetensors"}, {})
    restored = job(2).take_over(tmp_path / "restored")
    assert restored is not None
    assert (restored.folder / "large.safetensors").read_bytes() == data


def test_a_large_file_that_was_cut_at_a_part_is_passed_over(job: Open, objects: Objects, tmp_path: Path) -> None:
    path = tmp_path / "large.safetensors"
    path.write_bytes(bytes(2 * PART_BYTES))
    first = job(1)
    begin(first, tmp_path)
    stored = first.commit(10, {path.name: path}, {})
    objects.put_bytes(f"{objects.key(stored.uri)}/{path.name}", bytes(PART_BYTES))
    assert begin(job(2), tmp_path) is None


def test_every_live_attempt_is_told_that_it_is_fenced(job: Open, objects: Objects, tmp_path: Path) -> None:
    """By one read of its own key, whoever else began in between."""
    first, second, third = job(1), job(2), job(3)
    begin(first, tmp_path)
    first.check_told()
    begin(second, tmp_path)
    begin(third, tmp_path)
    for fenced in (first, second):
        with pytest.raises(FencedError):
            fenced.check_told()
    third.check_told()
    assert len([info for info in objects.list(third.prefix) if info.key.endswith(".over")]) == 2


class Away:
    """An object store that is away while `gone` is set."""

    def __init__(self, inner: Checkpoints) -> None:
        self.gone = threading.Event()
        self.tried = threading.Event()
        self._inner = inner

    def commit(self, step: int, files: Mapping[str, Path], versions: Mapping[str, str]) -> Stored:
        self.tried.set()
        if self.gone.is_set():
            raise ObjectsUnavailableError("gone")
        return self._inner.commit(step, files, versions)

    def prune(self, keep: int) -> None:
        self._inner.prune(keep)


def snapshot(step: int) -> Snapshot:
    return Snapshot(step, {"weights.safetensors": {"w": torch.full((3,), step)}}, {"state.json": str(step).encode()})


def test_saves_go_on_beside_the_training_and_a_notice_passes_a_stuck_one(job: Open, tmp_path: Path) -> None:
    checkpoints = job(1)
    begin(checkpoints, tmp_path)
    store, saves = Away(checkpoints), list[Save]()
    saver = Saver(store, 3, {}, saves.append)
    store.gone.set()
    saver.begin(lambda: snapshot(10), "interval")
    assert store.tried.wait(5)
    assert saver.busy
    assert saver.saved_step == -1
    store.gone.clear()
    saver.now(lambda: snapshot(12), 12, "notice")
    saver.now(lambda: pytest.fail("saved twice"), 12, "final")
    assert [(save.step, save.cause) for save in saves] == [(12, "notice")]
    assert saves[0].save_seconds > 0
    assert saves[0].stall_seconds >= saves[0].save_seconds
    saver.close()


def test_a_save_that_finds_the_fence_ends_the_run(job: Open, tmp_path: Path) -> None:
    first = job(1)
    begin(first, tmp_path)
    saver = Saver(first, 3, {}, lambda _save: pytest.fail("told a fenced checkpoint"))
    begin(job(2), tmp_path)
    with pytest.raises(FencedError):
        saver.now(lambda: snapshot(10), 10, "notice")
    saver.close()


@pytest.mark.timeout(300)  # processes that import torch, on a machine that may be busy
def test_kill_9_inside_a_save_leaves_a_whole_checkpoint_and_costs_one_interval_at_most(objects: Objects) -> None:
    """The thousand of them are a benchmark: `make bench NAME=trainer ARGS=kills`."""
    found = kills.inside_saves(objects, new_id("job"), 10, megabytes=16)
    assert (found.kills, found.partial) == (10, 0)
    assert found.most_lost <= 1
    assert found.inside_a_save > 0


def test_a_gangs_next_group_takes_over_from_its_last_and_fences_it(job: Open, tmp_path: Path) -> None:
    begin(job(1), tmp_path)
    before, after = job(2, gang="ours"), job(2, gang="ours")
    begin(before, tmp_path)
    commit(before, 10, tmp_path)
    assert begin(after, tmp_path) == Point(2, 10)
    with pytest.raises(FencedError, match="another group of workers"):
        before.check_fence()
    with pytest.raises(FencedError):
        commit(before, 20, tmp_path)
    commit(after, 20, tmp_path)
    assert begin(job(3), tmp_path) == Point(2, 20)


@pytest.mark.parametrize("gang", ["", "theirs"])
def test_another_gang_of_the_same_attempt_is_refused(job: Open, tmp_path: Path, gang: str) -> None:
    begin(job(1, gang="ours"), tmp_path)
    with pytest.raises(FencedError, match="began once before"):
        begin(job(1, gang=gang), tmp_path)


def test_a_gangs_torn_checkpoint_is_saved_again_with_other_bits(job: Open, objects: Objects, tmp_path: Path) -> None:
    """Fewer workers round sums differently."""
    before, after = job(1, gang="ours"), job(1, gang="ours")
    begin(before, tmp_path)
    commit(before, 10, tmp_path)
    prefix = objects.key(commit(before, 20, tmp_path))
    objects.put_bytes(f"{prefix}/weights.safetensors", b"w" * 99)
    assert begin(after, tmp_path) == Point(1, 10)
    after.commit(20, files(tmp_path / "again", '"other"'), {})
    assert begin(job(2), tmp_path) == Point(1, 20)


def test_a_manifest_names_what_other_workers_stored(job: Open, tmp_path: Path) -> None:
    first, other = job(1, gang="ours"), job(1, gang="ours")
    begin(first, tmp_path)
    part = tmp_path / "model-shard-00001-of-00002.safetensors"
    part.write_bytes(b"o" * 50)
    stored = first.commit(10, files(tmp_path / "10", "{}"), {}, lambda: other.upload(10, {part.name: part}))
    assert stored.bytes == 152
    restored = job(2).take_over(tmp_path / "restored")
    assert restored is not None
    assert (restored.folder / "model-shard-00001-of-00002.safetensors").read_bytes() == b"o" * 50
