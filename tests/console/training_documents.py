"""Answers of the gateway about datasets, models, plans and a job that was interrupted once, as the pages read them."""

from __future__ import annotations

from typing import Any

JOB_ID = "job_01"


def page(*rows: Any) -> dict[str, Any]:
    return {"object": "list", "data": list(rows), "has_more": False, "next": None}


def dataset(name: str, version: int) -> dict[str, Any]:
    return {
        "id": f"dataset_{name}{version}",
        "object": "dataset",
        "name": name,
        "version": version,
        "uri": f"dataset://{name}/{version}",
        "format": "messages",
        "rows": 1200,
        "bytes": 482_113,
        "estimated_tokens": 96_000,
        "report": {
            "characters": 384_000,
            "duplicates": 3,
            "share_learnt": 0.61,
            "characters_per_row": {"min": 40, "median": 300.0, "p95": 700.0, "max": 1900},
        },
        "created_at": "2026-11-28T09:00:00Z",
    }


def model(name: str, *, origin: str = "builtin", available: bool = True, **more: Any) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "model_id": name,
        "name": name.partition("@")[0],
        "version": 0,
        "origin": origin,
        "parent": None,
        "method": None,
        "available": available,
        "task": "text-generation",
        "parameters": 134_515_008,
        "licence": "apache-2.0",
        "hub_id": None,
        "job_id": None,
        "created_at": "2026-11-24T00:00:00Z",
        **more,
    }


def placement(instance: str, capacity: str, zone: str, usd: float) -> dict[str, Any]:
    return {
        "cloud": "aws",
        "region": "us-east-1",
        "zone": zone,
        "instance_type": instance,
        "capacity_type": capacity,
        "vcpus": 8,
        "memory_gib": 32.0,
        "accelerator_name": "L4",
        "accelerator_count": 1,
        "price_usd_per_hour": usd,
        "on_demand_price_usd_per_hour": 0.98,
    }


def candidate(instance: str, capacity: str, zone: str, usd: float, hours: float, *, front: bool) -> dict[str, Any]:
    total = usd * hours
    return {
        "placement": placement(instance, capacity, zone, usd),
        "hours": {"low": hours * 0.8, "expected": hours, "high": hours * 1.4},
        "total_usd": {"low": total * 0.8, "expected": total, "high": total * 1.5},
        "machine_count": 1,
        "on_pareto_front": front,
        "price_stale": False,
        "on_demand_total_usd": hours * 0.98,
        "expected_interruptions": 0.4,
        "checkpoint_interval_steps": 50,
        "step_seconds": {"low": 1.0, "expected": 1.4, "high": 2.0},
        "bound_by": "compute",
        "peak_bytes": 9_000_000_000,
        "usable_bytes": 22_000_000_000,
        "seconds": {"startup": 120.0, "training": 3000.0 * hours, "finish": 90.0, "waiting": 30.0},
        "usd": {"compute": total * 0.95, "storage": total * 0.05, "egress": 0.0},
    }


PLAN: dict[str, Any] = {
    "id": "plan_1",
    "object": "plan",
    "kind": "finetune",
    "status": "proposed",
    "preview": True,
    "job_id": None,
    "created_at": "2026-11-29T12:00:00Z",
    "explanation": "g6.2xlarge spot in use1-az2 is the cheapest of 40 placements that fit.",
    "fitting": 40,
    "objective": "cheapest",
    "prices_as_of": "2026-11-29T11:58:00Z",
    "point_of_no_return": None,
    "snapshot_hash": "ab12",
    "candidates": [
        candidate("g6.2xlarge", "spot", "use1-az2", 0.29, 2.1, front=True),
        candidate("g6.xlarge", "spot", "use1-az4", 0.27, 2.6, front=False),
        candidate("g5.2xlarge", "spot", "use1-az1", 0.52, 1.6, front=True),
        candidate("g6e.2xlarge", "on-demand", "*", 2.24, 1.1, front=True),
    ],
    "rejections": [
        {
            "placement": placement("g4dn.xlarge", "spot", "use1-az1", 0.16),
            "reason": "memory",
            "detail": "needs 9.0 GB of 15.0 GB, of which 8.1 GB are usable",
        }
    ],
}

SPEC: dict[str, Any] = {
    "kind": "finetune",
    "name": "support-bot",
    "model": {
        "model_id": "smollm2-135m-instruct",
        "uri": "builtin://smollm2-135m-instruct",
        "code_uri": "",
        "method": "lora",
        "rank": 8,
        "alpha": 16,
        "target_modules": [],
        "dora": False,
        "rslora": False,
    },
    "dataset": {"name": "support", "version": 2, "format": "messages", "eval_fraction": 0.05, "rows": 1200},
    "hyperparameters": {"n_epochs": 3.0, "batch_size": None, "packing": None},
    "resources": {
        "accelerators": "L4:1",
        "cpus": "",
        "memory": "",
        "nodes": "1..8",
        "regions": [],
        "instance_types": [],
        "max_price_usd_per_hour": None,
    },
    "spot_policy": "auto",
    "budget_usd": 5.0,
    "deadline": "2026-11-29T18:00:00Z",
    "retry": {
        "max_restarts_on_errors": 3,
        "duration_seconds": 0.0,
        "on_events": ["error", "interruption", "no-capacity"],
    },
    "checkpoint": {"interval_steps": 0, "keep": 3, "disabled": False},
    "env": {},
    "secrets": [],
    "objective": "cheapest",
    "priority": "normal",
    "exports": [],
    "project": "",
}

PROGRESS: dict[str, Any] = {
    "at": "2026-11-29T13:30:00Z",
    "step": 240,
    "total_steps": 400,
    "phase": "training",
    "loss": 1.31,
    "learning_rate": 0.0002,
    "step_seconds": 1.4,
    "tokens_per_second": 5200.0,
    "eta_seconds": 224.0,
}


def _attempt(number: int, outcome: str, place: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "number": number,
        "outcome": outcome,
        "machine_id": f"i-{number}",
        "placement": place,
        "reason": "",
        "detail": "",
        "resumed_from_step": None,
        "lost_steps": 0,
        **more,
    }


SPOT = placement("g6.2xlarge", "spot", "use1-az2", 0.29)
ON_DEMAND = placement("g6.2xlarge", "on-demand", "*", 0.98)

JOB: dict[str, Any] = {
    "id": JOB_ID,
    "object": "job",
    "kind": "finetune",
    "name": "support-bot",
    "state": "running",
    "model": "smollm2-135m-instruct",
    "dataset": "dataset://support/2",
    "attempt": 2,
    "waiting": None,
    "progress": PROGRESS,
    "spent_usd": 0.4213,
    "budget_usd": 5.0,
    "submitted_at": "2026-11-29T12:00:00Z",
    "updated_at": "2026-11-29T13:30:00Z",
    "ended_at": None,
    "spec": SPEC,
    "trace_id": "ab",
    "plan_id": "plan_1",
    "placement": PLAN["candidates"][0],
    "requeue": None,
    "attempts": [
        _attempt(1, "drained", SPOT, reason="spot-interrupted", lost_steps=4),
        _attempt(2, "running", ON_DEMAND, resumed_from_step=120),
    ],
    "checkpoints": [
        {
            "step": 120,
            "attempt": 1,
            "uri": "s3://x",
            "bytes": 29_572_074,
            "cause": "notice",
            "save_seconds": 3.2,
            "stall_seconds": 0.02,
            "at": "2026-11-29T12:40:00Z",
        }
    ],
    "losses": [[step, 3.4 - 2 * step / (step + 80)] for step in range(1, 241, 4)],
    "on_demand_usd": 1.37,
    "budget_fraction_reached": 0.0,
    "end": None,
    "receipt": None,
}

TIMELINE: dict[str, Any] = {
    "id": JOB_ID,
    "object": "job.timeline",
    "name": "support-bot",
    "state": "running",
    "from": "2026-11-29T12:00:00Z",
    "until": "2026-11-29T13:30:00Z",
    "deadline": "2026-11-29T14:30:00Z",
    "point_of_no_return": "2026-11-29T13:50:00Z",
    "spent_usd": 0.4213,
    "on_demand_usd": 1.37,
    "budget_usd": 5.0,
    "attempts": [
        {
            "number": 1,
            "machine_id": "i-1",
            "offer": "aws/us-east-1/use1-az2/g6.2xlarge/spot",
            "placement": SPOT,
            "started_at": "2026-11-29T12:05:00Z",
            "ended_at": "2026-11-29T12:42:00Z",
            "outcome": "drained",
            "reason": "spot-interrupted",
            "from_step": 0,
            "to_step": 124,
            "lost_steps": 4,
            "gap_seconds": None,
            "phases": [
                {"phase": "starting", "started_at": "2026-11-29T12:05:00Z", "ended_at": "2026-11-29T12:09:00Z"},
                {"phase": "training", "started_at": "2026-11-29T12:09:00Z", "ended_at": "2026-11-29T12:42:00Z"},
            ],
        },
        {
            "number": 2,
            "machine_id": "i-2",
            "offer": "aws/us-east-1/*/g6.2xlarge/on-demand",
            "placement": ON_DEMAND,
            "started_at": "2026-11-29T12:58:00Z",
            "ended_at": None,
            "outcome": "running",
            "reason": "",
            "from_step": 120,
            "to_step": 240,
            "lost_steps": 0,
            "gap_seconds": 1100.0,
            "phases": [
                {"phase": "starting", "started_at": "2026-11-29T12:58:00Z", "ended_at": "2026-11-29T13:01:00Z"},
                {"phase": "training", "started_at": "2026-11-29T13:01:00Z", "ended_at": "2026-11-29T13:30:00Z"},
            ],
        },
    ],
    "waits": [
        {"from": "2026-11-29T12:00:00Z", "until": "2026-11-29T12:05:00Z", "rule": "", "detail": ""},
        {
            "from": "2026-11-29T12:42:00Z",
            "until": "2026-11-29T12:58:00Z",
            "rule": "waiting-for-spot",
            "detail": "the deadline allows 40 minutes more",
        },
    ],
    "events": [
        {
            "at": "2026-11-29T12:24:00Z",
            "kind": "checkpoint",
            "attempt": 1,
            "step": 60,
            "bytes": 29_572_074,
            "cause": "interval",
        },
        {"at": "2026-11-29T12:40:00Z", "kind": "notice", "attempt": 1, "machine_id": "i-1", "action": "terminate"},
        {
            "at": "2026-11-29T12:41:00Z",
            "kind": "checkpoint",
            "attempt": 1,
            "step": 120,
            "bytes": 29_572_074,
            "cause": "notice",
        },
        {
            "at": "2026-11-29T12:42:00Z",
            "kind": "requeue",
            "attempt": 1,
            "reason": "spot-interrupted",
            "steps_done": 120,
        },
    ],
    "prices": [
        {
            "offer": "aws/us-east-1/use1-az2/g6.2xlarge/spot",
            "capacity_type": "spot",
            "on_demand_usd_per_hour": 0.98,
            "points": [
                {"at": "2026-11-29T12:00:00Z", "usd_per_hour": 0.29},
                {"at": "2026-11-29T12:30:00Z", "usd_per_hour": 0.61},
                {"at": "2026-11-29T13:05:00Z", "usd_per_hour": 0.34},
            ],
        }
    ],
}

RECEIPT: dict[str, Any] = {
    "attempts": 2,
    "interruptions": 1,
    "paid_nano_usd": 512_000_000,
    "on_demand_nano_usd": 1_600_000_000,
    "lost_nano_usd": 3_000_000,
    "naive_nano_usd": None,
    "naive_instance_type": "",
    "saving_fraction": 0.68,
    "useful_seconds": 4200.0,
    "overhead_seconds": 500.0,
    "restart_seconds": 180.0,
    "lost_seconds": 6.0,
    "waiting_seconds": 1260.0,
    "elapsed_seconds": 6000.0,
    "time_saved_seconds": None,
}

TRACE: dict[str, Any] = {
    "trace_id": "7bb26221a8db8381c75bbe37f34b33ec",
    "started_at": "2026-11-29T12:00:00Z",
    "duration_seconds": 5400.0,
    "services": ["gateway", "scheduler", "trainer"],
    "spans": [
        {
            "span_id": str(number),
            "parent_span_id": str(number - 1) if number else "",
            "depth": number,
            "service": service,
            "name": name,
            "kind": "server",
            "start_offset_seconds": number * 300.0,
            "duration_seconds": seconds,
            "failed": False,
            "status_message": "",
            "attributes": {"sskai.job": JOB_ID},
            "events": [],
            "links": [],
        }
        for number, (service, name, seconds) in enumerate(
            [("gateway", "POST /v1/jobs", 0.02), ("scheduler", "attempt 1", 2220.0), ("trainer", "pod", 2100.0)]
        )
    ],
}
