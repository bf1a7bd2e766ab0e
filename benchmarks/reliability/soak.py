"""R1, R5, R13: the chaos of real processes (tests/chaos), then, at rest, one death at a time and a full disk."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from benchmarks.figures import Figure, figure
from benchmarks.gateway.house import ROOT
from tests.chaos.history import percentiles

JOBS, REST_SECONDS = 10_000, 60.0
P50_SECONDS, P99_SECONDS, OUTAGE_SECONDS, ROOM_SECONDS = 2.0, 5.0, 15.0, 10.0
# What an upload may be answered while the disk is full: what fits into pages that were begun is taken.
FULL_ANSWERS = {"201", "503"}


def measure(seconds: float, rounds: int) -> tuple[list[Figure], dict[str, Any]]:
    """`rounds` of each service and store dying alone: a round has six services, two stores and one full disk."""
    command = [sys.executable, "-m", "tests.chaos", "--seconds", str(seconds), "--rounds", str(rounds), "--json"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if not done.stdout:  # with exit code 1 something did not hold, and the report says what
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}, and said nothing: see above")
    report: dict[str, Any] = json.loads(done.stdout)
    return figures(report), report


def figures(report: dict[str, Any]) -> list[Figure]:
    """Of a report of the chaos; what it has no times of has no figure."""
    faults, alone = sum(report["faults"].values()), report["alone"]
    how = f"{report['seconds']:g} s, {faults} faults, seed {report['seed']}"
    found = [
        figure("R1 jobs accepted under chaos", report["jobs"], "jobs", JOBS, "higher", how=how),
        figure("R1 lost", report["lost"], "jobs", 0, "equal", how=how),
        figure("R1 stuck", report["stuck"], "jobs", 0, "equal", how=how),
        figure("R1 invariants broken", len(report["violations"]), "sentences", 0, "equal", how=how),
        figure("R1 at rest after the last fault", report["rest_seconds"], "s", REST_SECONDS, "lower", how=how),
    ]
    kills: dict[str, Any] = percentiles([one for each in alone["kills"].values() for one in each])
    for where, times in (("alone", kills), ("in the storm, other faults between", report["after_kill_seconds"])):
        if times["count"]:
            counted = f"{times['count']} kills -9 to the service's next event"
            found += [
                figure(f"R5 {where}, p50", times["p50"], "s", P50_SECONDS, "lower", how=counted),
                figure(f"R5 {where}, p99", times["p99"], "s", P99_SECONDS, "lower", how=counted),
            ]
    for store, times in alone["outages"].items():
        found.append(figure(f"R5 {store} back after 30 s, longest", max(times), "s", OUTAGE_SECONDS, "lower"))
    if alone["disks"]:
        others = sum(count for status, count in alone["full_answers"].items() if status not in FULL_ANSWERS)
        found += [
            figure("R13 disk full: neither taken nor refused with 503", others, "uploads", 0, "equal"),
            figure(
                "R13 disk has room: to the next one taken, longest", max(alone["disks"]), "s", ROOM_SECONDS, "lower"
            ),
        ]
    return found
