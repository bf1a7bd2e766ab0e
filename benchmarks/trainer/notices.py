"""From a notice to a durable manifest, and from a process's start to its first new step: one job, sent away again and
again."""

from __future__ import annotations

import argparse
import json
import random
import signal
import statistics
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure, figure
from benchmarks.trainer import model
from benchmarks.trainer.kills import credentials
from services.trainer.domain import Exit
from sskai.local.objectstore import ObjectStore
from sskai.objects import Objects
from tests.trainer.pods import Job, Pod, told

LONGEST_NOTICE_SECONDS = 10.0
LONGEST_RESUME_SECONDS = 20.0
START_LIMIT_SECONDS = 300.0


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--notices", type=int, default=20, help="to the demo's LoRA, one attempt each")


def figures(arguments: argparse.Namespace) -> list[Figure]:
    dice = random.Random(0)
    durable: list[float] = []
    resumed: list[float] = []
    loads: list[float] = []
    with tempfile.TemporaryDirectory() as scratch, ObjectStore.start() as store:
        objects = Objects(store.url, store.bucket, store.credentials.access_key, store.credentials.secret_key)
        folder = model.folder(arguments, Path(scratch))
        rows = [json.loads(row) for row in model.ROWS]
        job = Job(objects, folder.parent, rows=rows, total_steps=100_000, checkpoint_interval_steps=30)
        job.spec.dataset.format = "prompt-completion"
        job.spec.model.model_id, job.spec.model.uri, job.spec.model.rank = folder.name, f"builtin://{folder.name}", 8
        for attempt in range(1, arguments.notices + 1):
            started = time.time()
            pod = Pod(job.settings(attempt), credentials(objects), Path(scratch) / str(attempt))
            pod.wait_for(lambda: "first step" in _moments(pod), START_LIMIT_SECONDS)  # noqa: B023
            moments = _moments(pod)
            if attempt > 1:
                resumed.append(moments["first step"] - started)
                loads.append(moments["base model and data loaded"] - moments["started"])
            time.sleep(dice.random() * 5)
            noticed = time.time()
            pod.process.send_signal(signal.SIGTERM)
            if pod.end() != Exit.DRAINED:
                raise RuntimeError((pod.folder / "pod.log").read_text()[-2000:])
            durable.append(_epoch(told(pod.folder, "CheckpointCommitted")[-1]["at"]) - noticed)
    beyond = [total - load for total, load in zip(resumed, loads, strict=True)]
    how = f"{folder.name}, LoRA, {arguments.notices} notices at random moments of training"
    found = [figure("notice-to-manifest-p99", _p99(durable), "s", LONGEST_NOTICE_SECONDS, "lower", how=how)]
    if beyond:
        loading = f"{how}; model load (start to base model and data in memory) {statistics.median(loads):.1f} s"
        found += [
            figure("resume-beyond-load-max", max(beyond), "s", LONGEST_RESUME_SECONDS, "lower", how=loading),
            figure("resume-p50", statistics.median(resumed), "s", None, "lower", how=loading),
        ]
    return found


def _moments(pod: Pod) -> dict[str, float]:
    """When the pod's log said what, epoch seconds."""
    lines = (line for line in (pod.folder / "pod.log").read_text().splitlines() if line.startswith("{"))
    said: list[dict[str, Any]] = [json.loads(line) for line in lines]
    return {str(one["event"]): _epoch(str(one["timestamp"])) for one in said if "timestamp" in one}


def _epoch(moment: str) -> float:
    return datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp()


def _p99(values: list[float]) -> float:
    """The largest, for fewer than a hundred."""
    return sorted(values)[max(0, round(len(values) * 0.99) - 1)] if len(values) >= 100 else max(values)
