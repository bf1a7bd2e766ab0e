"""Standing by: a successor is launched while its predecessor still drains, and takes over once that one has ended.

The predecessor's last object says so, whatever becomes of events and schedulers. Until it is there, or the
predecessor's machine is gone by its notice, the successor writes nothing: its fence would stop the very save that it
waits for.
"""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError
from datetime import UTC, datetime

import structlog

from services.trainer import domain
from services.trainer.checkpoints import Checkpoints
from services.trainer.domain import Awaited, End
from services.trainer.interruption import Interruption
from sskai.objects import ObjectsUnavailableError

log = structlog.get_logger()

POLL_SECONDS = 0.15  # a read of a key that is not there; added to the recovery, on average half of it


def wait_for_end(
    awaited: Awaited, checkpoints: Checkpoints, interruption: Interruption, given_up: threading.Event
) -> None:
    """Return when the successor may take over. Raises NoticeError, and CancelledError when the rest of it gave up."""
    waiting: Awaited | None = awaited
    while waiting is not None:
        interruption.check()
        waiting = domain.still_awaited(waiting, _look(waiting.attempt, checkpoints), datetime.now(UTC))
        if waiting is not None and given_up.wait(POLL_SECONDS):
            raise CancelledError


def _look(attempt: int, checkpoints: Checkpoints) -> End | None:
    try:
        return checkpoints.end_of(attempt)
    except ObjectsUnavailableError as error:
        log.warning("the object store is away while standing by", error=str(error))
        return None
