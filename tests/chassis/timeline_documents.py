"""A timeline as the gateway sends it: two days' work on a spot market, three attempts, a notice, a loss, a deadline."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

BEGAN = datetime(2026, 11, 24, 8, tzinfo=UTC)
HOUR = 3600.0
AZ1 = "aws/us-east-1/use1-az1/g5.xlarge/spot"
AZ2 = "aws/us-east-1/use1-az2/g5.xlarge/spot"
ON_DEMAND = "aws/us-east-1/*/g5.xlarge/on-demand"


def iso(hours: float) -> str:
    return (BEGAN + timedelta(hours=hours)).isoformat().replace("+00:00", "Z")


def attempt(number: int, offer: str, start: float, end: float | None, **facts: Any) -> dict[str, Any]:
    cloud, region, zone, instance_type, capacity = offer.split("/")
    until = end if end is not None else 10.5
    phases = [
        ("starting", start, start + 0.1),
        ("training", start + 0.1, until - 0.05),
        ("saving", until - 0.05, until),
    ]
    return {
        "number": number,
        "machine_id": f"i-{number}",
        "offer": offer,
        "placement": {
            "cloud": cloud,
            "region": region,
            "zone": zone,
            "instance_type": instance_type,
            "capacity_type": capacity,
            "price_usd_per_hour": 0.4,
            "on_demand_price_usd_per_hour": 1.006,
        },
        "started_at": iso(start),
        "ended_at": None if end is None else iso(end),
        "outcome": "running" if end is None else "drained",
        "reason": "",
        "from_step": 0,
        "to_step": 0,
        "lost_steps": 0,
        "gap_seconds": None,
        "phases": [{"phase": name, "started_at": iso(one), "ended_at": iso(other)} for name, one, other in phases],
        **facts,
    }


def timeline(**changes: Any) -> dict[str, Any]:
    checkpoints = [(1, hours, "interval") for hours in (1, 1.5, 2, 2.5, 3)]
    checkpoints += [(1, 3.48, "notice"), (2, 5.2, "interval"), (2, 6.0, "interval")]
    checkpoints += [(3, hours, "interval") for hours in (8.2, 8.9, 9.6, 10.3)]
    events = [
        {"at": iso(hours), "kind": "checkpoint", "attempt": number, "step": round(hours * 100), "cause": cause}
        for number, hours, cause in checkpoints
    ]
    events.append({"at": iso(3.46), "kind": "notice", "attempt": 1, "machine_id": "i-1", "action": "terminate"})
    walk = [0.40, 0.41, 0.43, 0.42, 0.47, 0.55, 0.52, 0.49, 0.46, 0.44, 0.43]
    return {
        "id": "job_01jdq3m8",
        "object": "job.timeline",
        "name": "support-bot",
        "state": "running",
        "from": iso(0),
        "until": iso(10.5),
        "deadline": iso(14),
        "point_of_no_return": iso(12.2),
        "spent_usd": 4.21,
        "on_demand_usd": 9.37,
        "budget_usd": 15.0,
        "attempts": [
            attempt(1, AZ1, 0.4, 3.5, reason="spot-interrupted", from_step=0, to_step=348),
            attempt(
                2, AZ2, 4.4, 6.4, outcome="lost", reason="spot-interrupted", from_step=348, to_step=560, lost_steps=40
            ),
            attempt(3, ON_DEMAND, 7.4, None, from_step=520, to_step=870),
        ],
        "waits": [
            {"from": iso(0), "until": iso(0.4), "rule": "", "detail": ""},
            {"from": iso(3.5), "until": iso(4.4), "rule": "no-capacity", "detail": "none in 6 zones"},
            {"from": iso(6.4), "until": iso(7.4), "rule": "waiting-for-spot", "detail": "ahead of the deadline"},
        ],
        "events": sorted(events, key=lambda event: event["at"]),
        "prices": [
            series(ON_DEMAND, [(0, 1.006)]),
            series(AZ2, [(hour, 0.45 - (usd - 0.4) / 2) for hour, usd in enumerate(walk)]),
            series(AZ1, list(enumerate(walk))),
        ],
        **changes,
    }


def series(offer: str, points: list[tuple[float, float]]) -> dict[str, Any]:
    return {
        "offer": offer,
        "capacity_type": offer.rsplit("/", 1)[1],
        "on_demand_usd_per_hour": 1.006,
        "points": [{"at": iso(hours), "usd_per_hour": round(usd, 4)} for hours, usd in points],
    }
