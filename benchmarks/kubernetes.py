"""What a job notices on a real Kubernetes of a scheduler that is killed, and of a node that is removed.

`make bench NAME=kubernetes ARGS="--jobs 200 --per-second 20 --kills 10 --nodes 100"` prints one JSON object; progress
goes to standard error. etcd, kube-apiserver, controller-manager and scheduler are built by `tools/goparts`; kwok stands
for kubelets (`tests/real/kubernetes.py`). Two replicas of our scheduler with PostgreSQL and Kafka take the jobs; one
that is killed is started again at once. Which Jobs there were is read from the API's own watch, and so is when.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.figures import Figure, figure, print_report
from sskai import broker_admin, contract
from sskai.local.kafka import Kafka
from sskai.local.postgres import Postgres
from sskai.testing import wait_for
from tests.real.kubernetes import Kubernetes, Thing
from tests.real.namespace import Namespace
from tests.real.scheduling import Scheduling, scheduling

REPLICAS = 2
NEXT_ATTEMPT_GOAL_SECONDS = 3.0
LAUNCH_LIMIT_SECONDS = 300.0  # more than two leases of a scheduler that was killed
SECONDS_BETWEEN_NODES = 0.5


@dataclass(frozen=True, slots=True)
class Launches:
    """`waits`: seconds from each submission to its Job. `kills` were spread over `submitting_seconds`."""

    waits: list[float]
    duplicates: int
    kills: int
    submitting_seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--per-second", type=float, default=20)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--nodes", type=int, default=100, help="that are removed, one after the other")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sskai-bench-") as folder:
        Path(folder).chmod(0o755)  # the database runs as a user of its own
        figures = asyncio.run(_run(Path(folder), arguments))
    print_report("kubernetes", figures)


async def _run(folder: Path, arguments: argparse.Namespace) -> list[Figure]:
    with Kubernetes.start() as plane, Kafka.start() as broker, Postgres.start() as server:
        await broker_admin.create_topics(broker.bootstrap, contract.TOPICS)
        _say("Kubernetes, Kafka and PostgreSQL are up")
        namespace = Namespace(plane)
        async with scheduling(folder, broker.bootstrap, server.url, namespace, replicas=REPLICAS) as world:
            launches, job_ids = await _launch(world, arguments)
            await _all_run(world, job_ids)
            nexts = await _remove_nodes(world, job_ids[: arguments.nodes])
    return [*_launch_figures(launches, arguments), *_node_figures(nexts)]


async def _launch(world: Scheduling, arguments: argparse.Namespace) -> tuple[Launches, list[str]]:
    """Submit at an even pace while replicas are killed; then wait until each job has its Job."""
    seconds = arguments.jobs / arguments.per_second
    killing = asyncio.create_task(_kill(world, arguments.kills, seconds, random.Random(arguments.seed)))
    submitted: dict[str, float] = {}
    began = time.monotonic()
    for number in range(arguments.jobs):
        await asyncio.sleep(max(0.0, began + number / arguments.per_second - time.monotonic()))
        at = time.monotonic()
        submitted[await world.submit()] = at
    submitting_seconds = time.monotonic() - began
    kills = await killing
    _say(f"{len(submitted)} submitted in {submitting_seconds:.1f} s; {kills} kills; {len(world.jobs.created)} Jobs")
    await wait_for(
        lambda: submitted.keys() <= {one.job_id for one in list(world.jobs.created)},
        limit_seconds=LAUNCH_LIMIT_SECONDS,
        pause_seconds=0.2,
    )
    created = {job_id: world.jobs.of(job_id) for job_id in submitted}
    waits = [created[job_id][0].at - at for job_id, at in submitted.items()]
    # Nothing has ended: a second Job of a job, of the same attempt or of another, is one too many.
    duplicates = sum(len(jobs) - 1 for jobs in created.values())
    return Launches(waits, duplicates, kills, submitting_seconds), [*submitted]


async def _kill(world: Scheduling, kills: int, seconds: float, dice: random.Random) -> int:
    """kill -9 of a replica that works, so often within so many seconds, or as soon after as there is one."""
    began = time.monotonic()
    for moment in sorted(dice.uniform(0, seconds) for _ in range(kills)):
        await asyncio.sleep(max(0.0, began + moment - time.monotonic()))
        await asyncio.to_thread(dice.choice(await world.at_work()).kill)
    return kills


async def _all_run(world: Scheduling, job_ids: Sequence[str]) -> None:
    """Every pod runs on a node of its own, and both replicas serve."""

    async def running() -> list[Thing]:
        pods = await asyncio.to_thread(world.namespace.pods)
        found = [one for one in pods if one["status"].get("phase") == "Running"]
        return found if len(found) >= len(job_ids) and len(await world.at_work()) == REPLICAS else []

    pods: list[Thing] = await wait_for(running, limit_seconds=LAUNCH_LIMIT_SECONDS, pause_seconds=0.5)
    _say(f"{len(pods)} pods run")


async def _remove_nodes(world: Scheduling, job_ids: Sequence[str]) -> list[float]:
    """Seconds from each node's removal to the Job of the next attempt."""
    removed: dict[str, tuple[float, int]] = {}
    for job_id in job_ids:
        newest = max(world.jobs.of(job_id), key=lambda one: one.attempt)
        node = await world.node_of(newest.name)
        at = time.monotonic()
        await asyncio.to_thread(world.namespace.remove_node, node)
        removed[job_id] = (at, newest.attempt + 1)
        await asyncio.sleep(SECONDS_BETWEEN_NODES)
    _say(f"{len(removed)} nodes removed")

    def next_attempts() -> dict[str, float]:
        found = {
            one.job_id: one.at - removed[one.job_id][0]
            for one in list(world.jobs.created)
            if one.job_id in removed and one.attempt == removed[one.job_id][1]
        }
        return found if len(found) == len(removed) else {}

    return [*(await wait_for(next_attempts, limit_seconds=LAUNCH_LIMIT_SECONDS, pause_seconds=0.2)).values()]


def _launch_figures(launches: Launches, arguments: argparse.Namespace) -> list[Figure]:
    how = (
        f"{len(launches.waits)} jobs submitted at {len(launches.waits) / launches.submitting_seconds:.1f} a second to "
        f"{REPLICAS} replicas, {launches.kills} kill -9 meanwhile; leases as in production"
    )
    return [
        figure("jobs-launched", len(launches.waits), "Jobs", arguments.jobs, "equal", how=how),
        figure("duplicate-jobs", launches.duplicates, "Jobs", 0, "equal", how=how),
        figure("kills", launches.kills, "kills", arguments.kills, "equal", how=how),
        figure("submission-to-job-p50", _percentile(launches.waits, 50), "s", None, "lower", how=how),
        figure("submission-to-job-longest", max(launches.waits), "s", None, "lower", how=how),
    ]


def _node_figures(nexts: Sequence[float]) -> list[Figure]:
    how = (
        f"{len(nexts)} nodes removed, one every {SECONDS_BETWEEN_NODES:g} s; until the API tells the next attempt's Job"
    )
    return [
        figure("node-removed-to-next-job-p50", _percentile(nexts, 50), "s", None, "lower", how=how),
        figure(
            "node-removed-to-next-job-p99", _percentile(nexts, 99), "s", NEXT_ATTEMPT_GOAL_SECONDS, "lower", how=how
        ),
    ]


def _percentile(values: Sequence[float], percent: int) -> float:
    """The smallest value that so many per cent of them do not exceed."""
    return sorted(values)[max(0, -(-len(values) * percent // 100) - 1)]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
