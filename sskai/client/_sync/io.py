"""Waiting and reading where nothing else runs meanwhile."""

from __future__ import annotations

import time
from typing import IO

sleep = time.sleep


def read(file: IO[bytes], size: int) -> bytes:
    """The next piece."""
    return file.read(size)
