"""Plans as the gateway sends them, made of the contract's own messages: realistic, and made up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from services.gateway.plain import plain
from sskai.contract import timestamp
from sskai.events import v1 as events

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
GIB = 2**30
# instance type, accelerator, count, vCPUs, GiB, zone, capacity, $/h, on-demand $/h, hours, Pareto, stale, machines
MARKET = [
    ("g6.xlarge", "L4", 1, 4, 16, "use1-az2", "spot", 0.2417, 0.8048, 6.12, True, False, 1),
    ("g6.xlarge", "L4", 1, 4, 16, "apne1-az4", "spot", 0.3519, 1.1672, 6.12, False, True, 1),
    ("g5.xlarge", "A10G", 1, 4, 16, "usw2-az1", "spot", 0.4021, 1.006, 5.4, True, False, 1),
    ("g6e.12xlarge", "L40S", 4, 48, 384, "use2-az3", "spot", 4.1972, 10.4926, 0.93, True, False, 1),
    ("p4de.24xlarge", "A100-80GB", 8, 96, 1152, "use1-az6", "on-demand", 40.9657, 40.9657, 0.31, True, False, 2),
    ("g7e.48xlarge", "RTXPRO6000", 8, 192, 2048, "apne2-az1", "on-demand", 33.14, 33.14, 0.44, False, True, 4),
    ("c6i.2xlarge", "", 0, 8, 16, "*", "on-demand", 0.34, 0.34, 148.0, False, False, 1),
]
REGIONS = {"use1": "us-east-1", "use2": "us-east-2", "usw2": "us-west-2", "apne1": "ap-northeast-1"}


def _placement(row: tuple[Any, ...]) -> events.Placement:
    instance, accelerator, count, vcpus, memory, zone, capacity, price, on_demand, *_ = row
    spot = capacity == "spot"
    return events.Placement(
        cloud="aws",
        region=REGIONS.get(zone.split("-")[0], "ap-northeast-2" if zone != "*" else "us-east-1"),
        zone=zone,
        instance_type=instance,
        capacity_type=events.CAPACITY_TYPE_SPOT if spot else events.CAPACITY_TYPE_ON_DEMAND,
        accelerator_name=accelerator,
        accelerator_count=count,
        vcpus=vcpus,
        memory_gib=memory,
        price_usd_per_hour=price,
        on_demand_price_usd_per_hour=on_demand,
    )


def candidate(row: tuple[Any, ...]) -> events.Candidate:
    price, on_demand, hours, front, stale, machines = row[7:]
    usd = price * hours * machines
    return events.Candidate(
        placement=_placement(row),
        step_seconds=events.Estimate(expected=0.61, low=0.55, high=0.74),
        hours=events.Estimate(expected=hours, low=hours * 0.86, high=hours * 1.31),
        total_usd=events.Estimate(expected=usd, low=usd * 0.86, high=usd * 1.31),
        expected_interruptions=0.31,
        micro_batch_size=4,
        bound_by="compute",
        machine_count=machines,
        workers=max(1, row[2]) * machines,
        price_as_of=timestamp(NOW),
        price_stale=stale,
        seconds=events.TimeBreakdown(
            startup=190, training=hours * 3600 - 600, checkpoint_stall=90, interruptions=220, finish=100
        ),
        usd=events.CostBreakdown(compute=usd * 0.97, on_demand_fallback=usd * 0.02, storage=usd * 0.01),
        checkpoint_interval_steps=300,
        peak_bytes=11 * GIB,
        usable_bytes=22 * GIB,
        largest_memory_term="activations",
        on_pareto_front=front,
        on_demand_total_usd=on_demand * hours * machines,
        interruptions_per_hour=0.05,
    )


def job_plan(**fields: Any) -> dict[str, Any]:
    rejected = [MARKET[6], MARKET[4], MARKET[5]]
    reasons = [
        ("deadline", "needs 148.0 h of the 12.0 h left"),
        ("budget", "needs up to 33.27 USD of the 15.00 USD left"),
        ("budget", "needs up to 76.40 USD of the 15.00 USD left"),
    ]
    proposed = events.PlanProposed(
        job_id="plan_01jdq4v7m2c8r5t9w3x6y0z1ab",
        tenant_id="tenant_default",
        plan_id="plan_01jdq4vb3d5f7h9k1m2n4p6q8r",
        preview=True,
        profile=events.WorkProfile(
            parameters=134_515_008,
            weight_bytes=2 * GIB,
            gradient_bytes=GIB,
            optimizer_bytes=2 * GIB,
            activation_bytes=5 * GIB,
            peak_bytes=11 * GIB,
            batch_size=16,
            sequence_length=2048,
        ),
        candidates=[candidate(row) for row in MARKET],
        rejections=[
            events.Rejection(placement=_placement(row), reason=reason, detail=detail)
            for row, (reason, detail) in zip(rejected, reasons, strict=True)
        ],
        checkpoint_interval_steps=300,
        snapshot_hash="2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae",
        prices_as_of=timestamp(NOW - timedelta(minutes=20)),
        proposed_at=timestamp(NOW),
        explanation="g6.xlarge spot in use1-az2 at 0.2417 USD/h is the cheapest of 904 placements that fit.",
        planner_version="2",
        throughput_version="3f2a9c01",
        point_of_no_return=timestamp(NOW + timedelta(hours=4)),
        fitting=904,
    )
    return {**plain(proposed), "id": proposed.job_id, "kind": "finetune", "status": "proposed", **fields}


def endpoint_plan(**fields: Any) -> dict[str, Any]:
    kinds = [
        ("serverless", MARKET[0], 1, 0, 41.5, 1.54, 35, 0.02, True, "scales to zero after 300 s without a request"),
        ("adapter", MARKET[0], 1, 0, 0.0, 0.0, 0, 0, True, "on the replicas that run already"),
        ("spot", MARKET[1], 3, 1, 1322.0, 11.9, 0, 0, True, "always warm"),
        ("on-demand", MARKET[5], 2, 2, 48_384.0, 179.2, 0, 0, False, "misses the budget by 48284.00 USD a month"),
    ]
    proposed = events.EndpointPlanProposed(
        plan_id="plan_01jdq4vb3d5f7h9k1m2n4p6q8r",
        tenant_id="tenant_default",
        options=[
            events.EndpointOption(
                kind=kind,
                placement=_placement(row),
                replicas=replicas,
                on_demand_floor=floor,
                usd_per_month=month,
                usd_per_million_tokens=million,
                tokens_per_second=61.4,
                p95_latency_seconds=3.12,
                cold_start_seconds=cold,
                cold_fraction=fraction,
                utilisation=0.31,
                meets=meets,
                detail=detail,
                break_even_requests_per_day=9000 if kind != "adapter" else 0,
            )
            for kind, row, replicas, floor, month, million, cold, fraction, meets, detail in kinds
        ],
        explanation="Serverless costs 41.50 USD a month for 2000 requests a day.",
        snapshot_hash="2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae",
        planner_version="2",
        prices_as_of=timestamp(NOW),
        proposed_at=timestamp(NOW),
    )
    return {**plain(proposed), "id": proposed.plan_id, "kind": "endpoint", "status": "proposed", **fields}


def replay(**fields: Any) -> dict[str, Any]:
    choice = candidate(MARKET[0])
    told = events.PlanReplayed(
        plan_id="plan_01jdq4vb3d5f7h9k1m2n4p6q8r",
        replay_id="replay_01jdq6a1b2c3d4e5f6g7h8j9k0",
        equal=True,
        snapshot_hash="2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae",
        planner_version="2",
        stored_planner_version="2",
        stored_choice=choice,
        choice=choice,
        explanation="g6.xlarge spot in use1-az2 is the cheapest of 904 placements that fit.",
        replayed_at=timestamp(NOW),
    )
    document = {**plain(told), "id": told.replay_id, "status": "replayed", "policy": None}
    return {**document, **fields}
