"""Several workers: two against one on two cores, and one of them killed in the middle.

Attempts of the tests' tiny Llama as real processes over gloo, each worker on one thread.
Both have the same batch; the curve's tolerance is the one that services/trainer/README.md states.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path

import psutil

from benchmarks.figures import Figure, figure
from services.trainer.domain import Exit
from sskai.local.objectstore import ObjectStore
from sskai.objects import Objects
from tests import tiny_model
from tests.trainer.pods import Job, Pod, curve

STEPS = 60
TOLERANCE = 100  # millionths of a nat
FIRST_STEPS = 5  # left out of the speed: caches and buffers are made


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workers-steps", type=int, default=STEPS, help="of each of the three runs")
    parser.add_argument("--workers-batch", type=int, default=16)


def figures(arguments: argparse.Namespace) -> list[Figure]:
    """Three runs: one worker, two, and two of which one is killed."""
    plan = {"total_steps": arguments.workers_steps, "batch_size": arguments.workers_batch}
    with tempfile.TemporaryDirectory() as name, ObjectStore.start() as store:
        folder = Path(name)
        tiny_model.build(folder / "models" / "tiny")
        objects = Objects(store.url, store.bucket, store.credentials.access_key, store.credentials.secret_key)
        credentials = {
            "SSKAI_OBJECTS_URL": store.url,
            "SSKAI_OBJECTS_BUCKET": store.bucket,
            "SSKAI_OBJECTS_ACCESS_KEY": store.credentials.access_key,
            "SSKAI_OBJECTS_SECRET_KEY": store.credentials.secret_key,
        }

        def start(case: str, workers: int) -> Pod:
            job = Job(objects, folder / "models", **plan)
            return Pod(job.settings(lora_dropout=0.0, trainer_workers=workers), credentials, folder / case)

        one = _ended(start("one", 1))
        two = _ended(start("two", 2))
        disturbed = start("disturbed", 2)
        disturbed.wait_for_step(plan["total_steps"] // 2)
        children = psutil.Process(disturbed.process.pid).children()
        next(each for each in reversed(children) if "services.trainer.pod" in each.cmdline()).kill()
        ended = _ended(disturbed)
        alone = curve(one)
        return [
            figure(
                "two workers' tokens per second over one's",
                _tokens_per_second(two) / _tokens_per_second(one),
                "times",
                1.0,
                "higher",
                how="median step after the first five, one thread a worker, tiny Llama, same batch",
                peer={"one_worker_tokens_per_second": round(_tokens_per_second(one), 1)},
            ),
            figure(
                "largest difference of a step's loss, two workers",
                _apart(curve(two), alone),
                "millionths of a nat",
                TOLERANCE,
                "lower",
            ),
            figure(
                "largest difference of a step's loss, a worker killed in the middle",
                _apart(curve(ended), alone),
                "millionths of a nat",
                TOLERANCE,
                "lower",
                how="kill -9 to one of two at half of the steps; the run ended by itself, with all its steps",
            ),
        ]


def _ended(pod: Pod) -> Path:
    code = pod.end(600)
    if code != Exit.DONE:
        raise RuntimeError(f"exit code {code}: {(pod.folder / 'pod.log').read_text()[-2000:]}")
    return pod.folder


def _tokens_per_second(folder: Path) -> float:
    steps = [json.loads(line) for line in (folder / "losses.jsonl").read_text().splitlines()][FIRST_STEPS:]
    return float(statistics.median(step["tokens"] / step["seconds"] for step in steps))


def _apart(losses: list[float], others: list[float]) -> float:
    return 1e6 * max(abs(one - other) for one, other in zip(losses, others, strict=True))
