"""kill -9 inside saves, and kill -9 anywhere in training: what is loaded afterwards, what is lost, what comes out."""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from benchmarks.figures import Figure, figure
from sskai.contract import new_id
from sskai.local.objectstore import ObjectStore
from sskai.objects import Objects
from tests import tiny_model
from tests.trainer import kills
from tests.trainer.pods import Job, Pod, curve

ADAPTER = "adapter_model.safetensors"
LONGEST_LIFE_SECONDS = 4.0  # after an attempt's first step
PLAN = {"checkpoint_interval_steps": 10}


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kills", type=int, default=1000, help="inside saves")
    parser.add_argument("--megabytes", type=float, default=16.0, help="of a checkpoint in kills")
    parser.add_argument("--training-kills", type=int, default=50, help="anywhere in a job's training")
    parser.add_argument("--job-steps", type=int, default=12_000, help="of the job that is killed in training")


def figures(arguments: argparse.Namespace) -> list[Figure]:
    with tempfile.TemporaryDirectory() as scratch, ObjectStore.start() as store:
        objects = Objects(store.url, store.bucket, store.credentials.access_key, store.credentials.secret_key)
        found = []
        if arguments.kills:
            found += _inside_saves(arguments, objects)
        if arguments.training_kills:
            found += _in_training(arguments, objects, Path(scratch))
        return found


def _inside_saves(arguments: argparse.Namespace, objects: Objects) -> list[Figure]:
    shown = kills.inside_saves(objects, new_id("job"), arguments.kills, megabytes=arguments.megabytes)
    how = (
        f"{shown.kills} kills of a process that saves in a loop, {shown.inside_a_save} of them inside a save of "
        f"{arguments.megabytes:g} MB; half of them take its writer in the same moment"
    )
    return [
        figure("partial-checkpoints-loaded", shown.partial, "checkpoints", 0, "equal", how=how),
        figure("intervals-lost-at-most", shown.most_lost, "intervals", 1, "lower", how=how),
    ]


def _in_training(arguments: argparse.Namespace, objects: Objects, scratch: Path) -> list[Figure]:
    tiny_model.build(scratch / "models" / "tiny")
    plan = PLAN | {"total_steps": arguments.job_steps}
    undisturbed, job = (Job(objects, scratch / "models", **plan) for _ in range(2))
    _end(Pod(undisturbed.settings(), credentials(objects), scratch / "undisturbed"))
    dice, killed, attempt = random.Random(0), 0, 0
    while True:
        attempt += 1
        pod = Pod(job.settings(attempt), credentials(objects), scratch / str(attempt))
        if killed == arguments.training_kills:
            _end(pod)
            break
        # The curve of a resumed attempt begins with its predecessors'.
        pod.wait_for(lambda: '"first step"' in (pod.folder / "pod.log").read_text() or pod.process.poll() is not None)  # noqa: B023
        time.sleep(dice.random() * LONGEST_LIFE_SECONDS)
        pod.process.kill()
        killed += pod.end() != 0
        if pod.process.returncode == 0:
            break  # it was done before: too few steps for so many kills
    same = job.artifact(attempt, ADAPTER) == undisturbed.artifact(1, ADAPTER)
    same = same and curve(pod.folder) == curve(scratch / "undisturbed")
    how = f"{killed} kill -9 at random moments of {arguments.job_steps} steps; curve and adapter compared bit for bit"
    held = killed if same else 0
    return [figure("kills-that-changed-no-bit", held, "kills", arguments.training_kills, "equal", how=how)]


def _end(pod: Pod) -> None:
    code = pod.end(limit_seconds=3600)
    if code != 0:
        raise RuntimeError(f"exit {code}: {(pod.folder / 'pod.log').read_text()[-2000:]}")


def credentials(objects: Objects) -> dict[str, str]:
    return {f"SSKAI_OBJECTS_{name.upper()}": value for name, value in asdict(objects.access).items()}
