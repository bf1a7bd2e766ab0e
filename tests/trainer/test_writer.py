"""The process that writes checkpoints, and the shared memory between it and training: real ones, and their deaths."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from services.trainer.checkpoints import Checkpoints
from services.trainer.domain import FencedError, Point
from services.trainer.saving import Save, Saver, Snapshot
from services.trainer.sharedfiles import METADATA, SharedFiles
from services.trainer.writer import Writer, WriterClosedError, WriterLostError
from sskai.contract import new_id
from sskai.objects import Objects

TENSORS = {
    "half.weight": torch.randn(3, 5).to(torch.bfloat16),
    "float16": torch.randn(7).to(torch.float16),
    "float32": torch.randn(2, 3, 4).transpose(0, 2),
    "int64": torch.arange(9),
    "bytes": torch.arange(11, dtype=torch.uint8),
    "scalar": torch.tensor(3.0),
    "none": torch.empty(0, 4),
    "truth": torch.tensor([True, False]),
}


@pytest.fixture
def checkpoints(objects: Objects, tmp_path: Path) -> Checkpoints:
    job_id = new_id("job")
    first = Checkpoints(objects, f"jobs/{job_id}", job_id, 1)
    first.take_over(tmp_path / "nothing")
    return first


@pytest.fixture
def writer(objects: Objects, checkpoints: Checkpoints) -> Iterator[Writer]:
    one = Writer(objects.access, checkpoints)
    yield one
    one.close()


@pytest.fixture
def shared() -> Iterator[SharedFiles]:
    files = SharedFiles()
    yield files
    files.close()


def next_attempt(checkpoints: Checkpoints, objects: Objects) -> Checkpoints:
    return Checkpoints(objects, checkpoints.prefix, checkpoints.job_id, checkpoints.attempt + 1)


def test_shared_memory_holds_what_the_safetensors_library_would_write(shared: SharedFiles, tmp_path: Path) -> None:
    shared.fill({"a.safetensors": TENSORS}, {"state.json": b"{}"})
    path = tmp_path / "copy.safetensors"
    path.write_bytes(shared.paths["a.safetensors"].read_bytes())
    read = load_file(path)
    assert read.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor)
    save_file({name: tensor.contiguous() for name, tensor in TENSORS.items()}, tmp_path / "theirs", METADATA)
    assert path.stat().st_size == (tmp_path / "theirs").stat().st_size
    assert shared.paths["state.json"].read_bytes() == b"{}"


def test_memory_is_used_again_while_it_fits_and_replaced_when_it_does_not(shared: SharedFiles) -> None:
    def fill(value: float, length: int, text: bytes) -> int:
        shared.fill({"a": {"w": torch.full((length,), value)}}, {"b": text})
        assert shared.paths["b"].read_bytes() == text
        assert shared.paths["a"].read_bytes()[-4 * length :] == torch.full((length,), value).numpy().tobytes()
        return os.stat(shared.paths["a"]).st_ino

    shared.fit({"a": {"w": torch.empty(1000)}}, touch=True)
    touched = os.stat(shared.paths["a"]).st_ino
    assert fill(1.0, 1000, b"long text") == touched
    assert fill(2.0, 1000, b"short") == touched
    assert fill(3.0, 2000, b"a longer text") != touched
    shared.fill({}, {})
    assert shared.paths == {}


def test_a_checkpoint_comes_through_the_process_bit_for_bit(
    writer: Writer, checkpoints: Checkpoints, objects: Objects, tmp_path: Path
) -> None:
    saves: list[Save] = []
    saver = Saver(writer, 1, {"torch": "2"}, saves.append)
    live = {name: tensor.clone() for name, tensor in TENSORS.items()}
    saver.prepare(lambda: Snapshot(10, {"w.safetensors": live}, {}))
    for step in (10, 20):
        saver.begin(lambda: Snapshot(step, {"w.safetensors": live}, {"state.json": b"%d" % step}), "interval")  # noqa: B023
    live["int64"].zero_()  # training goes on at once
    saver.now(lambda: pytest.fail("it is saved"), 20, "final")
    assert [save.step for save in saves] == [10, 20]
    assert checkpoints.line == [Point(1, 20)], "retention kept one"
    restored = next_attempt(checkpoints, objects).take_over(tmp_path / "restored")
    assert restored is not None
    assert restored.point == Point(1, 20)
    assert (restored.folder / "state.json").read_text() == "20"
    assert torch.equal(load_file(restored.folder / "w.safetensors")["int64"], TENSORS["int64"])
    saver.close()


def test_a_writer_that_dies_is_replaced_and_its_save_made_again(writer: Writer, shared: SharedFiles) -> None:
    writer.start()
    died = writer.pid
    assert died is not None
    os.kill(died, signal.SIGKILL)
    shared.fill({"a.safetensors": TENSORS}, {})
    assert writer.commit(10, shared.paths, {}).uri.endswith("checkpoint-10")
    assert writer.pid != died


def test_a_writer_that_dies_every_time_is_reported(
    writer: Writer, shared: SharedFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(WriterLostError, match="3 times"):
        writer.commit(10, shared.paths, {})


def test_a_notice_to_the_whole_group_leaves_the_writer_at_work(writer: Writer, shared: SharedFiles) -> None:
    writer.start()
    pid = writer.pid
    assert pid is not None
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
        os.kill(pid, number)
    shared.fill({"a.safetensors": TENSORS}, {})
    writer.commit(10, shared.paths, {})
    assert writer.pid == pid


def test_the_writer_carries_fences_and_closing_over(
    writer: Writer, checkpoints: Checkpoints, shared: SharedFiles, objects: Objects, tmp_path: Path
) -> None:
    next_attempt(checkpoints, objects).take_over(tmp_path / "second")
    with pytest.raises(FencedError, match="attempt 2"):
        writer.commit(10, shared.paths, {})
    writer.close()
    with pytest.raises(WriterClosedError):
        writer.prune(1)


def test_the_writer_goes_with_its_trainer(objects: Objects, checkpoints: Checkpoints, tmp_path: Path) -> None:
    trainer = os.fork()
    if trainer == 0:
        theirs = Writer(objects.access, checkpoints)
        theirs.start()
        (tmp_path / "pid").write_text(str(theirs.pid))
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(trainer, 0)
    stat = Path(f"/proc/{(tmp_path / 'pid').read_text()}/stat")
    _until(lambda: not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z")


def test_the_writer_goes_with_a_trainer_that_did_not_read_its_last_answer(
    objects: Objects, checkpoints: Checkpoints
) -> None:
    """The kernel then tells it of a reset, not of an end."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        writer = subprocess.Popen(
            [sys.executable, "-m", "services.trainer.writer", str(theirs.fileno())], pass_fds=[theirs.fileno()]
        )
    ours.send(json.dumps({"access": asdict(objects.access), **checkpoints.identity()}).encode())
    ours.send(json.dumps({"do": "prune", "keep": 1, "line": []}).encode())
    ready, _, _ = select.select([ours], [], [], 20)
    assert ready, "it has answered"
    ours.close()
    assert writer.wait(20) == 0


def _until(condition: Callable[[], bool], limit_seconds: float = 20) -> None:
    deadline = time.monotonic() + limit_seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
