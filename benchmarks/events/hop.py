"""One event's way from the outbox commit of a service to the commit of the next service's handler, at 100 a second."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np

from benchmarks.events.parts import LOOK_SECONDS, Parts, cpu_seconds, process, say
from benchmarks.figures import Figure, figure
from sskai.local.processes import wait_until

GOAL_P50_MILLISECONDS, GOAL_P99_MILLISECONDS = 15, 80
LIMIT_SECONDS = 30


def measure(around: Parts, per_second: float, seconds: float) -> dict[str, Any]:
    told_file, handled_file = around.folder / "told.json", around.folder / "heard.json"
    # The receiver outlives the teller: what is on its way arrives.
    with (
        process(around, "receiver", handled_file) as receiver,
        process(around, "teller", told_file, per_second, seconds) as teller,
    ):
        watched = {"teller": teller, "receiver": receiver, "postgres": around.database, "kafka": around.broker}
        before = {name: cpu_seconds(one) for name, one in watched.items()}
        begun = time.monotonic()
        if not wait_until(told_file.exists, seconds + LIMIT_SECONDS, LOOK_SECONDS):
            raise TimeoutError(f"not told within {seconds + LIMIT_SECONDS:g} s: see {around.folder}/teller.log")
        cpu = {name: cpu_seconds(one) - before[name] for name, one in watched.items()}
        took = time.monotonic() - begun
        told = dict(json.loads(told_file.read_text()))
        handled = "SELECT coalesce(sum(handled), 0) FROM optimizer.effects"
        # What is missing then is lost.
        wait_until(lambda: around.ask(handled) >= max(told) + 1, LIMIT_SECONDS, LOOK_SECONDS)
    heard: dict[int, float] = dict(json.loads(handled_file.read_text()))
    took_each = np.array([heard[number] - at for number, at in told.items() if number in heard]) * 1e3
    found = {
        "per_second": per_second,
        "events": len(told),
        "lost": len(told) - len(took_each),
        **{f"p{p}_milliseconds": round(float(np.percentile(took_each, p)), 2) for p in (50, 90, 99)},
        "max_milliseconds": round(float(took_each.max()), 2),
        "cpu_milliseconds_each": {name: round(used / took / per_second * 1e3, 3) for name, used in cpu.items()},
    }
    say(f"hop: {json.dumps(found)}")
    return found


def figures(found: dict[str, Any]) -> list[Figure]:
    how = f"{found['events']} events at {found['per_second']:g}/s, committed in one service until committed in the next"
    return [
        figure(f"hop_{name}_milliseconds", found[f"{name}_milliseconds"], "ms", goal, "lower", how=how)
        for name, goal in (("p50", GOAL_P50_MILLISECONDS), ("p99", GOAL_P99_MILLISECONDS))
    ] + [figure("hop_events_lost", found["lost"], "events", 0, "equal", how=how)]
