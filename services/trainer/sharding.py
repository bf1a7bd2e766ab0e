"""A model in parts: FSDP2 over the workers, what each of them saves of it, and reading that by another number of them.

Every worker writes its rows of each tensor (FSDP2 splits the first dimension), as
`model-shard-00001-of-00002.safetensors`, and a layout that says where they belong. The first also writes what is whole
on every worker, and the texts.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
import torch.distributed as dist
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from services.trainer.checkpoints import Checkpoints, Stored
from services.trainer.manifests import FileEntry
from services.trainer.saving import Snapshot
from services.trainer.workers import Workers

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

Layout = dict[str, dict[str, dict[str, Any]]]  # file -> tensor -> {"file", "start", "shape"}

_LAYOUT = re.compile(r"layout-\d{5}\.json")
# The slowest worker's upload, after the first one's own.
OTHERS_SECONDS = 600.0


def shard(model: torch.nn.Module, device: torch.device, workers: Workers) -> None:
    """Each block of layers by itself, so that one is whole at a time, and the rest as one."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (workers.size,))
    blocks = [block for each in model.modules() if isinstance(each, torch.nn.ModuleList) for block in each]
    for module in [*blocks, model]:
        fully_shard(module, mesh=mesh)
    workers.sharded = True


def is_sharded(model: torch.nn.Module) -> bool:
    return any(_is_part(value) for value in model.parameters())


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """All of it, on every worker: they all have to ask."""
    return tensor.full_tensor() if _is_part(tensor) else tensor


def _is_part(tensor: torch.Tensor) -> TypeGuard[DTensor]:
    """Where nothing is split, the half second that its library takes to load is saved."""
    library = sys.modules.get("torch.distributed.tensor")
    return library is not None and isinstance(tensor, library.DTensor)


def part(snapshot: Snapshot, workers: Workers) -> Snapshot:
    """What this worker saves of a snapshot: its rows, and where they belong."""
    tensors: dict[str, dict[str, torch.Tensor]] = {}
    layout: Layout = {}
    for file, named in snapshot.tensors.items():
        own = f"{Path(file).stem}-shard-{workers.rank:05d}-of-{workers.size:05d}.safetensors"
        for name, value in named.items():
            if not _is_part(value):
                if workers.first:
                    tensors.setdefault(file, {})[name] = value
                continue
            start, stop = _rows(value)
            if stop > start:
                tensors.setdefault(own, {})[name] = value.to_local().contiguous()
                placed = {"file": own, "start": start, "shape": list(value.shape)}
                layout.setdefault(file, {})[name] = placed
    texts = dict(snapshot.texts) if workers.first else {}
    texts[f"layout-{workers.rank:05d}.json"] = json.dumps(layout).encode()
    return Snapshot(snapshot.step, tensors, texts)


class Saved:
    """A checkpoint on disk, whole or by any number of workers."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._parts: dict[tuple[str, str], list[tuple[int, str]]] = {}
        self._opened: dict[str, Any] = {}
        for path in sorted(folder.iterdir()):
            if _LAYOUT.fullmatch(path.name):
                for file, named in json.loads(path.read_text()).items():
                    for name, placed in named.items():
                        self._parts.setdefault((file, name), []).append((placed["start"], placed["file"]))

    def names(self, file: str) -> set[str]:
        found = {name for known, name in self._parts if known == file}
        if (self._folder / file).exists():
            found |= set(self._open(file).keys())
        return found

    def rows(self, file: str, name: str, start: int = 0, stop: int | None = None) -> torch.Tensor:
        """These rows alone are read."""
        parts = self._parts.get((file, name))
        if parts is None:
            alone = self._open(file).get_slice(name)
            rows: torch.Tensor = alone[start:stop] if alone.get_shape() else self._open(file).get_tensor(name)
            return rows
        pieces = []
        for begins, source in sorted(parts):
            piece = self._open(source).get_slice(name)
            ends = begins + piece.get_shape()[0]
            first, last = max(start, begins), ends if stop is None else min(stop, ends)
            if first < last:
                pieces.append(piece[first - begins : last - begins])
        return torch.cat(pieces)

    def join(self) -> None:
        """Write the whole files, as one worker reads them."""
        for file in sorted({file for file, _ in self._parts}):
            own = self._folder / file
            named = load_file(own) if own.exists() else {}
            named |= {name: self.rows(file, name) for known, name in self._parts if known == file}
            save_file(named, own, metadata={"format": "pt"})
        self._parts.clear()
        self._opened.clear()

    def _open(self, file: str) -> Any:
        if file not in self._opened:
            self._opened[file] = safe_open(self._folder / file, "pt")
        return self._opened[file]


def load(saved: Saved, tensors: Mapping[str, Mapping[str, torch.Tensor]]) -> None:
    """Fill the tensors, which are the model's own, of each file: of those in parts, this worker's rows."""
    with torch.no_grad():
        for file, named in tensors.items():
            for name, value in named.items():
                if _is_part(value):
                    start, stop = _rows(value)
                    if stop > start:
                        value.to_local().copy_(saved.rows(file, name, start, stop))
                else:
                    value.copy_(saved.rows(file, name))


def _rows(value: DTensor) -> tuple[int, int]:
    """Of the first dimension, which this worker holds."""
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

    shape, offset = compute_local_shape_and_global_offset(value.shape, value.device_mesh, value.placements)
    return (offset[0], offset[0] + shape[0]) if shape and shape[0] else (0, 0)


class ShardedCheckpoints:
    """`Checkpoints` of a model in parts: a checkpoint's manifest is written once every worker's files are stored."""

    def __init__(self, checkpoints: Checkpoints, workers: Workers) -> None:
        self._checkpoints = checkpoints
        self._rank, self._size = workers.rank, workers.size
        self._store: dist.TCPStore | None = None

    def commit(self, step: int, files: Mapping[str, Path], versions: Mapping[str, str]) -> Stored:
        """As `Checkpoints.commit`; of another worker than the first, only its own files are safe then."""
        if self._rank > 0:
            stored = self._checkpoints.upload(step, files)
            told = {name: [entry.bytes, entry.sha256] for name, entry in stored.items()}
            self._told().set(_key(step, self._rank), json.dumps(told))
            return Stored(f"step {step}", sum(entry.bytes for entry in stored.values()))
        return self._checkpoints.commit(step, files, versions, lambda: self._others(step))

    def prune(self, keep: int) -> None:
        if self._rank == 0:
            self._checkpoints.prune(keep)

    def _others(self, step: int) -> dict[str, FileEntry]:
        keys = [_key(step, rank) for rank in range(1, self._size)]
        self._told().wait(keys, timedelta(seconds=OTHERS_SECONDS))
        told = [json.loads(self._told().get(key)) for key in keys]
        return {name: FileEntry(*entry) for files in told for name, entry in files.items()}

    def _told(self) -> dist.TCPStore:
        """Of this group of workers, beside what torch keeps there; a connection of its own, because it waits."""
        if self._store is None:
            address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
            self._store = dist.TCPStore(address, port, is_master=False, wait_for_workers=False)
        return self._store


def _key(step: int, rank: int) -> str:
    return f"sskai/shards/{step}/{rank}"
