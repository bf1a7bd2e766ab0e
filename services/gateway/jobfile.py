"""The job file: what a user may ask for (jobspec.py: what becomes of it). Pure.

Vocabulary of SkyPilot and dstack. Unknown fields are refused, not ignored: a misspelt `buget` must not cost money.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

UNIT_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)([smhd])")
_NODES = re.compile(r"([1-9]\d{0,2})(?:\+|\.\.([1-9]\d{0,2}))?")
_SIZE = r"(?:\d+(?:\.\d+)?\+?|\d+(?:\.\d+)?\.\.(?:\d+(?:\.\d+)?)?|\.\.\d+(?:\.\d+)?)"
_ACCELERATOR = rf"[A-Za-z0-9][A-Za-z0-9_-]{{0,39}}(?::{_SIZE})?"
# Those that the optimizer's catalogue rents out (a test compares the two), and SkyPilot's words for none at all.
ACCELERATORS = (
    "T4",
    "V100",
    "V100-32GB",
    "A10G",
    "L4",
    "L40S",
    "A100",
    "A100-80GB",
    "RTXPRO6000",
    "H100",
    "H200",
    "B200",
)
NO_ACCELERATOR = ("none", "cpu", "0")


class JobFileError(ValueError):
    """A field that cannot be accepted; the text says what to write instead."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field} {message}")
        self.field = field
        self.message = message


def _storable(text: str) -> str:
    """Neither PostgreSQL nor protobuf takes NUL or half a surrogate pair."""
    if "\0" in text or (not text.isprintable() and any(0xD800 <= ord(character) <= 0xDFFF for character in text)):
        raise ValueError("holds a NUL character or half of a surrogate pair")
    return text


def _ordered(text: str) -> str:
    low, dots, high = text.removesuffix("GB").removesuffix("GiB").partition("..")
    if dots and low and high and float(low) > float(high):
        raise ValueError(f"{text} holds nothing: write the smaller amount first")
    return text


def _known(text: str) -> str:
    """Accelerators that can be rented: a misspelt one is never planned around."""
    known = {name.lower() for name in (*ACCELERATORS, *NO_ACCELERATOR)}
    for part in text.split(","):
        name = part.strip().partition(":")[0]
        if name.lower() not in known:
            raise ValueError(f"{name} is no accelerator that can be rented: write one of {', '.join(ACCELERATORS)}")
    return text


def _node_count(value: Any) -> Any:
    """`1`, `1+` or `1..4` machines, as a text."""
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    match = _NODES.fullmatch(text) if isinstance(text, str) else None
    if match is None or (match[2] and int(match[2]) < int(match[1])):
        raise ValueError(f"{value!r} is no number of machines: write 1, 1+ or 1..4")
    return text


def _kind_of_job(value: Any) -> Any:
    if value == "endpoint":
        raise ValueError("endpoint is no job: POST /v1/plans plans it, POST /v1/endpoints makes it")
    if value not in ("finetune", "train"):
        raise ValueError(
            f"{value!r} is unknown: write finetune, train for a model as code, or endpoint for the plan of an endpoint"
        )
    return value


Auto = Literal["auto"]
Text = Annotated[str, StringConstraints(max_length=4096), AfterValidator(_storable)]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?$")]
Reference = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9@:/._-]{1,200}$")]
Size = Annotated[str, StringConstraints(pattern=rf"^{_SIZE}(?:GB|GiB)?$", max_length=40), AfterValidator(_ordered)]
Nodes = Annotated[str, BeforeValidator(_node_count, json_schema_input_type=str | int)]
Accelerators = Annotated[
    str,
    StringConstraints(pattern=rf"^{_ACCELERATOR}(?:,\s*{_ACCELERATOR})*$", max_length=200),
    AfterValidator(_known),
]
Place = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9*?._-]{1,60}$")]
Duration = Annotated[str, StringConstraints(pattern=rf"^{DURATION.pattern}$")]
Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")]


class Form(BaseModel):
    """What comes from outside: exact types, no unknown fields, no infinities."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, frozen=True)


class ModelOptions(Form):
    method: Literal["lora", "qlora", "full", "scratch"] = "lora"
    rank: int = Field(default=8, ge=1, le=512)
    alpha: int | None = Field(default=None, ge=1, le=4096)  # absent: twice the rank
    dora: bool = False  # weight-decomposed LoRA
    rslora: bool = False  # rank-stabilised LoRA
    target_modules: list[Place] = Field(default=[], max_length=64)  # empty: all linear layers


class ModelForm(ModelOptions):
    base: Reference | None = None
    artifact: Reference | None = None  # model://NAME/VERSION, of a model of one's own


class DatasetOptions(Form):
    format: (
        Literal[
            "messages",
            "text",
            "prompt-completion",
            "preference",
            "classification",
            "image-classification",
            "text-to-image",
        ]
        | None
    ) = None
    eval_fraction: float = Field(default=0.05, ge=0, le=0.5)


class DatasetForm(DatasetOptions):
    uri: Reference  # dataset://NAME/VERSION, dataset://NAME or an id


class HyperparametersForm(Form):
    n_epochs: Annotated[float, Field(gt=0, le=1000)] | Auto = "auto"
    batch_size: Annotated[int, Field(ge=1, le=65_536)] | Auto = "auto"
    learning_rate: Annotated[float, Field(gt=0, le=1)] | Auto = "auto"
    sequence_length: Annotated[int, Field(ge=8, le=131_072)] | Auto = "auto"
    seed: Annotated[int, Field(ge=0, lt=2**63)] | Auto = "auto"
    max_steps: Annotated[int, Field(ge=1, le=10_000_000)] | Auto = "auto"
    gradient_checkpointing: bool | Auto = "auto"
    packing: bool | Auto = "auto"  # several rows in one sequence
    dpo_beta: Annotated[float, Field(gt=0, le=10)] | Auto = "auto"
    horizontal_flip: bool | Auto = "auto"  # mirror half of the pictures that are trained on


class SpotForm(Form):
    use_spot: bool


class MachinesForm(Form):
    accelerators: Accelerators | None = None
    cpus: Size | Annotated[int, Field(ge=1, le=10_000)] | None = None
    memory: Size | Annotated[int, Field(ge=1, le=1_000_000)] | None = None  # GiB
    regions: list[Place] = Field(default=[], max_length=100)
    instance_types: list[Place] = Field(default=[], max_length=200)


class ResourcesForm(MachinesForm):
    nodes: Nodes | None = None  # machines of one job; absent: the planner's choice
    use_spot: bool | None = None
    any_of: list[SpotForm] = Field(default=[], max_length=2)


class BudgetForm(Form):
    total_usd: float = Field(gt=0, le=1e9)


class RetryForm(Form):
    # What the job goes on after; what is not listed fails it.
    on_events: list[Literal["no-capacity", "interruption", "error"]] = Field(
        default=["no-capacity", "interruption", "error"], min_length=1, max_length=3
    )
    duration: Duration | None = None
    max_restarts_on_errors: int = Field(default=3, ge=0, le=100)


class CheckpointForm(Form):
    interval: Annotated[int, Field(ge=1, le=1_000_000)] | Literal["auto", "never"] = "auto"  # steps
    keep: int = Field(default=3, ge=1, le=100)


class JobOptions(Form):
    """How a job is to be done, whatever it is made of."""

    hyperparameters: HyperparametersForm = HyperparametersForm()
    resources: ResourcesForm = ResourcesForm()
    spot_policy: Literal["spot", "on-demand", "auto"] | None = None  # absent: auto
    max_price: Annotated[float, Field(gt=0, le=1e6)] | None = None  # USD an hour
    budget: BudgetForm | None = None
    deadline: Text | None = None  # an RFC 3339 time, or a duration from now such as 6h
    retry: RetryForm = RetryForm()
    checkpoint: CheckpointForm = CheckpointForm()
    export: list[Literal["merged", "gguf"]] = Field(default=[], max_length=2)  # beside the result
    env: dict[Variable, Text] = Field(default={}, max_length=100)
    secrets: list[Variable] = Field(default=[], max_length=100)
    objective: Literal["cheapest", "fastest", "cheapest-within-deadline", "fastest-within-budget"] = "cheapest"
    priority: Literal["low", "normal", "high"] = "normal"  # which of the waiting jobs goes first
    project: Name | None = None  # whose budget pays


class JobFile(JobOptions):
    """A job, as `POST /v1/jobs` and `POST /v1/plans` take it; `train` is for models as code."""

    kind: Annotated[Literal["finetune", "train"], BeforeValidator(_kind_of_job)] = "finetune"
    name: Name
    model: ModelForm
    dataset: DatasetForm | None = None  # absent: the model's code brings it


def duration_seconds(text: str) -> float:
    """Of a Duration. Raises ValueError."""
    duration = DURATION.fullmatch(text)
    if duration is None:
        raise ValueError("is no duration: write one such as 30m, 4h or 1d")
    return float(duration[1]) * UNIT_SECONDS[duration[2]]


def node_range(nodes: str) -> tuple[int, int | None]:
    """Of Nodes: the least and the largest number of machines; None: there is no largest."""
    match = _NODES.fullmatch(nodes)
    assert match is not None, "the form has checked it"
    least = int(match[1])
    return least, int(match[2]) if match[2] else None if nodes.endswith("+") else least
