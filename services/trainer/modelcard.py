"""The README.md of a result, as model hubs show it: where it comes from, how it was made, how well it does."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from services.trainer.domain import CLASSIFICATION, IMAGE_CLASSIFICATION, TEXT_TO_IMAGE, Point, Recipe
from services.trainer.results import ADAPTER, DIFFUSERS_LORA, OWN_MODEL, TRANSFORMERS
from sskai.events import v1 as events

CURVE_ROWS = 10
LIBRARIES = {ADAPTER: "peft", TRANSFORMERS: "transformers", DIFFUSERS_LORA: "diffusers", OWN_MODEL: "pytorch"}
TASKS = {
    CLASSIFICATION: "text-classification",
    IMAGE_CLASSIFICATION: "image-classification",
    TEXT_TO_IMAGE: "text-to-image",
}
UNITS = {
    CLASSIFICATION: "nats per row",
    IMAGE_CLASSIFICATION: "nats per picture",
    "preference": "nats per pair",
    TEXT_TO_IMAGE: "squared error",
}
# What transformers loads a model by, and what prepares its input.
MODELS = {
    CLASSIFICATION: ("AutoModelForSequenceClassification", "AutoTokenizer", "tokenizer"),
    IMAGE_CLASSIFICATION: ("AutoModelForImageClassification", "AutoImageProcessor", "processor"),
}
OF_PICTURES = (IMAGE_CLASSIFICATION, TEXT_TO_IMAGE)
COUNTS = {
    "rows": "rows were read.",
    "tokens": "tokens, after the cut.",
    "targets": "of them are learnt.",
    "longest": "tokens are in the longest row, before the cut.",
    "truncated_rows": "rows were cut to {sequence_length} tokens.",
    "rows_without_target": "rows were left out, because the cut took all that they teach.",
    "duplicates": "rows repeat an earlier one.",
    "sequences": "sequences hold the training rows, packed.",
    "pictures": "pictures.",
}


@dataclass(frozen=True, slots=True)
class Training:
    """What became of a run."""

    steps: int
    tokens: int
    seconds: float
    losses: tuple[float, ...]  # of each step
    eval_loss_before: float
    eval_loss_after: float
    data: Mapping[str, int]  # what the preparation of the rows counted
    lineage: tuple[Point, ...]  # the attempts that it took, each with the step it went on from
    accuracy_before: float | None = None  # share of what was held out; None: not of classes
    accuracy_after: float | None = None
    versions: Mapping[str, str] = field(default_factory=dict)  # of libraries
    exports: Mapping[str, str] = field(default_factory=dict)  # what became of each that was asked for
    comparison: str = ""  # with the champion, in a sentence
    licence: str = ""  # of the base, as its folder tells it


def write(job_id: str, spec: events.JobSpec, recipe: Recipe, training: Training, kind: str = ADAPTER) -> str:
    """Markdown with the metadata block that peft and model hubs read."""
    method, base = spec.model.method or "lora", spec.model.model_id or spec.model.uri
    dataset = spec.dataset
    unit = "per sample" if kind == OWN_MODEL else UNITS.get(dataset.format, "nats per token")
    losses = training.losses
    metadata = yaml.safe_dump(_metadata(spec, training, kind), sort_keys=False, allow_unicode=True)
    least = min(range(len(losses)), key=losses.__getitem__)
    read = f"{training.tokens} {'pictures' if dataset.format in OF_PICTURES else 'tokens'}"
    sections = [
        f"---\n{metadata}---\n# {spec.name}",
        f"{_what(kind, method, base)}, trained by SSKAI in job `{job_id}`.",
        f"## Use\n\n{_usage(spec, kind, base)}",
        f"## Data\n\n{_data(spec, recipe, training, kind)}",
        "## Result\n\n"
        + _table(("", "before", "after"), _held_out(training, unit))
        + f"\n\n{training.steps} steps, {read}, {training.seconds:.1f} s of training.",
        f"## Curve\n\nFirst {_rounded(losses[0])}, last {_rounded(losses[-1])}, least {_rounded(losses[least])} at "
        f"step {least + 1}. Each step's loss is in `training_curve.jsonl`.\n\n{_curve(losses)}",
        f"## Hyperparameters\n\n{_hyperparameters(recipe)}",
        "## Attempts\n\n" + "\n".join(f"- attempt {point.attempt}: {_began(point)}" for point in training.lineage),
        "## Cost\n\nThe receipt has every machine's seconds and price, this attempt's among them: "
        f"`GET /v1/receipts` on the gateway, job `{job_id}`, once the job has ended.",
    ]
    if training.comparison:
        sections.append(f"## Against the champion\n\n{training.comparison}")
    if training.exports:
        sections.append(
            "## Exports\n\n" + "\n".join(f"- {name}: {what}" for name, what in sorted(training.exports.items()))
        )
    if training.licence:
        sections.append(
            f"## Licence\n\nThe base's folder says: `{training.licence}`. It may ask something of models made from it."
        )
    if training.versions:
        sections.append("## Made with\n\n" + _table(("library", "version"), sorted(training.versions.items())))
    return "\n\n".join(sections) + "\n"


def _held_out(training: Training, unit: str) -> list[tuple[str, str, str]]:
    lines = [
        (f"loss on the held-out rows ({unit})", _rounded(training.eval_loss_before), _rounded(training.eval_loss_after))
    ]
    if training.accuracy_before is not None and training.accuracy_after is not None:
        lines.append(
            ("accuracy on the held-out rows", _rounded(training.accuracy_before), _rounded(training.accuracy_after))
        )
    return lines


def _what(kind: str, method: str, base: str) -> str:
    if kind == OWN_MODEL:
        return (
            f"The model as code `{base}`, whose sources lie beside this card (run them where you would run code of "
            "whoever wrote them, and nowhere else)"
        )
    return f"All weights of `{base}`" if kind == TRANSFORMERS else f"A {method} adapter of `{base}`"


def _data(spec: events.JobSpec, recipe: Recipe, training: Training, kind: str) -> str:
    if kind == OWN_MODEL:
        return f"What `data.py` gives (`{spec.model.code_uri}`); {recipe.evaluation_rows} samples were held out."
    dataset = spec.dataset
    return (
        f"`{dataset.name}` version {dataset.version} (`{dataset.dataset_id}`), {dataset.rows} rows of "
        f"`{dataset.format}`, SHA-256 `{dataset.sha256}`.\n\n{_counted(recipe, training)}"
    )


def licence_of(folder: Path) -> str:
    """What a base's own card or config says of its licence; empty: nothing."""
    try:
        card = re.match(r"---\n(.*?)\n---", (folder / "README.md").read_text(errors="replace"), re.DOTALL)
        told = yaml.safe_load(card[1]) if card else None
    except (OSError, yaml.YAMLError):
        told = None
    if not (isinstance(told, dict) and told.get("license")):
        try:
            told = json.loads((folder / "config.json").read_text())
        except (OSError, ValueError):
            return ""
    licence = told.get("license") if isinstance(told, dict) else None
    return licence.strip()[:100].replace("`", "'") if isinstance(licence, str) else ""


def _metadata(spec: events.JobSpec, training: Training, kind: str) -> dict[str, Any]:
    task = TASKS.get(spec.dataset.format, "text-generation")
    values: dict[str, Any] = {"library_name": LIBRARIES[kind]}
    if kind == OWN_MODEL:
        return {**values, "tags": ["sskai"]}
    values["pipeline_tag"] = task
    if spec.model.model_id:
        values["base_model"] = spec.model.model_id
        values["base_model_relation"] = "finetune" if kind == TRANSFORMERS else "adapter"
    if training.licence:
        values["license"] = training.licence
    values["tags"] = [spec.model.method or "lora", "sskai"]
    metrics = [{"type": "loss", "name": "held-out loss", "value": round(training.eval_loss_after, 6)}]
    if training.accuracy_after is not None:
        metrics.append({"type": "accuracy", "name": "held-out accuracy", "value": round(training.accuracy_after, 6)})
    result = {
        "task": {"type": task},
        "dataset": {"name": spec.dataset.name or spec.dataset.dataset_id, "type": spec.dataset.format},
        "metrics": metrics,
    }
    return {**values, "model-index": [{"name": spec.name, "results": [result]}]}


def _usage(spec: events.JobSpec, kind: str, base: str) -> str:
    model, preparing, name = MODELS.get(spec.dataset.format, ("AutoModelForCausalLM", "AutoTokenizer", "tokenizer"))
    labels = ['labels = json.load(open("path/of/this/folder/sskai.json"))["labels"]'] if spec.dataset.labels else []
    extra = ", id2label=dict(enumerate(labels)), ignore_mismatched_sizes=True" if labels else ""
    lines = {
        ADAPTER: [
            *(["import json", ""] if labels else []),
            "from peft import PeftModel",
            f"from transformers import {model}, {preparing}",
            "",
            *labels,
            f"base = {model}.from_pretrained({base!r}{extra})",
            'model = PeftModel.from_pretrained(base, "path/of/this/folder")',
            f"{name} = {preparing}.from_pretrained({base!r})",
        ],
        TRANSFORMERS: [
            f"from transformers import {model}, {preparing}",
            "",
            f'model = {model}.from_pretrained("path/of/this/folder")',
            f'{name} = {preparing}.from_pretrained("path/of/this/folder")',
        ],
        DIFFUSERS_LORA: [
            "from diffusers import StableDiffusionPipeline",
            "",
            f"pipeline = StableDiffusionPipeline.from_pretrained({base!r})",
            'pipeline.load_lora_weights("path/of/this/folder")',
            'image = pipeline("what to draw").images[0]',
        ],
        OWN_MODEL: [
            "from safetensors.torch import load_file",
            "",
            "import model  # model.py of this folder; Model stands for its class",
            "",
            "trained = model.Model()",
            'trained.load_state_dict(load_file("path/of/this/folder/weights.safetensors"))',
        ],
    }
    return "\n".join(["```python", *lines[kind], "```"])


def _counted(recipe: Recipe, training: Training) -> str:
    lines = [f"- {recipe.evaluation_rows} rows were held out."]
    lines += [
        f"- {count} {COUNTS[name].format(sequence_length=recipe.sequence_length)}"
        for name, count in training.data.items()
        if count or name != "sequences"
    ]
    return "\n".join(lines)


def _curve(losses: Sequence[float]) -> str:
    count = min(CURVE_ROWS, len(losses))
    steps = sorted({round(at * (len(losses) - 1) / max(1, count - 1)) for at in range(count)})
    return _table(("step", "loss"), [(step + 1, _rounded(losses[step])) for step in steps])


def _hyperparameters(recipe: Recipe) -> str:
    shown = {name: value for name, value in recipe.to_json().items() if name != "reasons" and value not in ((), [])}
    rows = [
        (name, ", ".join(value) if isinstance(value, tuple | list) else value, recipe.reasons.get(name, ""))
        for name, value in shown.items()
    ]
    rows += [(name, "auto", why) for name, why in recipe.reasons.items() if name not in shown]
    return _table(("name", "value", "why, where it was auto"), rows)


def _began(point: Point) -> str:
    return f"went on from step {point.step}" if point.step else "began at step 0"


def _rounded(value: float) -> str:
    return f"{value:.4f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
