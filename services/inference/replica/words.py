"""What a replica says of itself: its reports to the service, and how its process ends. Values only."""

from __future__ import annotations

from enum import IntEnum, StrEnum

from pydantic import BaseModel, ConfigDict, Field

from services.inference.domain import FailureReason


class ReplicaState(StrEnum):
    READY = "ready"
    DRAINING = "draining"  # takes nothing new, finishes what it has
    FAILED = "failed"  # its last report


class Report(BaseModel):
    """The body of `POST HOME/internal/replicas/ID`: a first one when the state changes, then one every 2 s."""

    model_config = ConfigDict(extra="forbid", strict=True)

    state: ReplicaState = Field(strict=False)
    url: str = ""
    load_seconds: float = 0.0
    # Answers that are being drawn, and that wait for a place; and what was told in the last 10 s.
    active: int = 0
    waiting: int = 0
    tokens_per_second: float = 0.0
    # Of a failed one: a FailureReason, and the detail for the user.
    reason: str = ""
    detail: str = ""


class Exit(IntEnum):
    """Numbers as in sysexits.h, and as the trainer's pods end."""

    DRAINED = 0  # asked to stop, or not wanted any more
    UNUSABLE = 65  # the weights cannot be served: another replica would fail, too
    UNAVAILABLE = 69  # the object store did not answer: start another one
    INTERNAL = 70  # a bug, or the engine died: start another one, a few times
    OUT_OF_MEMORY = 71  # only on a larger machine
    MISCONFIGURED = 78  # the environment is not a replica's, or the pod's image lacks the engine


EXIT_OF = {
    FailureReason.UNSUPPORTED_KIND: Exit.UNUSABLE,
    FailureReason.UNUSABLE_WEIGHTS: Exit.UNUSABLE,
    FailureReason.NOT_FOUND: Exit.UNUSABLE,
    FailureReason.OUT_OF_MEMORY: Exit.OUT_OF_MEMORY,
    FailureReason.MISSING_ENGINE: Exit.MISCONFIGURED,
    FailureReason.NO_SANDBOX: Exit.MISCONFIGURED,
    FailureReason.UNAVAILABLE: Exit.UNAVAILABLE,
    FailureReason.INTERNAL: Exit.INTERNAL,
}
