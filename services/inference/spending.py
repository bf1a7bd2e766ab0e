"""What a replica's machine costs: rows of the ledger. Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from services.inference.replica_set import Replica
from sskai.cluster.metering import interval_nano_usd
from sskai.events import v1 as events


def meter(
    replica: Replica, until: datetime, interval: int, tenant_id: str, endpoint_id: str
) -> tuple[Replica, events.SpendRecorded | None]:
    """The row from the last metered moment to `until` (or the replica's end); None where no time has passed.

    `endpoint_id`: who pays. A canary's replicas are metered as its own, and paid by the endpoint that tries it.
    """
    since = replica.metered_until
    until = min(until, replica.ended_at) if replica.ended_at is not None else until
    if since is None or until <= since:
        return replica, None
    seconds = (until - since).total_seconds()
    placement = replica.placement
    row = events.SpendRecorded(
        job_id=replica.endpoint_id,
        tenant_id=tenant_id,
        interval=interval,
        attempt=replica.number,
        machine_id=replica.machine_id,
        placement=placement,
        started_at=since,
        ended_at=until,
        price_usd_per_hour=placement.price_usd_per_hour,
        amount_nano_usd=interval_nano_usd(placement.price_usd_per_hour, seconds),
        on_demand_nano_usd=interval_nano_usd(placement.on_demand_price_usd_per_hour, seconds),
        endpoint_id=endpoint_id,
    )
    return replace(replica, metered_until=until), row


def is_due(replica: Replica, now: datetime, metering_seconds: float) -> bool:
    """Once in a while, and at the end."""
    if replica.metered_until is None:
        return False
    return not replica.live or (now - replica.metered_until).total_seconds() >= metering_seconds
