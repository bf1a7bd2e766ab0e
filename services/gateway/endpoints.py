"""What the gateway knows of an endpoint, drawn from events as a job's view is. Pure."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from typing import Any, Self

from google.protobuf.message import Message
from pydantic import BaseModel

from services.gateway.plain import finite
from sskai.contract import moment
from sskai.events import v1 as events
from sskai.money import NANO_PER_USD


class EndpointState(StrEnum):
    REQUESTED = "requested"
    READY = "ready"
    FAILED = "failed"
    DELETING = "deleting"
    DELETED = "deleted"


class EndpointView(BaseModel):
    """Each fact in its own place: any order of the same events gives the same view."""

    ready_at: datetime | None = None
    load_seconds: float | None = None
    cold_start_seconds: float | None = None  # of the last time that a request found it asleep
    failed_at: datetime | None = None
    reason: str = ""
    advice: str = ""
    scaled_at: datetime | None = None
    replicas: int | None = None
    drifted_at: datetime | None = None
    drift_signal: str = ""  # of the newest drift, and what it was in words
    drift_explanation: str = ""
    deletion_requested_at: datetime | None = None
    deleted_at: datetime | None = None
    # The version that was promoted last, and the one that is tried.
    promoted_at: datetime | None = None
    served_model_id: str = ""
    served_version: int | None = None
    canary_at: datetime | None = None
    canary_version: int | None = None
    canary_fraction: float | None = None

    # Of replicas in pods: what their machines cost so far, and what they have answered. Sums of the ledger's rows, each
    # of which counts once.
    spent_nano_usd: int = 0
    on_demand_nano_usd: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    @property
    def usd_per_million_tokens(self) -> float | None:
        """What a million of tokens has cost, in and out alike; None: nothing was answered, or nothing paid."""
        tokens = self.input_tokens + self.output_tokens
        return self.spent_nano_usd / NANO_PER_USD / tokens * 1e6 if tokens and self.spent_nano_usd else None

    def paid(self, event: events.SpendRecorded) -> Self:
        """With one more row of the ledger."""
        return self.model_copy(
            update={
                "spent_nano_usd": self.spent_nano_usd + event.amount_nano_usd,
                "on_demand_nano_usd": self.on_demand_nano_usd + event.on_demand_nano_usd,
                "input_tokens": self.input_tokens + event.input_tokens,
                "output_tokens": self.output_tokens + event.output_tokens,
            }
        )

    @property
    def state(self) -> EndpointState:
        if self.deleted_at:
            return EndpointState.DELETED
        if self.deletion_requested_at:
            return EndpointState.DELETING
        if self.failed_at and not (self.ready_at and self.ready_at > self.failed_at):
            return EndpointState.FAILED
        return EndpointState.READY if self.ready_at else EndpointState.REQUESTED


def _newer(at: datetime, known: datetime | None) -> bool:
    return known is None or at > known


def _ready(view: EndpointView, event: events.EndpointReady) -> dict[str, Any]:
    at = moment(event.ready_at)
    return {"ready_at": at, "load_seconds": finite(event.load_seconds)} if _newer(at, view.ready_at) else {}


def _failed(view: EndpointView, event: events.EndpointFailed) -> dict[str, Any]:
    at = moment(event.failed_at)
    return {"failed_at": at, "reason": event.reason, "advice": event.advice} if _newer(at, view.failed_at) else {}


def _scaled(view: EndpointView, event: events.EndpointScaled) -> dict[str, Any]:
    at = moment(event.scaled_at)
    if not _newer(at, view.scaled_at):
        return {}
    cold = finite(event.cold_start_seconds)
    return {"scaled_at": at, "replicas": event.replicas, **({"cold_start_seconds": cold} if cold else {})}


def _drifted(view: EndpointView, event: events.DriftDetected) -> dict[str, Any]:
    at = moment(event.detected_at)
    if not _newer(at, view.drifted_at):
        return {}
    return {"drifted_at": at, "drift_signal": event.signal, "drift_explanation": event.explanation}


def _deletion_requested(_view: EndpointView, event: events.EndpointDeletionRequested) -> dict[str, Any]:
    return {"deletion_requested_at": moment(event.requested_at)}


def _deleted(_view: EndpointView, event: events.EndpointDeleted) -> dict[str, Any]:
    return {"deleted_at": moment(event.deleted_at)}


def _canary(view: EndpointView, event: events.CanaryStarted) -> dict[str, Any]:
    at = moment(event.started_at)
    if not _newer(at, view.canary_at):
        return {}
    return {"canary_at": at, "canary_version": event.version, "canary_fraction": finite(event.traffic_fraction)}


def _without_canary(view: EndpointView, at: datetime) -> dict[str, Any]:
    gone = {"canary_at": at, "canary_version": None, "canary_fraction": None}
    return gone if _newer(at, view.canary_at) else {}


def _promoted(view: EndpointView, event: events.ModelPromoted) -> dict[str, Any]:
    at = moment(event.promoted_at)
    served = {"promoted_at": at, "served_model_id": event.model_id, "served_version": event.version}
    return {**_without_canary(view, at), **(served if _newer(at, view.promoted_at) else {})}


def _rolled_back(view: EndpointView, event: events.ModelRolledBack) -> dict[str, Any]:
    return _without_canary(view, moment(event.rolled_back_at))


_FACTS: dict[type[Message], Callable[[EndpointView, Any], dict[str, Any]]] = {
    events.EndpointReady: _ready,
    events.EndpointFailed: _failed,
    events.EndpointScaled: _scaled,
    events.DriftDetected: _drifted,
    events.CanaryStarted: _canary,
    events.ModelPromoted: _promoted,
    events.ModelRolledBack: _rolled_back,
    events.EndpointDeletionRequested: _deletion_requested,
    events.EndpointDeleted: _deleted,
}


def follow(view: EndpointView, event: Message) -> EndpointView:
    """The view with one more fact. An event that says nothing about an endpoint changes nothing."""
    fact = _FACTS.get(type(event))
    return view.model_copy(update=fact(view, event)) if fact else view
