"""Predicted against measured peak memory of training on this machine, each configuration in a process of its own."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from importlib import resources
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure, figure
from services.optimizer import memory, profile
from services.optimizer.memory import ModelProfile
from services.optimizer.profiles import model_profile
from services.optimizer.throughput import Machine
from sskai.cluster.local_cluster import preloaded


def configs() -> dict[str, dict[str, Any]]:
    """config.json of the gateway's foundation models, by id."""
    text = (resources.files("services.gateway") / "data" / "models.json").read_text()
    return {each["id"]: each["config"] for each in json.loads(text)}


SMOLLM2 = configs()["smollm2-135m-instruct"]
QWEN3 = {
    "model_type": "qwen3",
    "hidden_size": 512,
    "intermediate_size": 1536,
    "num_hidden_layers": 16,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 64,
    "vocab_size": 32000,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": False,
}
# name: config, method, batch, micro-batch, length, gradient checkpointing
CASES: dict[str, tuple[dict[str, Any], str, int, int, int, bool]] = {
    "SmolLM2-135M lora 1x256": (SMOLLM2, "lora", 1, 1, 256, False),
    "SmolLM2-135M lora 4x256": (SMOLLM2, "lora", 4, 4, 256, False),
    "SmolLM2-135M lora 2x512 of 4": (SMOLLM2, "lora", 4, 2, 512, False),
    "SmolLM2-135M lora 4x512, checkpointing": (SMOLLM2, "lora", 4, 4, 512, True),
    "SmolLM2-135M full 2x256": (SMOLLM2, "full", 2, 2, 256, False),
    "SmolLM2-135M full 2x256 of 4": (SMOLLM2, "full", 4, 2, 256, False),
    "SmolLM2-135M full 4x512, checkpointing": (SMOLLM2, "full", 4, 4, 512, True),
    "Qwen3-type 80M scratch 4x256": (QWEN3, "scratch", 4, 4, 256, False),
    "Qwen3-type 80M scratch 8x256, checkpointing": (QWEN3, "scratch", 8, 8, 256, True),
    "SmolLM2-135M lora 8x256, checkpointing": (SMOLLM2, "lora", 8, 8, 256, True),
    "Qwen3-type 80M lora 8x256": (QWEN3, "lora", 8, 8, 256, False),
}
RANK = 8
# Only what a machine is asked for here: no accelerator.
HERE = Machine("here", 2, 24.0, "", 0, 0.0, 0.0, 1.0, 1.0, {})
MAX_MEDIAN_ERROR = 0.10
MAX_UNDER = 0.10


def figures(threads: int) -> list[Figure]:
    errors, rows = [], []
    for name, case in CASES.items():
        predicted, measured = _predicted(*case), _measured(*case, threads=threads)
        errors.append(predicted / measured - 1)
        rows.append(f"{name}: predicted {predicted / 2**20:.0f}, measured {measured / 2**20:.0f} MiB")
    how = "resident bytes over the base process; " + "; ".join(rows)
    median = statistics.median(abs(error) for error in errors)
    return [
        figure("memory-median-absolute-error", median, "fraction", MAX_MEDIAN_ERROR, "lower", how=how),
        figure("memory-worst-underestimate", max(-min(errors), 0.0), "fraction", MAX_UNDER, "lower", how="the same"),
        figure("memory-worst-overestimate", max(*errors, 0.0), "fraction", None, "lower", how="the same"),
    ]


def counted(config: dict[str, Any], method: str, length: int) -> ModelProfile:
    """What the profiling worker counts, in this process."""
    question = {
        "config_json": json.dumps(config),
        "method": method,
        "rank": RANK,
        "alpha": 2 * RANK,
        "target_modules": [],
        "sequence_length": length,
    }
    return model_profile(profile.profile(question))


def _predicted(
    config: dict[str, Any], method: str, batch: int, micro_batch: int, length: int, checkpointing: bool
) -> int:
    peak = memory.footprint(
        counted(config, method, length),
        HERE,
        method,
        micro_batch,
        checkpointing=checkpointing,
        accumulating=batch > micro_batch,
    )
    return peak.peak_bytes - memory.RUNTIME_BYTES


def _measured(
    config: dict[str, Any],
    method: str,
    batch: int,
    micro_batch: int,
    length: int,
    checkpointing: bool,
    *,
    threads: int,
) -> int:
    case = {
        "config": config,
        "method": method,
        "batch": batch,
        "micro_batch": micro_batch,
        "length": length,
        "checkpointing": checkpointing,
        "rank": RANK,
        "threads": threads,
    }
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "case.json"
        file.write_text(json.dumps(case))
        command = [sys.executable, "-m", "benchmarks.optimizer.memory_probe", str(file)]
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=600, env=os.environ | preloaded()
        )
    return int(done.stdout.split()[-1])
