"""What a cluster's word on a machine's end is to everybody: the same two events that a cloud's own notices become."""

from __future__ import annotations

from datetime import datetime, timedelta

from sskai.cluster import Observation
from sskai.events import v1 as events

# Sources round differently; what is earlier by less was told already.
EARLIER = timedelta(seconds=1)


def notice(one: Observation, now: datetime) -> list[events.InterruptionNoticed]:
    """That the machine will be taken, or (a hint) that it may be; none where others tell it."""
    if not one.source or (one.terminates_at is None and not one.recommended):
        return []
    told = events.InterruptionNoticed(
        machine_id=one.machine_id,
        action="rebalance" if one.terminates_at is None else "terminate",
        source=one.source,
        reason=one.why,
        noticed_at=now,
        terminates_at=one.terminates_at,
    )
    if one.terminates_at is not None:
        told.notice_seconds = max(0.0, (one.terminates_at - now).total_seconds())
    return [told]


def loss(one: Observation, now: datetime) -> list[events.MachineLost]:
    """That the machine is no more; none where others tell it."""
    if not one.source:
        return []
    return [events.MachineLost(machine_id=one.machine_id, reason=one.why or "gone", lost_at=one.ended_at or now)]
