"""The README.md of a result, as model hubs show it: where it comes from, how it was made, how well it does."""

from __future__ import annotations

from dataclasses import dataclass

from services.trainer.datasets import Report
from services.trainer.domain import Point, Recipe
from sskai.events import v1 as events


@dataclass(frozen=True, slots=True)
class Training:
    """What became of a run."""

    steps: int
    tokens: int
    seconds: float
    first_loss: float
    last_loss: float
    eval_loss_before: float
    eval_loss_after: float
    data: Report
    lineage: tuple[Point, ...]  # the attempts that it took, each with the step it went on from


def write(job_id: str, spec: events.JobSpec, recipe: Recipe, training: Training) -> str:
    """Markdown with the metadata block that peft and model hubs read."""
    hyperparameters = "\n".join(
        f"| {name} | {', '.join(value) if isinstance(value, tuple | list) else value} |"
        for name, value in recipe.to_json().items()
        if value not in ((), [])
    )
    attempts = "\n".join(
        f"- attempt {point.attempt}: " + (f"went on from step {point.step}" if point.step else "began at step 0")
        for point in training.lineage
    )
    return f"""---
base_model: {spec.model.model_id}
library_name: peft
pipeline_tag: text-generation
tags: [{spec.model.method or "lora"}, sskai]
---
# {spec.name}

A {spec.model.method or "lora"} adapter of `{spec.model.model_id}`, trained by SSKAI in job `{job_id}`.

## Data

`{spec.dataset.name}` version {spec.dataset.version} (`{spec.dataset.dataset_id}`), {spec.dataset.rows} rows of
`{spec.dataset.format}`, SHA-256 `{spec.dataset.sha256}`.

- {recipe.evaluation_rows} rows were held out.
- {training.data.tokens} tokens, of which {training.data.targets} are learnt.
- The longest row has {training.data.longest} tokens.
- {training.data.truncated_rows} rows were cut to {recipe.sequence_length} tokens.
- {training.data.rows_without_target} rows were left out, because the cut took all that they teach.
- {training.data.duplicates} rows repeat an earlier one.{_packed(training.data)}

## Result

| | before | after |
|---|---|---|
| loss on the held-out rows (nats per token) | {training.eval_loss_before:.4f} | {training.eval_loss_after:.4f} |
| loss of the first and of the last training step | {training.first_loss:.4f} | {training.last_loss:.4f} |

{training.steps} steps, {training.tokens} tokens, {training.seconds:.1f} s of training.
Each step's loss is in `training_curve.jsonl`.

## Hyperparameters

| name | value |
|---|---|
{hyperparameters}

## Attempts

{attempts}
"""


def _packed(data: Report) -> str:
    return f"\n- The training rows were packed into {data.sequences} sequences." if data.sequences else ""
