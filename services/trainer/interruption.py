"""What may stop a run from outside: a notice (SIGTERM) and a newer attempt (fence).

A notice is answered within an operator's time, not a step's: between two optimizer steps the state stands still, so
what a step has computed so far is dropped, the last step is saved, and nothing that was told is lost. A step may take
longer than a notice leaves (39 s have been seen where AWS says 120). A second signal ends the process at once; the
previous checkpoint stands. A newer attempt (the fence) ends the work as fast, and nothing is saved any more.
"""

from __future__ import annotations

import _thread
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import structlog

from services.trainer.domain import Exit, FencedError

log = structlog.get_logger()

FENCE_WATCH_SECONDS = 1.5  # a heartbeat's time; a look is one read of a small key that mostly is not there
FENCED_SIGNAL = signal.SIGUSR1  # the watch's word to the main thread; nobody else's


class NoticeError(Exception):
    """The machine will be taken away: save and stop."""


class Interruption:
    """Set by signals and by the watch of the fence; read by `check`."""

    def __init__(self) -> None:
        self._noticed = threading.Event()
        self._fenced = threading.Event()
        self._done = threading.Event()
        self._stoppable = False

    def install(self) -> None:
        """Take SIGTERM and SIGINT. Call it first of all, in the main thread: a signal may come while libraries load."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._signalled)
        signal.signal(FENCED_SIGNAL, self._fence_seen)

    def install_in_worker(self, notice_file: Path) -> None:
        """The same below an agent: its SIGUSR1 is the notice, which it also keeps in a file for those that start late.
        Its SIGTERM ends us at once."""
        signal.signal(signal.SIGUSR1, self._told)
        if notice_file.exists():
            self._noticed.set()

    def _told(self, number: int, frame: FrameType | None) -> None:
        if not self._noticed.is_set():  # the file may have told us already
            self._signalled(number, frame)

    def _signalled(self, _number: int, _frame: FrameType | None) -> None:
        if self._noticed.is_set():
            os._exit(Exit.KILLED)
        self._noticed.set()
        if self._stoppable:
            # Python runs signal handlers in the main thread between two of its instructions: here, between operators.
            self._stoppable = False
            raise NoticeError

    def _fence_seen(self, _number: int, _frame: FrameType | None) -> None:
        if self._stoppable:
            self._stoppable = False
            raise _fenced_error()

    @property
    def noticed(self) -> bool:
        return self._noticed.is_set()

    @contextmanager
    def stoppable(self) -> Iterator[None]:
        """Work that may be dropped at any point: a notice ends it at once. Raises as `check`. Main thread only."""
        self._stoppable = True
        try:
            self.check()  # what came before; what comes from here on is raised by the signal itself
            yield
        finally:
            self._stoppable = False

    def check(self) -> None:
        """Raises FencedError or NoticeError if the run must stop here."""
        if self._fenced.is_set():
            raise _fenced_error()
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
                    _thread.interrupt_main(FENCED_SIGNAL)  # does nothing where no handler is installed
                    return
                except Exception as error:
                    log.warning("the fence cannot be read", error=repr(error))

        threading.Thread(target=watch, name="fence", daemon=True).start()

    def stop_watching(self) -> None:
        self._done.set()


def _fenced_error() -> FencedError:
    return FencedError("a newer attempt has begun")
