"""Tokens per second of one way to train: `python -m benchmarks.trainer.throughput_probe WAY MODEL STEPS [--full]`.

Each in a process of its own: the model, the rows of the demo's dataset in the same order, LoRA of rank 8 (or all
weights), float32, batches of 8 in micro-batches of 4. The first step warms up; the others are timed. Prints one JSON
object.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from services.trainer import finetune
from services.trainer.datasets import Row, cut
from services.trainer.domain import Recipe
from services.trainer.encoding import encode
from services.trainer.packing import Packed
from services.trainer.randomness import make_deterministic
from services.trainer.training import Training
from sskai.demo import corpus

WAYS = ("ours", "packed", "trainer", "sft")
BATCH, MICRO_BATCH = 8, 4
SEQUENCE_LENGTH = 128
RANK = 8
LEARNING_RATE = 2e-4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("model", type=Path)
    parser.add_argument("steps", type=int)
    parser.add_argument("--full", action="store_true", help="all weights instead of an adapter")
    arguments = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    base = finetune.load_base(arguments.model, torch.device("cpu"), method="full" if arguments.full else "lora")
    rows = [json.dumps(row).encode() for row in corpus.training_rows()]
    encoded = encode(rows, "messages", base.tokenizer)
    way: Callable[..., dict[str, float]] = {"trainer": _trainer, "sft": _sft}.get(arguments.way, _ours)
    measured = way(base, encoded, arguments.steps, packed=arguments.way == "packed", full=arguments.full)
    print(json.dumps(measured))


def _ours(base: finetune.Base, encoded: Sequence[Any], steps: int, *, packed: bool, full: bool) -> dict[str, float]:
    make_deterministic(os.cpu_count() or 1)
    rows: Sequence[Row] = _columns(encoded)
    if packed:
        rows = Packed(rows, SEQUENCE_LENGTH)
    recipe = Recipe(
        total_steps=steps,
        batch_size=BATCH,
        micro_batch_size=MICRO_BATCH,
        sequence_length=SEQUENCE_LENGTH,
        learning_rate=LEARNING_RATE,
        warmup_steps=1,
        checkpoint_interval_steps=steps,
        keep_checkpoints=1,
        evaluation_rows=1,
        seed=0,
        rank=0 if full else RANK,
        alpha=2 * RANK,
        method="full" if full else "lora",
        packing=packed,
    )
    task = finetune.LanguageModel(base, recipe, "model", rows, rows[:1])
    training = Training(task, recipe, base.device)
    seconds, tokens, targets = 0.0, 0, 0
    for step in range(steps + 1):
        chosen = [index % len(rows) for index in range(step * BATCH, (step + 1) * BATCH)]
        began = time.perf_counter()
        made = training.learn(chosen, LEARNING_RATE, nullcontext)
        if step:
            seconds += time.perf_counter() - began
            tokens += made.tokens
            targets += task.targets([rows[index] for index in chosen])
    return {"tokens_per_second": tokens / seconds, "targets_per_second": targets / seconds, "loss": made.loss}


def _trainer(base: finetune.Base, encoded: Sequence[Any], steps: int, *, packed: bool, full: bool) -> dict[str, float]:
    from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments

    assert not packed
    rows = _columns(encoded)
    told = [{"input_ids": row.tokens.tolist(), "labels": row.labels().tolist()} for row in rows]
    clock = _clock(rows)
    trainer = Trainer(
        model=_model(base, full=full),
        args=TrainingArguments(**_arguments(steps), train_sampling_strategy="sequential"),
        train_dataset=_Listed(told),
        data_collator=DataCollatorForSeq2Seq(base.tokenizer),
        callbacks=[clock],
    )
    trainer.train()
    measured: dict[str, float] = clock.measured()
    return measured


def _sft(base: finetune.Base, encoded: Sequence[Any], steps: int, *, packed: bool, full: bool) -> dict[str, float]:
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    assert not packed
    rows = _columns(encoded)
    columns = {
        "input_ids": [row.tokens.tolist() for row in rows],
        "completion_mask": [row.learnt.astype(int).tolist() for row in rows],
    }
    clock = _clock(rows)
    trainer = SFTTrainer(
        model=_model(base, full=full),
        args=SFTConfig(
            **_arguments(steps),
            train_sampling_strategy="sequential",
            completion_only_loss=True,
            max_length=SEQUENCE_LENGTH,
            gradient_checkpointing=False,
        ),
        train_dataset=Dataset.from_dict(columns),
        processing_class=base.tokenizer,
        callbacks=[clock],
    )
    trainer.train()
    measured: dict[str, float] = clock.measured()
    return measured


def _columns(encoded: Sequence[Any]) -> list[Row]:
    return [row for row in cut(encoded, SEQUENCE_LENGTH).rows if isinstance(row, Row)]


def _arguments(steps: int) -> dict[str, Any]:
    return {
        "output_dir": os.environ.get("TMPDIR", "/tmp"),
        "per_device_train_batch_size": MICRO_BATCH,
        "gradient_accumulation_steps": BATCH // MICRO_BATCH,
        "max_steps": steps + 1,
        "learning_rate": LEARNING_RATE,
        "logging_strategy": "no",
        "save_strategy": "no",
        "report_to": [],
        "use_cpu": True,
        "bf16": False,
        "disable_tqdm": True,
        "seed": 0,
    }


def _model(base: finetune.Base, *, full: bool) -> Any:
    from peft import LoraConfig, get_peft_model

    if full:
        return base.model
    config = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", bias="none", task_type="CAUSAL_LM")
    return get_peft_model(base.model, config)


class _Listed:
    """A map-style dataset."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._rows[index]


def _clock(rows: list[Row]) -> Any:
    """Times every optimizer step but the first, as `_ours` does."""
    from transformers import TrainerCallback

    class Clock(TrainerCallback):  # type: ignore[misc]  # transformers' types are not followed
        def __init__(self) -> None:
            self.seconds, self.began, self.steps = 0.0, 0.0, 0

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.began = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            if self.steps:
                self.seconds += time.perf_counter() - self.began
            self.steps += 1

        def measured(self) -> dict[str, float]:
            read = [rows[index % len(rows)] for index in range(BATCH, self.steps * BATCH)]
            return {
                "tokens_per_second": sum(len(row.tokens) for row in read) / self.seconds,
                "targets_per_second": sum(row.targets for row in read) / self.seconds,
            }

    return Clock()


if __name__ == "__main__":
    main()
