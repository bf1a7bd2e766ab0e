"""When an endpoint in pods cannot answer and will not, and what its user should do. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from services.inference.domain import Endpoint, FailureReason, State
from services.inference.replica_set import MAX_FAILURES, History, Reason, Replica


@dataclass(frozen=True, slots=True)
class Failure:
    reason: str
    advice: str


NO_PLACEMENT = Failure(
    "no placement was named", "ask for the endpoint again, with resources that some machine on offer has"
)
NO_MACHINE = Failure("no machine was to be had", "name more instance types or regions in resources, or ask again later")


def failure(
    endpoint: Endpoint, replicas: Sequence[Replica], history: History, patience_seconds: float, now: datetime
) -> Failure | None:
    """None: it answers, or may yet. Of an endpoint whose other replicas answer, a failing one is no failure."""
    if any(one.ready for one in replicas):
        return None
    last = history.last_failure
    if last is not None:
        told = _told(last)
        final = last.reason == Reason.REFUSED or (told is not None and not told.retries)
        if not final and history.failures < MAX_FAILURES:
            return None
        count = "a replica" if history.failures == 1 else f"{history.failures} replicas in a row"
        return Failure(f"{count} failed: {last.detail or last.reason}", _advice(last, told))
    never_had_one = endpoint.state is not State.READY and not any(one.machine_id for one in replicas)
    waited_seconds = (now - endpoint.requested_at).total_seconds()
    return NO_MACHINE if never_had_one and waited_seconds > patience_seconds else None


def _told(replica: Replica) -> FailureReason | None:
    """By which of our reasons it could not load."""
    word = replica.detail.partition(":")[0]
    return FailureReason(word) if replica.reason == Reason.NOT_LOADED and word in set(FailureReason) else None


def _advice(replica: Replica, told: FailureReason | None) -> str:
    if told is FailureReason.OUT_OF_MEMORY:
        return "ask for more memory, or a larger accelerator, in resources"
    if told is not None:
        return told.advice
    if replica.reason == Reason.REFUSED:
        return "change what the cluster refuses, or ask your operator to"
    return "ask your operator: the replica's log holds the cause"
