"""What may stop a run from outside: a notice (SIGTERM) and a newer attempt (fence). It asks between micro-steps.

AWS gives 120 s of notice and a LoRA checkpoint takes well under one (benchmarks/checkpoint.py), so the run ends its
micro-step, saves and says so. A second signal ends the process at once; the previous checkpoint stands.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType

import structlog

from services.trainer.domain import Exit, FencedError

log = structlog.get_logger()

FENCE_WATCH_SECONDS = 10.0


class NoticeError(Exception):
    """The machine will be taken away: save and stop."""


class Interruption:
    """Set by signals and by the watch of the fence; read by `check`."""

    def __init__(self) -> None:
        self._noticed = threading.Event()
        self._fenced = threading.Event()
        self._done = threading.Event()

    def install(self) -> None:
        """Take SIGTERM and SIGINT. Call it first of all, in the main thread: a signal may come while libraries load."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._signalled)

    def _signalled(self, _number: int, _frame: FrameType | None) -> None:
        if self._noticed.is_set():
            os._exit(Exit.KILLED)
        self._noticed.set()

    @property
    def noticed(self) -> bool:
        return self._noticed.is_set()

    def check(self) -> None:
        """Raises FencedError or NoticeError if the run must stop here."""
        if self._fenced.is_set():
            raise FencedError("a newer attempt has begun")
        if self._noticed.is_set():
            raise NoticeError

    def watch_fence(self, check_fence: Callable[[], None], seconds: float = FENCE_WATCH_SECONDS) -> None:
        """Ask again and again, in a thread, whether a newer attempt has begun. A store that is away stops nothing."""

        def watch() -> None:
            while not self._done.wait(seconds):
                try:
                    check_fence()
                except FencedError:
                    self._fenced.set()
                    return
                except Exception as error:
                    log.warning("the fence cannot be read", error=repr(error))

        threading.Thread(target=watch, name="fence", daemon=True).start()

    def stop_watching(self) -> None:
        self._done.set()
