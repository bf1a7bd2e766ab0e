"""Seeds of the deterministic simulation: R2, R4, R9 and R14, as far as it can show them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from typing import Any

from benchmarks.figures import Figure, figure

SEEDS, SECONDS = 10_000, 600.0  # R14: so many in so much time, on two cores


def measure(seeds: int, workers: int) -> tuple[list[Figure], dict[str, Any]]:
    began = time.monotonic()
    documents = _run(f"1..{seeds}", workers)
    seconds = time.monotonic() - began
    again = {one["seed"]: one["sha256"] for one in _run("1..5", 1)}
    same = sum(again[one["seed"]] == one["sha256"] for one in documents if one["seed"] in again)
    broken: Counter[str] = Counter()
    for one in documents:
        broken.update({text.partition(":")[0] for text in one["violations"]})
    how = f"{seeds} seeds, {sum(one['events'] for one in documents)} events; invariants after every commit"
    in_time = seeds / seconds * SECONDS
    found = [
        figure("R2 seeds with two runners, or an old epoch accepted", broken["I2"], "seeds", 0, "equal", how=how),
        figure("R4 seeds with an effect counted twice", broken["I3"] + broken["I6"], "seeds", 0, "equal", how=how),
        figure("R9 seeds that passed a budget by over 1 %", broken["I5"], "seeds", 0, "equal", how=how),
        figure("R14 seeds in 10 minutes", in_time, "seeds", SEEDS, "higher", how=f"{workers} processes"),
        figure("R14 same seed, same hash", same / len(again) * 100, "%", 100, "equal", how="by another process"),
        figure("seeds with any violation", sum(1 for one in documents if one["violations"]), "seeds", 0, "equal"),
    ]
    return found, {
        "seeds": seeds,
        "seconds": round(seconds, 1),
        "events_per_second": round(sum(one["events"] for one in documents) / seconds, 1),
        "statements": sum(one["statements"] for one in documents),
        "ends": dict(sum((Counter(one["ends"]) for one in documents), Counter())),
        "violated": {one["seed"]: one["violations"] for one in documents if one["violations"]},
    }


def _run(seeds: str, workers: int) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "simulation", "--seeds", seeds, "--json", "--workers", str(workers)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
    if done.returncode not in (0, 1):
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}")
    return [json.loads(line) for line in done.stdout.splitlines()]
