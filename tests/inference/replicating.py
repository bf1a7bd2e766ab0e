"""What tests of replicas start from."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from services.inference.replica_set import Replica, ReplicaState, Wish
from sskai.events import v1 as events

START = datetime(2026, 11, 24, 12, tzinfo=UTC)
WEIGHTS = ("builtin://tiny", "")


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def placement(instance_type: str = "g5.xlarge", *, spot: bool = True, price: float = 0.0, **changes: Any) -> Any:
    return events.Placement(
        cloud="local",
        region="us-east-1",
        zone="use1-az1",
        instance_type=instance_type,
        capacity_type=events.CAPACITY_TYPE_SPOT if spot else events.CAPACITY_TYPE_ON_DEMAND,
        vcpus=4,
        memory_gib=16.0,
        price_usd_per_hour=price or (0.4 if spot else 1.2),
        on_demand_price_usd_per_hour=1.2,
        **changes,
    )


CHEAP, OTHER, STEADY = placement(), placement("g6.xlarge", price=0.5), placement(spot=False)


def wish(wanted: int, **changes: Any) -> Wish:
    values: dict[str, Any] = {
        "minimum": 1,
        "on_demand": 0,
        "weights": WEIGHTS,
        "placements": (STEADY, OTHER, CHEAP),
    }
    return Wish(wanted=wanted, **(values | changes))


def replica(number: int, state: str = "ready", where: events.Placement = CHEAP, **changes: Any) -> Replica:
    """Heard a moment ago."""
    values: dict[str, Any] = {
        "state": ReplicaState(state),
        "machine_id": f"m-{number}" if state != "requested" else "",
        "launched_at": START if state != "requested" else None,
        "ready_at": START if state in ("ready", "draining") else None,
        "heard_at": START,
        "draining_at": START if state == "draining" else None,
        "ended_at": START if state == "ended" else None,
    }
    return Replica("end_1", number, where, WEIGHTS, START, **(values | changes))
