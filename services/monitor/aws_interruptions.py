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
# EventBridge's messages have at most 256 KB, and Health splits its own into pages below that.
MAX_MACHINES_PER_NOTICE = 5_000
MAX_NAME_CHARACTERS = 200


class MalformedError(ValueError):
    """A message that should be one of ours but cannot be read: to be set aside with this reason."""


@dataclass(frozen=True, slots=True)
class Notice:
    """One message of the cloud: its id, which tells repeats apart, and the facts in it (none: not about a loss)."""

    id: str
    kind: str  # the detail-type
    facts: list[Fact]
    known: bool = True  # False: a kind of message that nobody here can read


def parse(raw: bytes | str | Mapping[str, Any], *, source: str, notice_seconds: float | None = None) -> Notice:
    """Read one message. `notice_seconds`: how long the machine has left, where the sender knows better than AWS says.

    Raises MalformedError. A kind of message that is not known here comes back without facts, and says so.
    """
    try:
        body = raw if isinstance(raw, Mapping) else json.loads(raw)
        id_, kind, detail = _name(body["id"], "id"), _name(body["detail-type"], "detail-type"), body["detail"]
        if not isinstance(detail, Mapping):
            raise MalformedError("detail must be an object")  # noqa: TRY301
        at = _moment(body["time"])
        reader = READERS.get(kind)
        facts = reader(detail, at, source, notice_seconds) if reader else []
    except MalformedError:
        raise
    except (KeyError, ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise MalformedError(f"{type(error).__name__}: {error}"[:300].replace("\0", "\\x00")) from error
    return Notice(id_, kind, facts, known=reader is not None or kind.startswith(_OTHER_KINDS))


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
            reason="spot-interruption",
            noticed_at=timestamp(at),
            terminates_at=timestamp(at + timedelta(seconds=left)),
        )
    ]


def _reservation_warning(detail: Mapping[str, Any], at: datetime, source: str, _notice: float | None) -> list[Fact]:
    """EC2 Capacity Reservation Instance Interruption Warning, of Capacity Blocks and of interruptible reservations:
    {"instance-id", "instance-action": "terminate", "instance-termination-time": ISO 8601, ...}. It says when.

    EC2 User Guide, "Monitor Capacity Blocks using EventBridge" and "Monitor interruptible Capacity Reservations".
    """
    ends_at = _moment(detail["instance-termination-time"])
    action = detail["instance-action"]
    if action not in _SPOT_ACTIONS:
        raise MalformedError(f"instance-action {action!r:.60}")
    return [
        events.InterruptionNoticed(
            machine_id=_machine(detail["instance-id"]),
            action=action,
            notice_seconds=max(0.0, (ends_at - at).total_seconds()),
            source=source,
            reason="capacity-reservation",
            noticed_at=timestamp(at),
            terminates_at=timestamp(ends_at),
        )
    ]


def _rebalance(detail: Mapping[str, Any], at: datetime, source: str, _notice: float | None) -> list[Fact]:
    """EC2 Instance Rebalance Recommendation: {"instance-id"}. A hint without a time: the risk has risen, no more."""
    return [
        events.InterruptionNoticed(
            machine_id=_machine(detail["instance-id"]),
            action="rebalance",
            source=source,
            reason="rebalance-recommendation",
            noticed_at=timestamp(at),
        )
    ]


def _state_change(detail: Mapping[str, Any], at: datetime, _source: str, _notice: float | None) -> list[Fact]:
    """EC2 Instance State-change Notification: {"instance-id", "state"}. "pending" and "running" take nothing away."""
    state = detail["state"]
    if state not in _GONE_STATES:
        return []
    return [events.MachineLost(machine_id=_machine(detail["instance-id"]), reason=state, lost_at=timestamp(at))]


def _health(detail: Mapping[str, Any], at: datetime, source: str, _notice: float | None) -> list[Fact]:
    """AWS Health Event: {"service", "eventTypeCategory", "eventTypeCode", "statusCode": "open"|"upcoming"|"closed",
    "startTime": RFC 1123, "affectedEntities": [{"entityValue", "status", "lastUpdatedTime"}]}.

    AWS Health User Guide, "Reference: AWS Health events Amazon EventBridge schema". Only scheduled changes of EC2
    announce the end of a machine: a retirement ends it, whatever else is scheduled (a stop, a reboot, maintenance of
    its power or its network) ends what runs on it. A machine whose own status is RESOLVED is over with it.
    """
    if detail.get("service") != "EC2" or detail.get("eventTypeCategory") != "scheduledChange":
        return []
    if detail.get("statusCode") == "closed":
        return []
    code = _name(detail.get("eventTypeCode", "scheduledChange"), "eventTypeCode")
    starts_at = parsedate_to_datetime(detail["startTime"])
    if starts_at.tzinfo is None:
        starts_at = starts_at.replace(tzinfo=UTC)
    return [
        events.InterruptionNoticed(
            machine_id=_machine(entity["entityValue"]),
            action="terminate" if "RETIREMENT" in code else "stop",
            notice_seconds=max(0.0, (starts_at - at).total_seconds()),
            source=source,
            reason=code,
            noticed_at=timestamp(at),
            terminates_at=timestamp(starts_at),
        )
        for entity in detail["affectedEntities"][:MAX_MACHINES_PER_NOTICE]
        if entity.get("status") != "RESOLVED"
    ]


def _machine(value: object) -> str:
    return _name(value, "the machine's id")


def _name(value: object, what: str) -> str:
    """A text that every store of ours can hold."""
    if not isinstance(value, str) or not value or len(value) > MAX_NAME_CHARACTERS or not value.isprintable():
        raise MalformedError(f"{what} must be a printable text of 1 to {MAX_NAME_CHARACTERS} characters: {value!r:.60}")
    return value


def _moment(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    return at if at.tzinfo else at.replace(tzinfo=UTC)


Reader: TypeAlias = Callable[[Mapping[str, Any], datetime, str, float | None], list[Fact]]

READERS: dict[str, Reader] = {
    "EC2 Spot Instance Interruption Warning": _spot_warning,
    "EC2 Capacity Reservation Instance Interruption Warning": _reservation_warning,
    "EC2 Instance Rebalance Recommendation": _rebalance,
    "EC2 Instance State-change Notification": _state_change,
    "AWS Health Event": _health,
}

# Other things that the same rules may let through: of spot requests and fleets, reservations and blocks of capacity,
# and Auto Scaling. None of them names a machine that goes and is not told by one of the above as well.
_OTHER_KINDS = (
    "AWS Health",
    "Capacity Block",
    "EC2 Auto Scaling",
    "EC2 Capacity Reservation",
    "EC2 Fleet",
    "EC2 Instance-",
    "EC2 Interruptible Capacity Reservation",
    "EC2 On-Demand Capacity Reservation",
    "EC2 Spot Fleet",
    "EC2 Spot Instance Request",
)
