"""How long training stands still for a checkpoint every so many steps: ours, and transformers.Trainer's own saving."""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import tempfile
import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.figures import Figure, figure
from benchmarks.trainer import model
from services.trainer import device as this_device
from services.trainer import domain, finetune
from services.trainer.checkpoints import Checkpoints
from services.trainer.datasets import Row
from services.trainer.domain import Recipe
from services.trainer.encoding import encode
from services.trainer.randomness import make_deterministic
from services.trainer.saving import Save, Saver
from services.trainer.training import Training
from services.trainer.writer import Writer
from sskai.local.objectstore import ObjectStore
from sskai.objects import Objects

METHODS = {"lora": 8, "full": 0}  # and the adapter's rank
LARGEST_SHARE = 0.02
LARGEST_OF_PEER = 0.2


@dataclass(frozen=True, slots=True)
class Run:
    """Of one loop over all steps; every time in seconds."""

    seconds: float
    stalls: list[float]
    preparing: float  # once, for memory to copy into
    saves: list[float]
    bytes: int
    slowdown: float  # what steps beside a save took longer than the others' median, as a share of the run


def options(parser: argparse.ArgumentParser) -> None:
    model.options(parser)
    parser.add_argument("--steps", type=int, default=95, help="of each run of stalls")
    parser.add_argument("--interval", type=int, default=30, help="steps between checkpoints in stalls")
    parser.add_argument("--batch", type=int, default=8, help="rows of a step in stalls")


def figures(arguments: argparse.Namespace) -> list[Figure]:
    found = []
    make_deterministic(os.cpu_count() or 1)
    with tempfile.TemporaryDirectory() as scratch, ObjectStore.start() as store:
        folder = model.folder(arguments, Path(scratch))
        objects = Objects(store.url, store.bucket, store.credentials.access_key, store.credentials.secret_key)
        for method, rank in METHODS.items():
            recipe = _recipe(arguments, method, rank)
            ours = _ours(folder, recipe, objects)
            gc.collect()
            theirs = _theirs(folder, recipe, Path(scratch) / f"peer-{method}")
            gc.collect()
            found += _figures(method, folder.name, recipe, ours, theirs)
    return found


def _figures(method: str, name: str, recipe: Recipe, ours: Run, theirs: Run) -> list[Figure]:
    how = (
        f"{name}, {method}, {recipe.total_steps} steps of {recipe.batch_size} rows, one checkpoint of "
        f"{ours.bytes / 1e6:.0f} MB every {recipe.checkpoint_interval_steps}"
    )
    stall, peer = statistics.median(ours.stalls), statistics.median(theirs.stalls)
    share = (ours.preparing + sum(ours.stalls)) / ours.seconds
    return [
        figure(
            f"checkpoint-stall-share-{method}", share, "of the run", LARGEST_SHARE, "lower",
            peer=round(sum(theirs.stalls) / theirs.seconds, 4),
            how=how + "; peer: transformers.Trainer's own saving, to disk",
        ),
        figure(
            f"checkpoint-stall-of-peers-{method}", stall / peer, "of the peer's", LARGEST_OF_PEER, "lower",
            peer=1, how=f"medians {stall:.4f} s and {peer:.4f} s; {how}",
        ),
        figure(
            f"checkpoint-save-seconds-{method}", statistics.median(ours.saves), "s", None, "lower",
            how=f"until the manifest stands, beside the training; {how}",
        ),
        figure(
            f"checkpoint-slowdown-{method}", ours.slowdown, "of the run", None, "lower",
            how="steps beside a save against the median of the others: the writer, and an S3 server here, share the "
            "cores",
        ),
    ]  # fmt: skip


def _recipe(arguments: argparse.Namespace, method: str, rank: int) -> Recipe:
    return Recipe(
        total_steps=arguments.steps,
        batch_size=arguments.batch,
        micro_batch_size=arguments.batch,
        sequence_length=64,
        learning_rate=1e-5,
        warmup_steps=1,
        checkpoint_interval_steps=arguments.interval,
        keep_checkpoints=2,
        evaluation_rows=0,
        seed=0,
        rank=rank,
        alpha=2 * rank,
        method=method,
    )


def _task(folder: Path, recipe: Recipe) -> tuple[finetune.LanguageModel, torch.device]:
    base = finetune.load_base(folder, this_device.device_of_this_machine(), method=recipe.method)
    rows = [row for row in encode(model.ROWS, "prompt-completion", base.tokenizer) if isinstance(row, Row)]
    recipe = replace(recipe, precision=this_device.precision(base.device, recipe.method))
    return finetune.LanguageModel(base, recipe, folder.name, rows, []), base.device


def _ours(folder: Path, recipe: Recipe, objects: Objects) -> Run:
    """The loop of attempt.py, without what it tells."""
    task, device = _task(folder, recipe)
    training = Training(task, recipe, device)
    job_id = f"stalls-{recipe.method}"
    checkpoints = Checkpoints(objects, f"jobs/{job_id}", job_id, 1)
    with tempfile.TemporaryDirectory() as nothing:
        checkpoints.take_over(Path(nothing))
    writer = Writer(objects.access, checkpoints)
    writer.start()
    saves: list[Save] = []
    saver = Saver(writer, recipe.keep_checkpoints, finetune.versions(), saves.append)
    stalls: list[float] = []
    preparing = 0.0
    alone: list[float] = []
    beside: list[float] = []
    began = time.perf_counter()
    while training.step < recipe.total_steps:
        chosen = domain.batch(training.step * recipe.batch_size, recipe.batch_size, len(task.training), recipe.seed)
        (beside if saver.busy else alone).append(
            _seconds(lambda: training.learn(chosen, recipe.learning_rate, nullcontext))  # noqa: B023
        )
        if training.step == 1:
            preparing = _seconds(lambda: saver.prepare(lambda: training.snapshot({}, b"")))
        elif not saver.busy and training.step % recipe.checkpoint_interval_steps == 0:
            stalls.append(_seconds(lambda: saver.begin(lambda: training.snapshot({}, b""), "interval")))
    seconds = time.perf_counter() - began
    saver.close()
    writer.close()
    usual = statistics.median(alone)
    slowdown = sum(max(0.0, one - usual) for one in beside) / seconds
    return Run(seconds, stalls, preparing, [save.save_seconds for save in saves], saves[-1].bytes, slowdown)


def _theirs(folder: Path, recipe: Recipe, output: Path) -> Run:
    """The same model, rows, batch and interval; its saving is timed where the loop calls it."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    task, device = _task(folder, recipe)
    stalls: list[float] = []

    class Timed(Trainer):  # type: ignore[misc]
        def _save_checkpoint(self, *given: Any, **more: Any) -> None:
            stalls.append(_seconds(lambda: super(Timed, self)._save_checkpoint(*given, **more)))

    class Quiet(TrainerCallback):  # type: ignore[misc]
        def on_log(self, *_given: Any, **_more: Any) -> None:
            """Nothing is printed beside the one JSON object."""

    def collate(rows: list[Row]) -> dict[str, torch.Tensor]:
        tokens, mask, _, labels = finetune.padded(rows, 0)
        return {"input_ids": tokens, "attention_mask": mask, "labels": labels}

    arguments = TrainingArguments(
        output_dir=str(output),
        max_steps=recipe.total_steps,
        per_device_train_batch_size=recipe.batch_size,
        learning_rate=recipe.learning_rate,
        save_steps=recipe.checkpoint_interval_steps,
        save_total_limit=recipe.keep_checkpoints,
        remove_unused_columns=False,
        report_to=[],
        disable_tqdm=True,
        use_cpu=device.type == "cpu",
    )
    trainer = Timed(
        model=task.model, args=arguments, train_dataset=list(task.training), data_collator=collate, callbacks=[Quiet()]
    )
    from transformers import PrinterCallback

    trainer.remove_callback(PrinterCallback)
    seconds = _seconds(trainer.train)
    return Run(seconds, stalls, 0.0, [], 0, 0.0)


def _seconds(act: Any) -> float:
    started = time.perf_counter()
    act()
    return time.perf_counter() - started
