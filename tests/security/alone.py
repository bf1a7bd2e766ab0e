"""How much memory a reader of uploads takes, told by a process that does nothing else: others' would be counted.

It loads little: a new process is forked for each file."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import pyarrow.parquet  # noqa: F401 (loading it takes memory as well)

from services.gateway import imagefolders, tablefiles  # noqa: F401 (the same)
from services.gateway.rowforms import RejectedError

Reader: TypeAlias = Callable[[io.BytesIO, io.BytesIO], object]


@dataclass(frozen=True)
class Took:
    refused: bool
    cpu_seconds: float
    peak_bytes: int  # of memory, beyond what was there before
    written_bytes: int


def read_alone(read: Reader, content: bytes) -> Took:
    file, out = io.BytesIO(content), io.BytesIO()
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins anew
    before, began = _resident("VmRSS"), time.process_time()
    try:
        read(file, out)
        refused = False
    except RejectedError:
        refused = True
    return Took(refused, time.process_time() - began, _resident("VmHWM") - before, len(out.getvalue()))


def _resident(what: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what)) * 1024
