"""While the object store is away, an attempt waits for it.

A machine that waits costs less than one that is started anew, and an attempt that ends counts against the restarts that
a job has for errors of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import structlog

from sskai.objects import ObjectInfo, ObjectsUnavailableError

log = structlog.get_logger()

RETRY_SECONDS = 1.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Patience:
    """`seconds`: how long a piece of work is tried. `check`, asked before the next try, raises what ends the wait."""

    seconds: float
    check: Callable[[], None]

    def __call__(self, work: Callable[[], T]) -> T:
        """What the work returns, which is done from its start at each try.

        Raises ObjectsUnavailableError when the time is over, and what `check` and the work raise.
        """
        give_up_at = time.monotonic() + self.seconds
        while True:
            try:
                return work()
            except ObjectsUnavailableError as error:
                if time.monotonic() > give_up_at:
                    raise
                log.warning("waiting for the object store", error=str(error)[:300])
                time.sleep(RETRY_SECONDS)
                self.check()


class Source(Protocol):
    """What is needed of a bucket to fetch models, data and code."""

    def key(self, uri: str) -> str: ...
    def get_bytes(self, key: str) -> bytes: ...
    def download(self, key: str, path: Path) -> None: ...
    def list(self, prefix: str) -> list[ObjectInfo]: ...


@dataclass(frozen=True, slots=True)
class PatientSource:
    """A source that waits for each answer."""

    source: Source
    patience: Patience

    def key(self, uri: str) -> str:
        return self.source.key(uri)

    def get_bytes(self, key: str) -> bytes:
        return self.patience(lambda: self.source.get_bytes(key))

    def download(self, key: str, path: Path) -> None:
        self.patience(lambda: self.source.download(key, path))

    def list(self, prefix: str) -> list[ObjectInfo]:
        return self.patience(lambda: self.source.list(prefix))
