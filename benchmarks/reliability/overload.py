"""R12: ten times the load that one gateway is meant for, and afterwards the load that it is meant for.

What is refused says so with a status of its own and when to come back; memory stays bounded; what was acknowledged is
there. How fast a backlog drains is measured as `make bench NAME=events ARGS=saturation` does, with 10,000 events.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import numpy as np
import psycopg

from benchmarks.events import saturation
from benchmarks.events.parts import parts as parts_of_events
from benchmarks.figures import Figure, figure
from benchmarks.gateway.house import House, Resident, gateway, load, parts
from benchmarks.gateway.submit import ROWS
from sskai.database import plain_url

USUAL_PER_SECOND, TIMES = 50.0, 10
GOAL_P99_MILLISECONDS, GOAL_MIB, GOAL_DRAINED_PER_SECOND = 100, 512, 200
BACKLOG = 10_000


def measure(seconds: float) -> tuple[list[Figure], dict[str, Any]]:
    with parts() as around, gateway(around, SSKAI_MAX_ACTIVE_JOBS_PER_TENANT="1000000") as house:
        rows = "".join(json.dumps(row) + "\n" for row in ROWS)
        house.request("POST", "/v1/datasets?name=support", rows.encode(), "application/jsonl")
        load("submitter", house.url, USUAL_PER_SECOND, 3)  # connections, caches
        already = _jobs(house)
        with Resident(house.process) as resident:
            above = load("submitter", house.url, USUAL_PER_SECOND * TIMES, seconds)
            usual = load("submitter", house.url, USUAL_PER_SECOND, seconds)
        stored = _jobs(house) - already
        alive = house.process.is_running()
    with parts_of_events() as around_events:
        drained = saturation.measure(around_events, 1, BACKLOG)
    taken = [sum(1 for _ in one["milliseconds"]) - len(one["wrong"]) for one in (above, usual)]
    statuses = Counter(above["wrong"] + usual["wrong"])
    p99 = float(np.percentile(usual["milliseconds"], 99))
    how = f"POST /v1/jobs at {USUAL_PER_SECOND * TIMES:g}/s for {seconds:g} s, then at {USUAL_PER_SECOND:g}/s"
    impolite = above["silent"] + usual["silent"]
    figures = [
        figure("R12 refused without 429 or 503 and Retry-After", impolite, "requests", 0, "equal", how=how),
        figure("R12 acknowledged and not stored", sum(taken) - stored, "jobs", 0, "equal", how=how),
        figure("R12 gateway's peak memory", resident.peak_mib, "MiB", GOAL_MIB, "lower", how=how),
        figure("R12 gateways that ended", 0 if alive else 1, "processes", 0, "equal", how=how),
        figure("R12 acknowledged at the usual load, p99", p99, "ms", GOAL_P99_MILLISECONDS, "lower", how=how),
        figure(
            "R12 backlog drained",
            drained["per_second"],
            "1/s",
            GOAL_DRAINED_PER_SECOND,
            "higher",
            how=f"{BACKLOG} events that waited, one process",
        ),
    ]
    return figures, {
        "acknowledged": {"above": taken[0], "usual": taken[1]},
        "refused": {str(status): count for status, count in sorted(statuses.items())},
        "above_p50_milliseconds": round(float(np.median(above["milliseconds"])), 1),
        "above_p99_milliseconds": round(float(np.percentile(above["milliseconds"], 99)), 1),
    }


def _jobs(house: House) -> int:
    with psycopg.connect(plain_url(house.database_url)) as connection:
        row = connection.execute("SELECT count(*) FROM gateway.jobs").fetchone()
    return int(row[0]) if row else 0
