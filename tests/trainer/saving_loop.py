"""A process that takes over, saves in a loop and does nothing else, for kill -9 inside saves (kills.py).

Every tensor of a checkpoint is filled with its step, so a mixture of two is seen. It tells ("resumed", S), ("began", S)
and ("saved", S) over a pipe.
"""

from __future__ import annotations

import os
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from safetensors.torch import load_file

from services.trainer.checkpoints import Checkpoints
from services.trainer.saving import Saver, Snapshot
from services.trainer.writer import Writer
from sskai.objects import Access, Objects

FILES = ("adapter_model.safetensors", "optimizer.safetensors")
TENSORS = 4


def main(told: Connection, access: Access, job_id: str, attempt: int, megabytes: float) -> None:
    os.setsid()  # a group of its own, so that it and its writer can be killed at once
    bucket = Objects(access.url, access.bucket, access.access_key, access.secret_key)
    checkpoints = Checkpoints(bucket, f"jobs/{job_id}", job_id, attempt)
    with tempfile.TemporaryDirectory() as folder:
        restored = checkpoints.take_over(Path(folder))
        step = restored.point.step if restored else 0
        if restored:
            check(restored.folder, step)
    told.send(("resumed", step))
    length = int(megabytes * 2**20 / 4 / len(FILES) / TENSORS)
    state = {file: {f"t{number}": torch.zeros(length) for number in range(TENSORS)} for file in FILES}
    writer = Writer(bucket.access, checkpoints)
    writer.start()
    saver = Saver(writer, 3, {}, lambda save: told.send(("saved", save.step)))
    while True:
        step += 1
        for named in state.values():
            for tensor in named.values():
                tensor.fill_(step)
        told.send(("began", step))
        snapshot = Snapshot(step, state, {"state.json": str(step).encode()})
        saver.now(lambda: snapshot, step, "interval")  # noqa: B023


def check(folder: Path, step: int) -> None:
    """Raises RuntimeError unless everything is of this step."""
    values = {float(value) for file in FILES for one in load_file(folder / file).values() for value in one.unique()}
    if values != {float(step)} or (folder / "state.json").read_text() != str(step):
        raise RuntimeError(f"the checkpoint of step {step} holds {sorted(values)}")
