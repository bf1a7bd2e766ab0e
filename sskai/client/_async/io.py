"""Waiting and reading where everything else may run meanwhile. `_sync/io.py` is written by hand, too."""

from __future__ import annotations

import asyncio
from typing import IO

sleep = asyncio.sleep


async def read(file: IO[bytes], size: int) -> bytes:
    """The next piece, off the event loop: a disk may be slow."""
    return await asyncio.to_thread(file.read, size)
