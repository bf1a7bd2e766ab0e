"""Training throughput beside transformers.Trainer and trl's SFTTrainer, and what packing adds."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from benchmarks.figures import Figure, figure
from benchmarks.trainer import model

PACKING_GOAL = 1.3


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=3, help="of alternating runs")
    parser.add_argument("--throughput-steps", type=int, default=12, help="of each run, besides the first")


def figures(arguments: argparse.Namespace) -> list[Figure]:
    """Alternating runs, each in a process of its own; medians."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = model.folder(arguments, Path(scratch))
        return _figures(folder, arguments.rounds, arguments.throughput_steps)


def _figures(folder: Path, rounds: int, steps: int) -> list[Figure]:
    speeds: dict[str, list[float]] = defaultdict(list)
    targets: dict[str, list[float]] = defaultdict(list)
    for turn in range(rounds):
        for way in ("ours", "trainer", "sft", "packed"):
            measured = _measured(way, folder, steps)
            speeds[way].append(measured["tokens_per_second"])
            targets[way].append(measured["targets_per_second"])
            print(f"{turn + 1}/{rounds} {way}: {speeds[way][-1]:.1f} tokens/s", file=sys.stderr, flush=True)
    ours, ours_targets = statistics.median(speeds["ours"]), statistics.median(targets["ours"])
    how = (
        f"median of {rounds} alternating runs of {steps} steps, LoRA of rank 8 on {folder.name}, float32, the demo's "
        "dataset, batches of 8 in micro-batches of 4"
    )
    found = [figure("tokens-per-second", ours, "tokens/s", None, "higher", how=how)]
    for way, peer in (("trainer", "transformers.Trainer"), ("sft", "trl.SFTTrainer")):
        theirs = statistics.median(speeds[way])
        found.append(
            figure(f"throughput-over-{way}", ours / theirs, "x", 1.0, "higher", how=how, peer={peer: round(theirs, 1)})
        )
    packed = statistics.median(targets["packed"]) / ours_targets
    peer_of_packing = {"the same rows, one in a sequence": round(ours_targets, 1)}
    found.append(
        figure(
            "packing",
            packed,
            "x",
            PACKING_GOAL,
            "higher",
            how=f"targets learnt per second; {how}",
            peer=peer_of_packing,
        )
    )
    return found


def _measured(way: str, model: Path, steps: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.trainer.throughput_probe", way, str(model), str(steps)]
    quiet = {**os.environ, "TOKENIZERS_PARALLELISM": "false", "OMP_WAIT_POLICY": "PASSIVE"}
    told = subprocess.run(command, capture_output=True, text=True, check=False, env=quiet)
    if told.returncode:
        raise RuntimeError(f"{way}: {told.stderr[-2000:]}")
    values: dict[str, float] = json.loads(told.stdout.splitlines()[-1])
    return values
