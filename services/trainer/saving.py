"""Saving off the training path: the run copies its state into shared memory and goes on; a process of its own hashes
and uploads it (writer.py). The copy is all that training waits for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import structlog
from opentelemetry import context as otel_context

from services.trainer.checkpoints import Stored
from sskai import telemetry
from sskai.objects import ObjectsUnavailableError

log = structlog.get_logger()

FIRST_RETRY_SECONDS = 0.5
LAST_RETRY_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that a run needs to go on from `step`, by file name: tensors, and texts beside them.

    The tensors are the run's own: they have to be copied before the next step.
    """

    step: int
    tensors: Mapping[str, Mapping[str, Any]]
    texts: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Save:
    """One checkpoint that is safe now."""

    step: int
    uri: str
    bytes: int
    save_seconds: float
    stall_seconds: float
    cause: str  # "interval" | "notice" | "final"


class Store(Protocol):
    """Where checkpoints go: `Writer`, a process of its own, or `Checkpoints` themselves."""

    def commit(self, step: int, files: Mapping[str, Path], versions: Mapping[str, str]) -> Stored: ...
    def prune(self, keep: int) -> None: ...


class Saver:
    """At most one save is on its way. While the object store is away it is tried again, and training goes on.

    So one set of shared files is enough: the step after a save that took long is worth more than one that had to wait.
    """

    def __init__(self, store: Store, keep: int, versions: Mapping[str, str], on_saved: Callable[[Save], None]) -> None:
        # It imports torch: an attempt's downloads begin before that.
        from services.trainer.sharedfiles import SharedFiles

        self._store = store
        self._files = SharedFiles()
        self._keep = keep
        self._versions = versions
        self._on_saved = on_saved
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="save")
        self._running: Future[None] | None = None
        self._give_up = threading.Event()
        self.saved_step = -1  # newest that is known to be safe

    @property
    def busy(self) -> bool:
        return self._running is not None and not self._running.done()

    def prepare(self, snapshot: Callable[[], Snapshot]) -> None:
        """Take the memory for snapshots like this one, beside the training: clearing it takes longer than a copy."""
        self._end_of_last()
        self._running = self._thread.submit(self._files.fit, snapshot().tensors, touch=True)

    def begin(self, snapshot: Callable[[], Snapshot], cause: str) -> None:
        """Copy the state and hand the copy over. Raises what an earlier save raised, FencedError above all."""
        self._end_of_last()
        stalled_since = time.perf_counter()
        taken = snapshot()
        self._files.fill(taken.tensors, taken.texts)
        stall_seconds = time.perf_counter() - stalled_since
        context = otel_context.get_current()
        self._running = self._thread.submit(self._save, taken.step, cause, stall_seconds, context)

    def now(self, snapshot: Callable[[], Snapshot], step: int, cause: str) -> None:
        """Save step `step`, unless it is saved, and wait. A save that waits for the object store makes room for it."""
        self._give_up.set()
        self._end_of_last()
        self._give_up.clear()
        if step > self.saved_step:
            self.begin(snapshot, cause)
            self._end_of_last()

    def close(self) -> None:
        """Forget what still waits for the object store; what is being written is written."""
        self._give_up.set()
        self._thread.shutdown(wait=True)
        self._files.close()

    def _end_of_last(self) -> None:
        if self._running is not None:
            running, self._running = self._running, None
            running.result()

    def _save(self, step: int, cause: str, stall_seconds: float, context: otel_context.Context) -> None:
        started = time.perf_counter()
        span = telemetry.tracer().start_as_current_span(
            "save checkpoint", context=context, attributes={"sskai.step": step, "sskai.cause": cause}
        )
        with span:
            pause_seconds = FIRST_RETRY_SECONDS
            while True:
                try:
                    stored = self._store.commit(step, self._files.paths, self._versions)
                    break
                except ObjectsUnavailableError as error:
                    log.warning("checkpoint waits for the object store", step=step, error=str(error))
                    if self._give_up.wait(pause_seconds):
                        return
                    pause_seconds = min(pause_seconds * 2, LAST_RETRY_SECONDS)
        self.saved_step = step
        seconds = time.perf_counter() - started
        # Until its manifest stood, a final save and one for a notice held up the run as well.
        stall_seconds += 0 if cause == "interval" else seconds
        self._on_saved(Save(step, stored.uri, stored.bytes, seconds, stall_seconds, cause))
        if cause == "notice":
            return  # a successor may be waiting for our end; it keeps this lineage's retention from its next save on
        try:
            self._store.prune(self._keep)
        except ObjectsUnavailableError as error:
            log.warning("old checkpoints stay a little longer", error=str(error))
