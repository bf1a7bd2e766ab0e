"""A thousand streams of one tenant, each of which gets every event: how long after its commit, and at what memory.

Events are logged by a process of its own, as another gateway would, so what handling them costs is not in the figures.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import numpy as np

from benchmarks.figures import Figure, figure
from benchmarks.gateway.house import LIMIT_SECONDS, ROOT, Parts, Resident, gateway, load, say

GOAL_P99_MILLISECONDS, GOAL_MIB = 500, 300
TENANT = "tenant_streams"


def measure(around: Parts, streams: int, per_second: float, seconds: float) -> dict[str, Any]:
    events = int(per_second * seconds)
    with gateway(around, SSKAI_MAX_EVENT_STREAMS_PER_TENANT=str(streams)) as house, Resident(house.process) as all_of:
        form = json.dumps({"name": "streams", "tenant_id": TENANT}).encode()
        key = house.request("POST", "/v1/keys", form)["key"]
        came = around.folder / "came.npz"
        options = [house.url, key, str(streams), str(events), str(came)]
        command = [sys.executable, "-m", "benchmarks.gateway.subscribers", *options]
        listening = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True
        )
        assert listening.stdout is not None
        if listening.stdout.readline() != "ready\n":
            raise RuntimeError("the streams could not be opened: see above")
        with Resident(house.process) as under_load:
            told = load("producer", house.database_url, TENANT, per_second, seconds)
            heard = json.loads(listening.communicate(timeout=LIMIT_SECONDS)[0])
    with np.load(came) as arrays:
        milliseconds = (arrays["came_at"] - np.array(told.pop("at"))[arrays["numbers"]]) * 1e3
    found = {
        **heard,
        **{f"p{share}_milliseconds": round(float(np.percentile(milliseconds, share)), 1) for share in (50, 90, 99)},
        "max_milliseconds": round(float(milliseconds.max()), 1),
        "told": told,
        "idle_mib": round(all_of.before_mib, 1),
        "connected_mib": round(under_load.before_mib, 1),
        "peak_mib": round(all_of.peak_mib, 1),
        "cpu_share": round(under_load.cpu_seconds / seconds, 3),
    }
    say(f"streams: {json.dumps(found)}")
    return found


def figures(found: dict[str, Any]) -> list[Figure]:
    told = found["told"]
    how = f"{found['streams']} streams of one tenant, {told['events']} events at {told['per_second']:g}/s"
    missing = found["streams"] * told["events"] - found["delivered"] + found["pieces_that_differ"]
    return [
        figure("delivery_p50_milliseconds", found["p50_milliseconds"], "ms", None, "lower", how=how),
        figure("delivery_p99_milliseconds", found["p99_milliseconds"], "ms", GOAL_P99_MILLISECONDS, "lower", how=how),
        figure("streams_peak_resident", found["peak_mib"], "MiB", GOAL_MIB, "lower", how=how),
        figure("deliveries_missing_or_different", missing, "events", 0, "equal", how=how),
    ]
