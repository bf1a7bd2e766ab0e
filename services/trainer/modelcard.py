"""The README.md of a result, as model hubs show it: where it comes from, how it was made, how well it does."""

from __future__ import annotations

from dataclasses import dataclass

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
    truncated_rows: int
    rows_without_target: int
    lineage: tuple[Point, ...]  # the attempts that it took, each with the step it went on from


def write(job_id: str, spec: events.JobSpec, recipe: Recipe, training: Training) -> str:
    """Markdown with the metadata block that peft and model hubs read."""
    hyperparameters = "\n".join(
        f"| {name} | {', '.join(value) if isinstance(value, tuple | list) else value} |"
        for name, value in recipe.to_json().items()
        if value not in ((), [])
    )
    held_out = "samples" if spec.model.code_uri else "rows (nats per token)"
    attempts = "\n".join(
        f"- attempt {point.attempt}: " + (f"went on from step {point.step}" if point.step else "began at step 0")
        for point in training.lineage
    )
    return f"""{_head(job_id, spec)}

## Data

{_data(spec, recipe, training)}

## Result

| | before | after |
|---|---|---|
| loss on the held-out {held_out} | {training.eval_loss_before:.4f} | {training.eval_loss_after:.4f} |
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


def _head(job_id: str, spec: events.JobSpec) -> str:
    if spec.model.code_uri:
        return f"""---
library_name: pytorch
tags: [sskai]
---
# {spec.name}

The model as code `{spec.model.model_id}`, trained by SSKAI in job `{job_id}`. Its sources lie beside this card: run
them where you would run code of whoever wrote them, and nowhere else."""
    return f"""---
base_model: {spec.model.model_id}
library_name: peft
pipeline_tag: text-generation
tags: [{spec.model.method or "lora"}, sskai]
---
# {spec.name}

A {spec.model.method or "lora"} adapter of `{spec.model.model_id}`, trained by SSKAI in job `{job_id}`."""


def _data(spec: events.JobSpec, recipe: Recipe, training: Training) -> str:
    if spec.model.code_uri:
        return f"What `data.py` gives (`{spec.model.code_uri}`); {recipe.evaluation_rows} samples were held out."
    data = spec.dataset
    return f"""`{data.name}` version {data.version} (`{data.dataset_id}`), {data.rows} rows of
`{data.format}`, SHA-256 `{data.sha256}`.

- {recipe.evaluation_rows} rows were held out.
- {training.truncated_rows} rows were cut to {recipe.sequence_length} tokens.
- {training.rows_without_target} rows were left out, because the cut took all that they teach."""
