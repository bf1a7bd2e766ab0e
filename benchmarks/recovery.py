"""How fast a job goes on after its machine was taken, and how fast a submitted one gets to run.

`make bench NAME=recovery ARGS="--interruptions 50 --submissions 30"` prints one JSON object; progress goes to standard
error. One long job on the tiny model runs on the embedded stack and is interrupted again and again, with a notice and
by kill -9 in turn. Seconds are counted from the interruption to the first new step. Model load is measured in the same
run for each replacement, from its own log: its first instruction to the base model and data in memory. What is beyond
it is what the system adds; where a replacement loads while the old machine drains, less is added.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure, figure, print_report
from sskai.client import Client, Document
from sskai.demo.observer import Observer
from sskai.local import stack
from sskai.local.cloud.client import CloudClient
from tests import tiny_model

NOTICE_SECONDS = 120.0  # EC2's
CHECKPOINT_INTERVAL_STEPS = 20
NEW_STEPS = 5  # that an attempt makes before it is interrupted, besides a checkpoint of its own
STEP_LIMIT_SECONDS = 300.0
ROWS = 1000  # a thousand epochs of them are more steps than the job will live to make
NOTICE_GOAL_SECONDS, KILL_GOAL_SECONDS, SUBMISSION_GOAL_SECONDS = 6.0, 15.0, 0.4
CHANGES = {"SSKAI_PATIENCE_SECONDS": "2"}  # a market that has machines; nobody waits for spot


@dataclass(frozen=True, slots=True)
class Recovery:
    """One interruption. Seconds; `lost_steps` are those that were told and had to be done again."""

    total: float
    load: float
    launch: float  # from the interruption to the replacement's first instruction
    lost_steps: int

    @property
    def beyond(self) -> float:
        return self.total - self.load


class Bench:
    """One running stack with the tiny model and its dataset."""

    def __init__(self, client: Client, cloud: CloudClient, folder: Path) -> None:
        self._client = client
        self._cloud = cloud
        self._see = Observer(client)
        base = client.models.upload(tiny_model.build(folder / "tiny"), name="tiny-llama")
        data = folder / "orders.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in _rows()))
        dataset = client.datasets.upload(data, name="orders")
        self._job_file = {
            "kind": "finetune",
            "name": "recovery",
            "model": {"base": base["id"], "method": "lora", "rank": 8},
            "dataset": {"uri": f"dataset://{dataset['name']}/{dataset['version']}"},
            "hyperparameters": {"batch_size": 4, "sequence_length": 64, "learning_rate": 1e-4, "n_epochs": 1000},
            "spot_policy": "spot",
            "checkpoint": {"interval": CHECKPOINT_INTERVAL_STEPS, "keep": 2},
        }

    def recoveries(self, count: int) -> dict[str, list[Recovery]]:
        """So many of each kind, in turn."""
        if not count:
            return {}
        job_id = self._client.jobs.create(self._job_file)["id"]
        kinds = {"notice": NOTICE_SECONDS, "kill": 0.0}
        measured: dict[str, list[Recovery]] = {kind: [] for kind in kinds}
        number = 1
        for turn in range(count):
            for kind, notice_seconds in kinds.items():
                one, number = self._interrupt(job_id, number, notice_seconds)
                measured[kind].append(one)
                _say(
                    f"{turn + 1}/{count} {kind}: {one.total:.2f} s, of it load {one.load:.2f} s; {one.lost_steps} lost"
                )
        self._cancel(job_id)
        return measured

    def submissions(self, count: int) -> tuple[list[float], list[float]]:
        """Seconds from the answer to POST /v1/jobs to the pod's process, and from there to its first instruction."""
        running, starting = [], []
        for turn in range(count):
            job_id = self._client.jobs.create(self._job_file)["id"]
            answered_at = time.time()
            machine = _until(lambda: self._cloud.machine_of(job_id), pause_seconds=0.02)  # noqa: B023
            process_at = _began_at(machine["pod"]["pid"])
            (started,) = _until(lambda: self._cloud.said(machine["machine_id"], "started"))  # noqa: B023
            running.append(process_at - answered_at)
            starting.append(started["started_at"] - process_at)
            _say(f"{turn + 1}/{count} submission: a process after {running[-1]:.3f} s")
            self._cancel(job_id)
        return running, starting

    def _interrupt(self, job_id: str, number: int, notice_seconds: float) -> tuple[Recovery, int]:
        """Interrupt the attempt once it works; also returns the number of the one that went on."""
        see: dict[str, Any] = {"job_id": job_id, "limit_seconds": STEP_LIMIT_SECONDS}
        old = self._see.wait("AttemptStarted", attempt=number, **see)
        saved = self._see.wait("CheckpointCommitted", attempt=number, **see)
        self._see.wait(
            "AttemptProgressed",
            attempt=number,
            where=lambda told: told["phase"] == "training" and told.get("step", 0) >= saved["step"] + NEW_STEPS,
            **see,
        )
        interrupted_at = time.time()
        self._cloud.interrupt(old["machine_id"], notice_seconds)
        resumed = self._see.wait("AttemptResumed", where=lambda told: told["attempt"] > number, **see)
        new = self._see.wait("AttemptStarted", attempt=resumed["attempt"], **see)
        if new["machine_id"] == old["machine_id"]:
            raise RuntimeError(f"attempt {resumed['attempt']} ran on the machine that was taken")
        told = [one.get("step", 0) for one in self._see.seen("AttemptProgressed", job_id=job_id, attempt=number)]
        moments = {
            event: _until(lambda: self._cloud.said(new["machine_id"], event))[0]  # noqa: B023
            for event in ("started", "base model and data loaded", "first step")
        }
        started_at = moments["started"]["started_at"]
        return (
            Recovery(
                total=_epoch(moments["first step"]) - interrupted_at,
                load=_epoch(moments["base model and data loaded"]) - started_at,
                launch=started_at - interrupted_at,
                lost_steps=max(0, max(told) - resumed.get("from_step", 0)),
            ),
            int(resumed["attempt"]),
        )

    def _cancel(self, job_id: str) -> None:
        """Also waits until its machine is idle again."""
        self._client.jobs.cancel(job_id)
        self._see.wait("JobCancelled", job_id=job_id, limit_seconds=STEP_LIMIT_SECONDS)
        _until(lambda: (self._cloud.machine_of(job_id) or {"state": "gone"})["state"] == "gone")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--interruptions", type=int, default=50, help="of each kind")
    parser.add_argument("--submissions", type=int, default=30)
    arguments = parser.parse_args()
    with _stack() as bench:
        figures = [
            *(one for kind, all_ in bench.recoveries(arguments.interruptions).items() for one in _recovery(kind, all_)),
            *_submission(*bench.submissions(arguments.submissions)),
        ]
    print_report("recovery", figures)


def _recovery(kind: str, measured: list[Recovery]) -> list[Figure]:
    if not measured:
        return []
    goal = NOTICE_GOAL_SECONDS if kind == "notice" else KILL_GOAL_SECONDS
    means = f"{NOTICE_SECONDS:g} s notice" if kind == "notice" else "kill -9 without notice"
    how = f"{len(measured)} interruptions by {means}, tiny model, {CHECKPOINT_INTERVAL_STEPS} steps between checkpoints"
    beyond = [one.beyond for one in measured]
    totals, loads = [one.total for one in measured], [one.load for one in measured]
    launches = [one.launch for one in measured]
    lost = [one.lost_steps for one in measured]

    def seconds(name: str, value: float, goal: float | None = None, note: str = "") -> Figure:
        return figure(f"{kind}-{name}", value, "s", goal, "lower", how=f"{how}{note}")

    return [
        seconds("to-first-new-step-beyond-load-p50", statistics.median(beyond), note="; total less model load"),
        seconds("to-first-new-step-beyond-load-p99", _p99(beyond), goal, note="; total less model load"),
        seconds("to-first-new-step-p50", statistics.median(totals)),
        seconds("to-first-new-step-p99", _p99(totals)),
        seconds(
            "model-load-p50", statistics.median(loads), note="; the replacement's start to its base model in memory"
        ),
        seconds("model-load-p99", _p99(loads), note="; the replacement's start to its base model in memory"),
        seconds("to-replacement-started-p50", statistics.median(launches)),
        figure(f"{kind}-lost-steps-max", max(lost), "steps", 0 if kind == "notice" else None, "lower", how=how),
    ]


def _submission(running: list[float], starting: list[float]) -> list[Figure]:
    if not running:
        return []
    how = f"{len(running)} submissions, one after the other, on an idle machine; answer of POST /v1/jobs to the process"
    return [
        figure("submission-to-process-p50", statistics.median(running), "s", SUBMISSION_GOAL_SECONDS, "lower", how=how),
        figure("submission-to-process-p99", _p99(running), "s", None, "lower", how=how),
        figure(
            "pod-own-start-p50", statistics.median(starting), "s", None, "lower", how="process to its first instruction"
        ),
    ]


@contextmanager
def _stack() -> Iterator[Bench]:
    before = {name: os.environ.get(name) for name in CHANGES}
    os.environ.update(CHANGES)
    with tempfile.TemporaryDirectory(prefix="sskai-recovery-") as folder:
        Path(folder).chmod(0o755)  # the database runs as a user of its own
        home = Path(folder) / "home"
        try:
            state = stack.up(home, say=_say)
            with Client(state.gateway_url, state.admin_key) as client:
                cloud = CloudClient(state.environment["SSKAI_CLOUD_URL"], state.environment["SSKAI_CLOUD_TOKEN"])
                yield Bench(client, cloud, Path(folder))
        finally:
            stack.down(home, say=_say)
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})


def _rows() -> list[Document]:
    return [
        {
            "messages": [
                {"role": "user", "content": f"Where is my order {number}?"},
                {"role": "assistant", "content": f"Order {number} was shipped and will arrive in {number % 7} days."},
            ]
        }
        for number in range(ROWS)
    ]


def _began_at(pid: int) -> float:
    """When a live process was created, epoch seconds, to a clock tick (10 ms). proc(5): field 22 of its stat."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    booted_at = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    return booted_at + int(fields[19]) / os.sysconf("SC_CLK_TCK")


def _epoch(line: Document) -> float:
    return datetime.fromisoformat(line["timestamp"]).timestamp()


def _until(look: Callable[[], Any], pause_seconds: float = 0.1) -> Any:
    deadline = time.monotonic() + STEP_LIMIT_SECONDS
    while not (found := look()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not seen within {STEP_LIMIT_SECONDS:g} s")
        time.sleep(pause_seconds)
    return found


def _p99(values: list[float]) -> float:
    """Nearest rank: of 50 values the largest."""
    return sorted(values)[math.ceil(0.99 * len(values)) - 1]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
