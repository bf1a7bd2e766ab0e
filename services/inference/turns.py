"""One computes, some wait, more are refused: how classifiers share a processor."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from services.inference.engine import OverloadedError


class Turns:
    """`waiting`: so many may wait for the one that computes."""

    def __init__(self, waiting: int) -> None:
        self._waiting = waiting
        self._calls = threading.BoundedSemaphore(waiting + 1)
        self._computing = threading.Lock()

    @contextmanager
    def mine(self) -> Iterator[None]:
        """Blocks until it is this thread's turn. Raises OverloadedError."""
        if not self._calls.acquire(blocking=False):
            raise OverloadedError(self._waiting)
        try:
            with self._computing:
                yield
        finally:
            self._calls.release()
