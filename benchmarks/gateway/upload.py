"""A large dataset comes in, is checked row by row and stored: what the gateway's memory is meanwhile.

Each size has a gateway of its own: memory that a process has given back to its allocator stays resident.
"""

from __future__ import annotations

import json
from typing import Any

from benchmarks.figures import Figure, figure
from benchmarks.gateway.house import Parts, Resident, gateway, load, say

SMALL_BYTES = 100_000_000
GOAL_RATIO = 1.2


def measure(around: Parts, gigabytes: float) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, size in (("small", SMALL_BYTES), ("large", int(gigabytes * 1e9))):
        with gateway(around) as house:
            with Resident(house.process) as resident:
                answer = load("uploader", house.url, f"bench-{name}", size)
            found[name] = {
                **answer,
                "megabytes_per_second": round(answer["bytes"] / answer["seconds"] / 1e6, 1),
                "idle_mib": round(resident.before_mib, 1),
                "peak_mib": round(resident.peak_mib, 1),
            }
        say(f"upload: {json.dumps(found[name])}")
    return found


def figures(found: dict[str, Any]) -> list[Figure]:
    small, large = found["small"], found["large"]
    how = f"POST /v1/datasets, {large['bytes']:,} bytes in {large['rows']:,} rows, against {small['bytes']:,} bytes"
    ratio = large["peak_mib"] / small["peak_mib"]
    return [
        figure("upload_peak_resident_ratio", ratio, "ratio", GOAL_RATIO, "lower", how=how),
        figure("upload_peak_resident", large["peak_mib"], "MiB", None, "lower", how=how),
        figure("upload_above_idle", large["peak_mib"] - large["idle_mib"], "MiB", None, "lower", how=how),
        figure("upload_speed", large["megabytes_per_second"], "MB/s", None, "higher", how=how),
    ]
