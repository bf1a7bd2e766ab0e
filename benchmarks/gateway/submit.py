"""How soon a job is accepted for good: its row, its event and both in one commit of a database that syncs.

Also what the gateway does about its own submissions is in these seconds: the outbox goes to the broker, the event comes
back and is logged. Nothing ends the jobs, and no tenant has more of them than the usual limit allows. The peer is the
floor: one INSERT by the same libraries, in the same run.
"""

from __future__ import annotations

import json
import math
import sys
from typing import Any

import numpy as np

from benchmarks.figures import Figure, figure
from benchmarks.gateway.house import KEY, House, Parts, Resident, gateway, load, say, serving

GOAL_P50_MILLISECONDS, GOAL_P99_MILLISECONDS = 10, 60
WARM_SECONDS = 3
JOBS_OF_A_TENANT = 900  # the limit is 1,000
ROWS = [{"prompt": f"{n}?", "completion": f"{n}!"} for n in range(20)]


def measure(around: Parts, per_second: float, seconds: float) -> dict[str, Any]:
    bare = [sys.executable, "-m", "benchmarks.gateway.bare"]
    found = {}
    with serving(around, bare, "/ready") as house:
        found["bare"] = _measured(house, per_second, seconds, [KEY])
    with gateway(around) as house:
        tenants = math.ceil(per_second * (seconds + WARM_SECONDS) / JOBS_OF_A_TENANT)
        found["gateway"] = _measured(house, per_second, seconds, [_tenant(house, number) for number in range(tenants)])
    say(f"submit: {json.dumps(found)}")
    return {"per_second": per_second, "seconds": seconds, "tenants": tenants, **found}


def _tenant(house: House, number: int) -> str:
    """Its key; it has a dataset."""
    wanted = json.dumps({"name": "bench", "tenant_id": f"tenant_{number}"}).encode()
    key = str(house.request("POST", "/v1/keys", wanted)["key"])
    rows = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    house.request("POST", "/v1/datasets?name=support", rows, "application/jsonl", key=key)
    return key


def _measured(house: House, per_second: float, seconds: float, keys: list[str]) -> dict[str, float]:
    load("submitter", house.url, per_second, WARM_SECONDS, *keys)  # connections, caches
    with Resident(house.process) as resident:
        told = load("submitter", house.url, per_second, seconds, *keys)
    took = np.array(told["milliseconds"])
    return {
        "submitted": len(took),
        "refused": len(told["wrong"]),
        "p50_milliseconds": round(float(np.percentile(took, 50)), 2),
        "p90_milliseconds": round(float(np.percentile(took, 90)), 2),
        "p99_milliseconds": round(float(np.percentile(took, 99)), 2),
        "max_milliseconds": round(float(took.max()), 2),
        "cpu_milliseconds_each": round(resident.cpu_seconds / len(took) * 1e3, 2),
        "peak_mib": round(resident.peak_mib, 1),
    }


def figures(found: dict[str, Any]) -> list[Figure]:
    ours, bare = found["gateway"], found["bare"]
    how = (
        f"POST /v1/jobs at {found['per_second']:g}/s for {found['seconds']:g} s by {found['tenants']} tenants, "
        "from the moment it was due"
    )
    return [
        figure(
            f"submission_{name}_milliseconds",
            ours[f"{name}_milliseconds"],
            "ms",
            goal,
            "lower",
            peer={"name": "a bare route with one INSERT", "value": bare[f"{name}_milliseconds"]},
            how=how,
        )
        for name, goal in (("p50", GOAL_P50_MILLISECONDS), ("p99", GOAL_P99_MILLISECONDS))
    ] + [figure("submissions_refused", ours["refused"], "requests", 0, "equal", how=how)]
