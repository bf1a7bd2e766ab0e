"""R2, R6, R7, R8, R10: figures of the scheduler's and the trainer's own benchmarks, held against these goals."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

from benchmarks.figures import Figure, figure
from benchmarks.gateway.house import ROOT

LIMIT_SECONDS = 3 * 3600


@dataclass(frozen=True)
class Quoted:
    """A figure of another benchmark, under its name there, and our goal for it; None: theirs, if it depends on how much
    was done."""

    theirs: str
    name: str
    goal: float | None
    better: str = "equal"


SCHEDULER = (
    Quoted("attempts-of-one-job-writing-at-once", "R2 attempts of one job that wrote at once", 0),
    Quoted("orphans-gone-after", "R6 last orphan gone after the faults", 60, "lower"),
    Quoted("relaunches-after-failed-status-calls", "R10 relaunches after 25 failed status calls", 0),
)
TRAINER = (
    Quoted("notice-to-manifest-p99", "R7 notice to durable manifest, p99", 30, "lower"),
    Quoted("partial-checkpoints-loaded", "R8 partial checkpoints loaded", 0),
    Quoted("intervals-lost-at-most", "R8 intervals lost at most", 1, "lower"),
    Quoted("kills-that-changed-no-bit", "R8 kills in training that changed no bit", None),
)


def measure(faults: int) -> tuple[list[Figure], dict[str, Any]]:
    """`faults`: to the scheduler, and twice as many kills inside saves."""
    found = _of("benchmarks.scheduler_chaos", ["--faults", str(faults)], SCHEDULER)
    kills = ["kills", "notices", "--kills", str(2 * faults), "--training-kills", str(max(1, faults // 10))]
    found += _of("benchmarks.trainer", kills, TRAINER)
    return found, {"faults": faults}


def _of(module: str, arguments: list[str], quoted: tuple[Quoted, ...]) -> list[Figure]:
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True, timeout=LIMIT_SECONDS)
    told = {one["name"]: one for one in json.loads(done.stdout)["figures"]}
    figures = []
    for one in quoted:
        theirs = told[one.theirs]
        goal = theirs["goal"] if one.goal is None else one.goal
        figures.append(figure(one.name, theirs["value"], theirs["unit"], goal, one.better, how=theirs["how"]))
    return figures
