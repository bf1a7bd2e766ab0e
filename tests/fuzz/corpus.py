"""Inputs that are kept: valid ones, hostile ones, and each that ever found a fault. `NAME.gz` is kept packed."""

from __future__ import annotations

import gzip
import hashlib
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent / "corpus"
MAX_MUTATED_BYTES = 64 * 1024  # larger ones are tried as they are


def files(target: str) -> list[Path]:
    return sorted(path for path in (FOLDER / target).iterdir() if path.is_file())


def read(path: Path) -> bytes:
    data = path.read_bytes()
    return gzip.decompress(data) if path.suffix == ".gz" else data


@cache
def seeds(target: str) -> tuple[bytes, ...]:
    """What mutations begin with."""
    found = (read(path) for path in files(target))
    return tuple(data for data in found if len(data) <= MAX_MUTATED_BYTES)


def keep(target: str, data: bytes) -> Path:
    """An input that found a fault becomes part of the corpus."""
    path = FOLDER / target / f"found-{hashlib.sha256(data).hexdigest()[:12]}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path
