"""What an interruption costs: saving, restoring, and the time from a process's start to its first step.

`python -m benchmarks.checkpoint [MODEL_FOLDER]` prints one JSON object. The model is SmolLM2-135M-Instruct where
`SSKAI_MODELS_DIR` has it, else the tests' tiny Llama; the object store is a real S3 server on loopback. The peer,
measured in the same run on the same state, is the plain way: `torch.save` to disk and an upload, while training waits.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import torch
from google.protobuf import json_format

from services.trainer import finetune
from services.trainer.checkpoints import Checkpoints
from services.trainer.datasets import encode
from services.trainer.domain import Recipe
from services.trainer.randomness import make_deterministic
from services.trainer.saving import Save, Saver
from services.trainer.training import Training
from sskai.events import v1 as events
from sskai.local.objectstore import ObjectStore
from sskai.local.paths import cache_folder
from sskai.objects import Objects
from tests import tiny_model

RUNS = 5
ROWS = [
    json.dumps(
        {"prompt": f"Where is order {number}?", "completion": f" Order {number} was shipped yesterday."}
    ).encode()
    for number in range(12)
]
RECIPE = Recipe(
    total_steps=100,
    batch_size=2,
    micro_batch_size=2,
    sequence_length=32,
    learning_rate=1e-4,
    warmup_steps=1,
    checkpoint_interval_steps=1,
    keep_checkpoints=3,
    evaluation_rows=2,
    seed=0,
    rank=8,
    alpha=16,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", type=Path, help="a transformers folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, ObjectStore.start() as store:
        model = arguments.model or _default_model(Path(folder))
        objects = Objects(store.url, store.bucket, store.credentials.access_key, store.credentials.secret_key)
        figures = {
            "benchmark": "checkpoint",
            "model": model.name,
            **_save_and_restore(model, objects, Path(folder)),
            **_start_to_first_step(model, store, objects, Path(folder)),
            "runs": RUNS,
            "machine": {
                "cores": os.cpu_count(),
                "load_average": round(os.getloadavg()[0], 1),
                "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
            },
        }
    print(json.dumps(figures))


def _default_model(folder: Path) -> Path:
    models_dir = Path(os.environ.get("SSKAI_MODELS_DIR", cache_folder() / "models"))
    real = models_dir / "smollm2-135m-instruct"
    return real if (real / "config.json").is_file() else tiny_model.build(folder / "tiny")


def _save_and_restore(model: Path, objects: Objects, folder: Path) -> dict[str, Any]:
    make_deterministic(os.cpu_count() or 1)
    base = finetune.load_base(model, torch.device("cpu"))
    rows = encode(ROWS, "prompt-completion", base.tokenizer)
    task = finetune.LanguageModel(base, RECIPE, model.name, rows, [])
    training = Training(task, RECIPE, base.device)
    checkpoints = Checkpoints(objects, "jobs/benchmark", "benchmark", 1)
    checkpoints.take_over(folder / "restored")
    saves: list[Save] = []
    saver = Saver(checkpoints, folder / "saving", 3, finetune.versions(), saves.append)
    plain_seconds = []
    for _ in range(RUNS):
        training.learn(range(2), 1e-4, nullcontext)
        saver.begin(lambda: training.snapshot({}, b""), "interval")
        _wait_for(lambda: not saver.busy)
        plain_seconds.append(_seconds(lambda: _save_plainly(training, objects, folder)))
    saver.close()
    restored: list[float] = []
    for attempt in range(2, 2 + RUNS):
        next_attempt = Checkpoints(objects, "jobs/benchmark", "benchmark", attempt)
        restored.append(_seconds(partial(_restore, training, next_attempt, folder / f"restored-{attempt}")))
    return {
        "checkpoint_bytes": saves[-1].bytes,
        "save_seconds": _median([save.save_seconds for save in saves]),
        "stall_seconds": _median([save.stall_seconds for save in saves]),
        "verify_and_restore_seconds": _median(restored),
        "peer": {"what": "torch.save and upload, training waits", "stall_seconds": _median(plain_seconds)},
    }


def _save_plainly(training: Training, objects: Objects, folder: Path) -> None:
    path = folder / "plain.pt"
    torch.save(training.snapshot({}, b"").tensors, path)
    objects.put_file("jobs/benchmark/plain.pt", path)


def _restore(training: Training, checkpoints: Checkpoints, folder: Path) -> None:
    restored = checkpoints.take_over(folder)
    if restored is None:
        raise RuntimeError("there is no checkpoint to restore")
    training.restore(restored.folder)


def _start_to_first_step(model: Path, store: ObjectStore, objects: Objects, folder: Path) -> dict[str, float]:
    """A new attempt's process (it evaluates first), and a resumed one's, killed -9 in between."""
    data = b"\n".join(ROWS)
    objects.put_bytes("tenants/t/data.jsonl", data)
    spec = events.JobSpec(
        name="benchmark",
        model=events.ModelRef(model_id=model.name, uri=f"builtin://{model.name}", method="lora", rank=8),
        dataset=events.DatasetRef(
            uri=objects.uri("tenants/t/data.jsonl"),
            format="prompt-completion",
            sha256=hashlib.sha256(data).hexdigest(),
        ),
    )
    environment = {
        **os.environ,
        "SSKAI_JOB_ID": "start",
        "SSKAI_TENANT_ID": "t",
        "SSKAI_JOB_SPEC": json_format.MessageToJson(spec),
        "SSKAI_PLAN": json.dumps({"total_steps": 1000, "batch_size": 2, "checkpoint_interval_steps": 1}),
        "SSKAI_WORK_URI": objects.uri("jobs/start"),
        "SSKAI_KAFKA_BOOTSTRAP": "",
        "SSKAI_OBJECTS_URL": store.url,
        "SSKAI_OBJECTS_BUCKET": store.bucket,
        "SSKAI_OBJECTS_ACCESS_KEY": store.credentials.access_key,
        "SSKAI_OBJECTS_SECRET_KEY": store.credentials.secret_key,
        "SSKAI_MODELS_DIR": str(model.parent),
    }
    seconds = []
    for attempt in (1, 2):
        work = folder / f"work-{attempt}"
        started = time.perf_counter()
        pod = subprocess.Popen(
            [sys.executable, "-m", "services.trainer.pod"],
            env={**environment, "SSKAI_ATTEMPT": str(attempt), "SSKAI_WORK_DIR": str(work)},
            stdout=subprocess.DEVNULL,
        )
        try:
            _wait_for(partial(_stepped, work / "losses.jsonl"))
            seconds.append(time.perf_counter() - started)
            _wait_for(lambda: any(info.key.endswith("MANIFEST.json") for info in objects.list("jobs/start/")))
        finally:
            pod.kill()
            pod.wait()
    return {"start_to_first_step_seconds": round(seconds[0], 2), "resume_to_first_step_seconds": round(seconds[1], 2)}


def _stepped(path: Path) -> bool:
    """Whether the attempt itself made a step: a resumed one's curve begins with its predecessor's."""
    if not path.exists():
        return False
    attempts = [json.loads(line)["attempt"] for line in path.read_text().splitlines(keepends=True) if line[-1] == "\n"]
    return int(path.parent.name.rpartition("-")[2]) in attempts


def _wait_for(condition: Callable[[], bool], limit_seconds: float = 120) -> None:
    deadline = time.monotonic() + limit_seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {limit_seconds} s")
        time.sleep(0.005)


def _seconds(act: Callable[[], None]) -> float:
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


def _median(values: list[float]) -> float:
    return round(statistics.median(values), 5)


if __name__ == "__main__":
    main()
