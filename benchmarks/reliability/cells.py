"""R3: the crash matrix (tests/reliability) in several processes: every crossing of a life, times all that can go wrong.

`python -m benchmarks.reliability.cells DATABASE_URL OBJECTS SHARE OF` runs each OF-th cell and prints what is wrong.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure, figure
from benchmarks.gateway.house import ROOT, say
from sskai import failpoints
from sskai.local.objectstore import ObjectStore
from sskai.local.postgres import Postgres
from sskai.objects import Objects
from tests.reliability.job_life import job_life
from tests.reliability.matrix import Matrix, cells
from tests.reliability.notices_life import notices_life
from tests.reliability.stage import Stage
from tests.trainer.test_service import publish

GOAL_SECONDS = 300.0
PROCESSES = 4  # on two cores: what hangs is waited for


def measure() -> tuple[list[Figure], dict[str, Any]]:
    began = time.monotonic()
    with ExitStack() as stack:
        postgres = stack.enter_context(Postgres.start())
        store = stack.enter_context(ObjectStore.start())
        address = [store.url, store.bucket, store.credentials.access_key, store.credentials.secret_key]
        command = [sys.executable, "-m", "benchmarks.reliability.cells", postgres.url, json.dumps(address)]
        shares = [[*command, str(share), str(PROCESSES)] for share in range(PROCESSES)]
        # In threads: a process whose output nobody reads stands still once the pipe is full.
        told = list(stack.enter_context(ThreadPoolExecutor(PROCESSES)).map(_told, shares))
    seconds = time.monotonic() - began
    ran, wrong = sum(one["ran"] for one in told), [line for one in told for line in one["wrong"]]
    crossed = {point for one in told for point in one["points"]}
    how = f"{ran} cells of {told[0]['places']} crossings, each a whole life, {PROCESSES} processes"
    figures = [
        figure("R3 cells that do not end as without a fault", len(wrong), "cells", 0, "equal", how=how),
        figure("R3 the whole matrix", seconds, "s", GOAL_SECONDS, "lower", how=how),
    ]
    registered = {point for point in failpoints.points() if not point.startswith("example.")}
    return figures, {"wrong": wrong[:50], "points crossed": sorted(crossed), "of registered": len(registered)}


def _told(command: list[str]) -> dict[str, Any]:
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def _share(url: str, objects: Objects, share: int, of: int) -> dict[str, Any]:
    found: dict[str, Any] = {"ran": 0, "wrong": [], "places": 0, "points": []}
    stage = Stage(url)
    with tempfile.TemporaryDirectory(prefix="sskai-matrix-") as folder:
        artifact_uri = publish(objects, Path(folder), f"job_{share}")
        for life in (job_life(objects, artifact_uri), notices_life):
            matrix = Matrix(stage, life)
            oracle, places = matrix.oracle()
            found["places"] += len(places)
            found["points"] += sorted({place.partition(">")[2] for place in places})
            for number, cell in enumerate(cells(places)):
                if number % of != share:
                    continue
                found["ran"] += 1
                try:
                    state = matrix.run(cell)
                    problem = "" if state == oracle else f"ends as {state}"
                except AssertionError as error:
                    problem = str(error)
                if problem:
                    found["wrong"].append(f"{cell}: {problem}")
                    say(f"matrix: {cell}: {problem[:300]}")
                if found["ran"] % 25 == 0:
                    say(f"matrix {share}: {found['ran']} cells, {len(found['wrong'])} wrong")
    stage.close()
    return found


if __name__ == "__main__":
    database_url, address, share, of = sys.argv[1:]
    print(json.dumps(_share(database_url, Objects(*json.loads(address)), int(share), int(of))))
