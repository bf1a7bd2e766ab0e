"""What AWS says when it takes a machine away, in our words. Nobody behind this file has heard of EventBridge.

Every message is an EventBridge event (https://docs.aws.amazon.com/eventbridge/latest/ref/overview-event-structure.html):
{"id", "source", "detail-type", "time", "region", "resources", "detail": {...}}. The simulated cloud sends the same.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, TypeAlias

from sskai.contract import timestamp
from sskai.events import v1 as events

Fact: TypeAlias = events.InterruptionNoticed | events.MachineLost

# "The interruption notice is issued two minutes before EC2 stops or terminates your Spot Instance."
# (Amazon EC2 User Guide, "Spot Instance interruption notices"). The event itself does not say it.
SPOT_NOTICE_SECONDS = 120.0

_GONE_STATES = ("stopping", "stopped", "shutting-down", "terminated")
_SPOT_ACTIONS = ("terminate", "stop", "hibernate")
MAX_MACHINES_PER_NOTICE = 1_000


class MalformedError(ValueError):
    """A message that should be one of ours but cannot be read: to be set aside with this reason."""


@dataclass(frozen=True, slots=True)
class Notice:
    """One message of the cloud: its id, which tells repeats apart, and the facts in it (none: not about a loss)."""

    id: str
    kind: str  # the detail-type
    facts: list[Fact]


def parse(raw: bytes | str | Mapping[str, Any], *, source: str, notice_seconds: float | None = None) -> Notice:
    """Read one message. `notice_seconds`: how long the machine has left, where the sender knows better than AWS says.

    Raises MalformedError. A kind of message that is not known here comes back without facts.
    """
    try:
        body = raw if isinstance(raw, Mapping) else json.loads(raw)
        id_, kind, detail = body["id"], body["detail-type"], body["detail"]
        if not (isinstance(id_, str) and id_ and isinstance(kind, str) and isinstance(detail, Mapping)):
            raise MalformedError("id, detail-type and detail must be text, text and an object")  # noqa: TRY301
        at = _moment(body["time"])
        reader = READERS.get(kind)
        facts = reader(detail, at, source, notice_seconds) if reader else []
    except MalformedError:
        raise
    except (KeyError, ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise MalformedError(f"{type(error).__name__}: {error}"[:300]) from error
    return Notice(id_, kind, facts)


def _spot_warning(detail: Mapping[str, Any], at: datetime, source: str, notice_seconds: float | None) -> list[Fact]:
    """EC2 Spot Instance Interruption Warning: {"instance-id", "instance-action": "terminate"|"stop"|"hibernate"}."""
    action = detail["instance-action"]
    if action not in _SPOT_ACTIONS:
        raise MalformedError(f"instance-action {action!r:.60}")
    left = SPOT_NOTICE_SECONDS if notice_seconds is None else float(notice_seconds)
    return [
        events.InterruptionNoticed(
            machine_id=_machine(detail["instance-id"]),
            action=action,
            notice_seconds=left,
            source=source,
            noticed_at=timestamp(at),
            terminates_at=timestamp(at + timedelta(seconds=left)),
        )
    ]


def _rebalance(detail: Mapping[str, Any], at: datetime, source: str, _notice: float | None) -> list[Fact]:
    """EC2 Instance Rebalance Recommendation: {"instance-id"}. A hint without a time: the risk has risen, no more."""
    return [
        events.InterruptionNoticed(
            machine_id=_machine(detail["instance-id"]), action="rebalance", source=source, noticed_at=timestamp(at)
        )
    ]


def _state_change(detail: Mapping[str, Any], at: datetime, _source: str, _notice: float | None) -> list[Fact]:
    """EC2 Instance State-change Notification: {"instance-id", "state"}. "pending" and "running" take nothing away."""
    state = detail["state"]
    if state not in _GONE_STATES:
        return []
    return [events.MachineLost(machine_id=_machine(detail["instance-id"]), reason=state, lost_at=timestamp(at))]


def _health(detail: Mapping[str, Any], at: datetime, source: str, _notice: float | None) -> list[Fact]:
    """AWS Health Event: {"service", "eventTypeCategory", "startTime": RFC 1123, "affectedEntities": [{"entityValue"}]}.

    Only scheduled changes of EC2 (retirement, maintenance) announce the end of a machine.
    """
    if detail.get("service") != "EC2" or detail.get("eventTypeCategory") != "scheduledChange":
        return []
    starts_at = parsedate_to_datetime(detail["startTime"])
    if starts_at.tzinfo is None:
        starts_at = starts_at.replace(tzinfo=UTC)
    return [
        events.InterruptionNoticed(
            machine_id=_machine(entity["entityValue"]),
            action="terminate",
            notice_seconds=max(0.0, (starts_at - at).total_seconds()),
            source=source,
            noticed_at=timestamp(at),
            terminates_at=timestamp(starts_at),
        )
        for entity in detail["affectedEntities"][:MAX_MACHINES_PER_NOTICE]
    ]


def _machine(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise MalformedError("the machine's id is missing")
    return value


def _moment(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    return at if at.tzinfo else at.replace(tzinfo=UTC)


Reader: TypeAlias = Callable[[Mapping[str, Any], datetime, str, float | None], list[Fact]]

READERS: dict[str, Reader] = {
    "EC2 Spot Instance Interruption Warning": _spot_warning,
    "EC2 Instance Rebalance Recommendation": _rebalance,
    "EC2 Instance State-change Notification": _state_change,
    "AWS Health Event": _health,
}
