"""Step times on this machine: predicted after three finished attempts against measured ones that were held out.

An attempt is a few optimizer steps of the trainer's own LoRA loop; its step time is their median, as the trainer tells
it. Random triples of attempts teach the planner, which then predicts all the others; errors and coverage are over all
of them.
"""

from __future__ import annotations

import json
import random
import statistics
import subprocess
import sys
import time
import warnings
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM

from benchmarks.figures import Figure, figure
from benchmarks.optimizer.memory import QWEN3, RANK, SMOLLM2, counted
from services.optimizer import catalogue, completion, throughput, work
from services.optimizer.catalogue import ThisComputer
from services.optimizer.memory import ModelProfile
from services.optimizer.throughput import Machine, Measured
from services.optimizer.work import Request
from services.trainer import finetune
from services.trainer.datasets import Row
from services.trainer.domain import Recipe
from services.trainer.randomness import make_deterministic
from services.trainer.training import Training

# Micro-batch and length by model: what people run on two processors.
SHAPES: dict[str, list[tuple[int, int]]] = {
    "smollm2": [(1, 128), (2, 128), (4, 64), (1, 256), (2, 256)],
    "qwen3": [(2, 128), (4, 128), (4, 256), (8, 128), (1, 256)],
}
CONFIGS: dict[str, dict[str, Any]] = {"smollm2": SMOLLM2, "qwen3": QWEN3}
ROUNDS = 5  # attempts of each shape, in turns
STEPS = 3  # of an attempt, after one that warms up
TAUGHT = 3
SPLITS = 400
MAX_MEDIAN_ERROR = 0.15
COVERAGE = (0.85, 0.95)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt beside what the roofline said."""

    roofline_seconds: float
    seconds: float
    tokens: float

    def measured(self, machine: Machine) -> Measured:
        y, z = np.log(self.seconds / self.roofline_seconds), throughput.log_tokens(self.tokens)
        return Measured(machine.family, machine.hardware, "lora", 1, z, z * z, y, z * y, y * y)


def figures(threads: int) -> list[Figure]:
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    make_deterministic(threads)
    machine = _this_machine(threads)
    attempts = _attempts(machine)
    errors, inside = [], []
    dice = random.Random(0)
    for _ in range(SPLITS):
        order = dice.sample(attempts, len(attempts))
        taught = _summed([each.measured(machine) for each in order[:TAUGHT]])
        for held_out in order[TAUGHT:]:
            factor = throughput.correction(machine, "lora", held_out.tokens, [taught])
            errors.append(abs(held_out.roofline_seconds * factor.expected / held_out.seconds - 1))
            ratio = held_out.seconds / held_out.roofline_seconds
            inside.append(factor.low <= ratio <= factor.high)
    before = statistics.median(abs(each.roofline_seconds / each.seconds - 1) for each in attempts)
    how = (
        f"{len(attempts)} attempts of {len(attempts) // ROUNDS} shapes of two models, LoRA rank {RANK}, "
        f"{threads} threads; "
        f"{SPLITS} random triples taught, all others predicted; measured here: "
        f"{machine.peak_flops_per_second / 1e9:.0f} GFLOP/s"
    )
    coverage = statistics.fmean(inside)
    return [
        figure(
            "step-time-median-absolute-error",
            statistics.median(errors),
            "fraction",
            MAX_MEDIAN_ERROR,
            "lower",
            peer=f"roofline alone: {before:.3f}",
            how=how,
        ),
        figure("step-time-interval-coverage", coverage, "fraction", COVERAGE[0], "higher", how=f"of 90 %; {how}"),
        figure("step-time-interval-coverage-at-most", coverage, "fraction", COVERAGE[1], "lower", how="the same"),
    ]


def _this_machine(threads: int) -> Machine:
    """As the embedded stack's catalogue has it: a type with two processors, at the speed measured here."""
    command = [sys.executable, "-m", "services.optimizer.measuring", str(threads)]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    computer = ThisComputer.of(json.loads(told))
    assert computer is not None
    known = catalogue.with_this_computer(catalogue.snapshot(), ["m7i.large"], computer)
    return known.machines["local.m7i.large"]


def _attempts(machine: Machine) -> list[Attempt]:
    profiles: dict[tuple[str, int], ModelProfile] = {}
    tunings: dict[tuple[str, int], Training] = {}
    attempts = []
    for _ in range(ROUNDS):
        for name, micro_batch, length in ((name, *shape) for name, shapes in SHAPES.items() for shape in shapes):
            config = CONFIGS[name]
            if (name, length) not in profiles:
                profiles[name, length] = counted(config, "lora", length)
            if (name, micro_batch) not in tunings:
                tunings[name, micro_batch] = _tuning(config, micro_batch)
            seconds = _seconds(tunings[name, micro_batch], micro_batch, length, int(config["vocab_size"]))
            roofline = _roofline(machine, profiles[name, length], micro_batch, length)
            attempts.append(Attempt(roofline, seconds, micro_batch * length))
    return attempts


def _tuning(fields: dict[str, Any], batch: int) -> Training:
    fields = dict(fields)
    config = AutoConfig.for_model(fields.pop("model_type"), **fields)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.config.use_cache = False
    recipe = Recipe(1, batch, batch, 1, 1e-4, 1, 1, 1, 1, 0, RANK, 2 * RANK)
    base = finetune.Base.without_tokenizer(model)
    return Training(finetune.LanguageModel(base, recipe, "model", [], []), recipe, base.device)


def _seconds(training: Training, batch: int, length: int, vocabulary: int) -> float:
    tokens = np.random.default_rng(0).integers(1, vocabulary, (batch, length), dtype=np.int32)
    training.task.training = [Row(n, each, np.ones(length, dtype=bool)) for n, each in enumerate(tokens)]
    training.learn(range(batch), 1e-4, nullcontext)
    taken = []
    for _ in range(STEPS):
        began = time.perf_counter()
        training.learn(range(batch), 1e-4, nullcontext)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def _roofline(machine: Machine, profile: ModelProfile, batch: int, length: int) -> float:
    request = Request(
        "lora", RANK, 1000, 0, 1000 * length, 0.0, 8192,
        batch_size=batch, sequence_length=length, gradient_checkpointing=False,
    )  # fmt: skip
    pace = completion.pace(
        request,
        profile,
        work.resolve(request, profile, 0),
        machine,
        (),
        machine_start_seconds=0,
        pinned_micro_batch_size=batch,
    )
    assert pace is not None
    return pace.roofline_step_seconds


def _summed(rows: list[Measured]) -> Measured:
    first = rows[0]
    sums = [sum(getattr(row, name) for row in rows) for name in ("sum_z", "sum_zz", "sum_y", "sum_zy", "sum_yy")]
    return Measured(first.family, first.hardware, first.method, len(rows), *sums)
