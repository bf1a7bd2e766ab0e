"""A snapshot as files in shared memory: safetensors laid out once, filled again and again, readable by another process.

Each file is an unlinked memory file (memfd): it has no name in /dev/shm, so it is gone with the last process that holds
it, however that one ends. Its bytes are the safetensors format already, so whoever uploads it copies nothing.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

PAGE_BYTES = mmap.PAGESIZE
METADATA = {"format": "pt"}
# The format's names: https://huggingface.co/docs/safetensors; the widest first, so that every tensor is aligned.
DTYPES = {
    torch.complex64: "C64",
    torch.float64: "F64",
    torch.int64: "I64",
    torch.uint64: "U64",
    torch.float32: "F32",
    torch.int32: "I32",
    torch.uint32: "U32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int16: "I16",
    torch.uint16: "U16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_ORDER = {dtype: place for place, dtype in enumerate(DTYPES)}


class SharedFiles:
    """The files of one snapshot at a time. A file whose tensors change in name, type or shape is made anew."""

    def __init__(self) -> None:
        self._tensors: dict[str, _TensorFile] = {}
        self._texts: dict[str, int] = {}  # descriptors

    @property
    def paths(self) -> dict[str, Path]:
        """By file name, for this process."""
        held = {name: file.descriptor for name, file in self._tensors.items()} | self._texts
        return {name: Path(f"/proc/self/fd/{descriptor}") for name, descriptor in held.items()}

    def fit(self, tensors: Mapping[str, Mapping[str, Any]], *, touch: bool = False) -> None:
        """Have room for these. `touch`: take the memory now, so that the first copy does not wait for it."""
        for name in self._tensors.keys() - tensors.keys():
            self._tensors.pop(name).close()
        for name, named in tensors.items():
            layout = _layout(named)
            known = self._tensors.get(name)
            if known is None or known.layout != layout:
                if known is not None:
                    known.close()
                self._tensors[name] = _TensorFile(name, layout)
                if touch:
                    self._tensors[name].touch()

    def fill(self, tensors: Mapping[str, Mapping[str, Any]], texts: Mapping[str, bytes]) -> None:
        """Copy everything, from whatever device it is on. The sources may change once this returns."""
        self.fit(tensors)
        for name, named in tensors.items():
            self._tensors[name].fill(named)
        for name in self._texts.keys() - texts.keys():
            os.close(self._texts.pop(name))
        for name, text in texts.items():
            descriptor = self._texts.setdefault(name, -1)
            if descriptor < 0:
                descriptor = self._texts[name] = os.memfd_create(name)
            os.ftruncate(descriptor, len(text))
            _write(descriptor, text)

    def close(self) -> None:
        """Give the memory back."""
        self.fit({})
        for descriptor in self._texts.values():
            os.close(descriptor)
        self._texts.clear()


# (name, type, shape) of each tensor, in the order of the file.
_Layout = tuple[tuple[str, torch.dtype, tuple[int, ...]], ...]


def _layout(named: Mapping[str, Any]) -> _Layout:
    """Raises KeyError for a type that the format does not know."""
    found = [(name, value.dtype, tuple(value.shape)) for name, value in named.items()]
    return tuple(sorted(found, key=lambda one: (_ORDER[one[1]], one[0])))


class _TensorFile:
    """One safetensors file: 8 bytes of length, a header of JSON, then the tensors without gaps."""

    def __init__(self, name: str, layout: _Layout) -> None:
        self.layout = layout
        header: dict[str, Any] = {"__metadata__": METADATA}
        at, offsets = 0, []
        for tensor, dtype, shape in layout:
            count = int(np.prod(shape, dtype=np.int64))
            end = at + count * dtype.itemsize
            header[tensor] = {"dtype": DTYPES[dtype], "shape": shape, "data_offsets": [at, end]}
            offsets.append((at, count))
            at = end
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)  # the tensors begin at a multiple of eight bytes
        self._header = struct.pack("<Q", len(text)) + text
        self.bytes = len(self._header) + at
        self.descriptor = os.memfd_create(name)
        os.ftruncate(self.descriptor, self.bytes)
        self._map = mmap.mmap(self.descriptor, self.bytes)
        self._map[: len(self._header)] = self._header
        self._views = [
            torch.frombuffer(self._map, dtype=dtype, count=count, offset=len(self._header) + start).view(shape)
            if count
            else torch.empty(shape, dtype=dtype)
            for (_, dtype, shape), (start, count) in zip(layout, offsets, strict=True)
        ]
        self._pinned = torch.cuda.is_available() and _pin(self._views)

    def touch(self) -> None:
        """Have the kernel find and clear every page; numpy leaves the interpreter to other threads meanwhile."""
        np.frombuffer(self._map, dtype=np.uint8)[len(self._header) :: PAGE_BYTES] = 0

    def fill(self, named: Mapping[str, Any]) -> None:
        sources = [named[name].detach() for name, _, _ in self.layout]
        if any(source.is_cuda for source in sources):
            # Into pinned memory the copies run one behind the other without the host waiting for each.
            for view, source in zip(self._views, sources, strict=True):
                view.copy_(source, non_blocking=True)
            torch.cuda.synchronize()
        else:
            torch._foreach_copy_(self._views, sources)

    def close(self) -> None:
        if self._pinned:
            _unpin(self._views)
        self._views.clear()  # the map goes with the last view of it
        del self._map
        os.close(self.descriptor)


def _pin(views: list[torch.Tensor]) -> bool:
    """Pin the memory under the views, for copies from a GPU at full speed. A limit on locked memory only costs time."""
    filled = [view for view in views if view.numel()]
    if not filled:
        return False
    start = filled[0].data_ptr()
    end = filled[-1].data_ptr() + filled[-1].nbytes
    return int(torch.cuda.cudart().cudaHostRegister(start, end - start, 0)) == 0


def _unpin(views: list[torch.Tensor]) -> None:
    torch.cuda.cudart().cudaHostUnregister(next(view.data_ptr() for view in views if view.numel()))


def _write(descriptor: int, data: bytes) -> None:
    at = 0
    while at < len(data):
        at += os.pwrite(descriptor, memoryview(data)[at:], at)
