"""The job file: what a user may ask for, and its way into the contract's JobSpec. Pure.

Vocabulary of SkyPilot and dstack. Unknown fields are refused, not ignored: a misspelt `buget` must not cost money.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from services.gateway.plain import in_utc
from services.gateway.values import TEXT_TO_IMAGE, Dataset, Model
from sskai.contract import timestamp
from sskai.events import v1 as events

MAX_DEADLINE_DAYS = 90
UNIT_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)([smhd])")
_NODES = re.compile(r"([1-9]\d{0,2})(?:\+|\.\.([1-9]\d{0,2}))?")
_SIZE = r"(?:\d+(?:\.\d+)?\+?|\d+(?:\.\d+)?\.\.(?:\d+(?:\.\d+)?)?|\.\.\d+(?:\.\d+)?)"
_ACCELERATOR = rf"[A-Za-z0-9][A-Za-z0-9_-]{{0,39}}(?::{_SIZE})?"
_SPOT_POLICIES = {
    "auto": events.SPOT_POLICY_AUTO,
    "spot": events.SPOT_POLICY_SPOT,
    "on-demand": events.SPOT_POLICY_ON_DEMAND,
}
_OBJECTIVES = {
    "cheapest": events.OBJECTIVE_CHEAPEST,
    "fastest": events.OBJECTIVE_FASTEST,
    "cheapest-within-deadline": events.OBJECTIVE_CHEAPEST_WITHIN_DEADLINE,
    "fastest-within-budget": events.OBJECTIVE_FASTEST_WITHIN_BUDGET,
}
_PRIORITIES = {"low": events.PRIORITY_LOW, "normal": events.PRIORITY_NORMAL, "high": events.PRIORITY_HIGH}
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
PACKED_FORMATS = ("text", "messages", "prompt-completion")
NO_ACCELERATOR = ("none", "cpu", "0")


@dataclass(frozen=True, slots=True)
class Trainable:
    """What the trainer can do. A plan may be asked for more; a job may not."""

    methods: tuple[str, ...]
    nodes: int  # machines of one job, at most


TRAINABLE = Trainable(methods=("lora", "qlora", "full", "scratch"), nodes=8)


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
Duration = Annotated[str, StringConstraints(pattern=rf"^{_DURATION.pattern}$")]
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


def require_trainable(job: JobFile) -> None:
    """Raises JobFileError for what can be planned and not yet trained."""
    # A model as code is trained by its own method, which `to_spec` holds it to.
    if job.kind != "train" and job.model.method not in TRAINABLE.methods:
        raise _untrainable("model.method", f"is {job.model.method}", f"write {' or '.join(TRAINABLE.methods)}")
    if job.resources.nodes and _least_nodes(job.resources.nodes) > TRAINABLE.nodes:
        raise _untrainable("resources.nodes", f"asks for {job.resources.nodes}", f"write {TRAINABLE.nodes}")


def trainable_spec(spec: events.JobSpec) -> events.JobSpec:
    """The specification with what it leaves to the planner narrowed to what the trainer can do."""
    narrowed = events.JobSpec()
    narrowed.CopyFrom(spec)
    match = _NODES.fullmatch(spec.resources.nodes or "1+")
    assert match is not None, "the form has checked it"
    if match[2] or match[0].endswith("+"):
        narrowed.resources.nodes = f"{match[1]}..{min(int(match[2] or TRAINABLE.nodes), TRAINABLE.nodes)}"
    return narrowed


def to_spec(
    job: JobFile, model: Model, dataset: Dataset | None, now: datetime, *, weights_uri: str = ""
) -> events.JobSpec:
    """What the other services work from; `dataset` is the one that the job names. `weights_uri`: the trained version
    that a model as code goes on from. Raises JobFileError."""
    if model.artifact_uri:
        raise JobFileError("model", f"{model.id} is an adapter: train again from its base, {model.base_model_id}")
    _check_kind(job, model)
    if job.dataset and dataset:
        _check_dataset(job.dataset, dataset)
        _check_pictures(job, model, dataset)
        _check_wishes(job, dataset)
    policy = _spot_policy(job)
    _require_consistent(job, policy)
    numbers = job.hyperparameters.model_dump()
    spec = events.JobSpec(
        kind=job.kind,
        name=job.name,
        model=events.ModelRef(
            model_id=model.model_id,
            uri=weights_uri if model.origin == "code" else model.base_uri,
            code_uri=model.base_uri if model.origin == "code" else "",
            config_json=model.config_json,
            method=job.model.method,
            rank=job.model.rank,
            # A pipeline's is what diffusers takes for it where a file does not tell.
            alpha=job.model.alpha or (1 if model.task == TEXT_TO_IMAGE else 2) * job.model.rank,
            target_modules=job.model.target_modules,
            dora=job.model.dora,
            rslora=job.model.rslora,
        ),
        dataset=dataset_ref(dataset, job.dataset.eval_fraction) if job.dataset and dataset else None,
        hyperparameters=events.Hyperparameters(**{name: value for name, value in numbers.items() if value != "auto"}),
        resources=events.Resources(
            **machines(job.resources), nodes=job.resources.nodes or "", max_price_usd_per_hour=job.max_price
        ),
        spot_policy=_SPOT_POLICIES[policy],
        budget_usd=job.budget.total_usd if job.budget else None,
        retry=_retry(job.retry),
        checkpoint=events.CheckpointPolicy(
            interval_steps=job.checkpoint.interval if isinstance(job.checkpoint.interval, int) else 0,
            keep=job.checkpoint.keep,
            disabled=job.checkpoint.interval == "never",
        ),
        env=job.env,
        secrets=job.secrets,
        objective=_OBJECTIVES[job.objective],
        priority=_PRIORITIES[job.priority],
        exports=sorted(set(job.export)),
        project=job.project or "",
    )
    if job.deadline is not None:
        spec.deadline.CopyFrom(timestamp(deadline(job.deadline, now)))
    return spec


def _check_kind(job: JobFile, model: Model) -> None:
    """`train` is for models as code, and only for them; their data is in the code."""
    if (job.kind == "train") != (model.origin == "code"):
        wanted = "kind: train, method: scratch" if model.origin == "code" else "kind: finetune"
        raise JobFileError("kind", f"is {job.kind}, but {model.id} needs {wanted}")
    if job.kind == "train" and job.model.method != "scratch":
        raise JobFileError("model.method", f"is {job.model.method}, but kind: train needs scratch")
    if (job.dataset is None) != (job.kind == "train"):
        reason = "must be left out: the model's code brings the data" if job.dataset else "is missing: name a dataset"
        raise JobFileError("dataset", reason)


def _check_dataset(form: DatasetForm, dataset: Dataset) -> None:
    if form.format and form.format != dataset.format:
        raise JobFileError("dataset.format", f"is {form.format}, but the dataset is {dataset.format}: leave it out")
    if dataset.rows - round(dataset.rows * form.eval_fraction) < 1:
        raise JobFileError("dataset.eval_fraction", f"of {dataset.rows} rows leaves none to train on")


def _check_pictures(job: JobFile, model: Model, dataset: Dataset) -> None:
    """A pipeline learns from pictures with texts, by an adapter, and nothing else learns from them."""
    if TEXT_TO_IMAGE not in (model.task, dataset.format):
        return
    if model.task != TEXT_TO_IMAGE:
        raise JobFileError(
            "model.base" if job.model.base else "model.artifact",
            f"is {model.id}, but {dataset.name} is {TEXT_TO_IMAGE}, which needs a diffusers pipeline: upload one",
        )
    if dataset.format != TEXT_TO_IMAGE:
        raise JobFileError(
            "dataset.uri",
            f"is {dataset.format}, but {model.id} learns from {TEXT_TO_IMAGE}: a zip of pictures with metadata.jsonl",
        )
    if job.model.method != "lora":
        raise JobFileError("model.method", f"is {job.model.method}, but a pipeline is trained by lora: write that")
    if job.export:
        raise JobFileError(
            "export", f"asks for {job.export[0]}, which an adapter of a pipeline cannot become: leave it out"
        )


def _check_wishes(job: JobFile, dataset: Dataset) -> None:
    """What is asked for can be done with this method on this kind of data."""
    wishes, method = job.hyperparameters, job.model.method
    for field, wanted in (("dora", job.model.dora), ("rslora", job.model.rslora)):
        if wanted and method not in ("lora", "qlora"):
            raise JobFileError(
                f"model.{field}", f"is of adapters, but the method is {method}: leave it out, or write lora"
            )
    if wishes.dpo_beta != "auto" and dataset.format != "preference":
        raise JobFileError(
            "hyperparameters.dpo_beta", f"is of preference pairs, but the dataset is {dataset.format}: leave it out"
        )
    if wishes.horizontal_flip is True and dataset.format != "image-classification":
        raise JobFileError(
            "hyperparameters.horizontal_flip",
            f"is for pictures in classes, but the dataset is {dataset.format}: leave it out",
        )
    if wishes.packing is True and dataset.format not in PACKED_FORMATS:
        raise JobFileError(
            "hyperparameters.packing",
            f"is for {', '.join(PACKED_FORMATS)}, but the dataset is {dataset.format}: leave it out",
        )
    if dataset.format.endswith("classification") and len(dataset.labels) < 2:
        raise JobFileError("dataset", f"{dataset.name} names no classes: upload it again, with two at least")


def machines(form: MachinesForm) -> dict[str, Any]:
    """What jobs and endpoints say alike about machines, in the contract's words."""
    return {
        "accelerators": form.accelerators or "",
        "cpus": str(form.cpus or ""),
        "memory": str(form.memory or ""),
        "regions": form.regions,
        "instance_types": form.instance_types,
    }


def set_champion(spec: events.JobSpec, champion: Model | None) -> None:
    """The version that the job's result is measured against; None: there is none."""
    spec.ClearField("champion")
    if champion is not None:
        names = ("model_id", "version", "job_id", "base_uri", "artifact_uri", "method")
        spec.champion.CopyFrom(events.Champion(**{name: getattr(champion, name) for name in names}))


def dataset_ref(dataset: Dataset, eval_fraction: float) -> events.DatasetRef:
    return events.DatasetRef(
        dataset_id=dataset.dataset_id,
        name=dataset.name,
        version=dataset.version,
        uri=dataset.uri,
        format=dataset.format,
        rows=dataset.rows,
        bytes=dataset.bytes,
        sha256=dataset.sha256,
        estimated_tokens=dataset.estimated_tokens,
        eval_fraction=eval_fraction,
        labels=dataset.labels,
    )


def deadline(text: str, now: datetime) -> datetime:
    """When it is: an RFC 3339 time with its offset, or a duration from `now`. Raises JobFileError."""
    if duration := _DURATION.fullmatch(text):
        at = now + timedelta(seconds=min(_seconds(duration), (MAX_DEADLINE_DAYS + 1) * UNIT_SECONDS["d"]))
    else:
        try:
            at = datetime.fromisoformat(text)
        except ValueError as error:
            raise JobFileError(
                "deadline", "is neither a time such as 2026-12-01T09:00:00Z nor a duration such as 6h"
            ) from error
        if at.tzinfo is None:
            raise JobFileError("deadline", "has no offset from UTC: write it at the end, for example Z")
        try:
            at = in_utc(at)
        except ValueError as error:
            raise JobFileError("deadline", f"{error}") from error
    if at <= now:
        raise JobFileError("deadline", f"{text} is not in the future: choose a later time or leave it out")
    if at > now + timedelta(days=MAX_DEADLINE_DAYS):
        raise JobFileError("deadline", f"{text} is more than {MAX_DEADLINE_DAYS} days away")
    return at


def retrain_spec(
    parent: events.JobSpec,
    parent_submitted_at: datetime,
    dataset: Dataset,
    request: events.RetrainRequested,
    now: datetime,
    *,
    champion: Model | None,
    data: str = "dataset",
    data_detail: str = "",
) -> events.JobSpec:
    """The parent's job once more, on this dataset, measured against today's champion, with as much time as the parent
    had; `data` as in RetrainOf."""
    spec = events.JobSpec()
    spec.CopyFrom(parent)
    set_champion(spec, champion)
    spec.dataset.CopyFrom(dataset_ref(dataset, parent.dataset.eval_fraction))
    spec.retrain_of.CopyFrom(
        events.RetrainOf(
            endpoint_id=request.endpoint_id,
            model_id=request.model_id,
            version=request.version,
            retrain_id=request.retrain_id,
            data=data,
            data_detail=data_detail,
        )
    )
    if request.HasField("budget_usd"):
        spec.budget_usd = request.budget_usd
    if parent.HasField("deadline"):
        spec.deadline.CopyFrom(timestamp(now + (parent.deadline.ToDatetime(tzinfo=UTC) - parent_submitted_at)))
    return spec


def _spot_policy(job: JobFile) -> str:
    """`use_spot` is SkyPilot's way to say it, `spot_policy` ours."""
    said = {option.use_spot for option in job.resources.any_of}
    if job.resources.use_spot is not None:
        said.add(job.resources.use_spot)
    if len(said) != 1:
        return job.spot_policy or "auto"
    policy = "spot" if said.pop() else "on-demand"
    if job.spot_policy not in (None, policy):
        raise JobFileError("spot_policy", f"is {job.spot_policy}, but resources say {policy}: keep one of them")
    return policy


def _require_consistent(job: JobFile, policy: str) -> None:
    """What each field may say, but not together."""
    if job.objective == "cheapest-within-deadline" and job.deadline is None:
        raise JobFileError(
            "deadline", f"is missing, which objective {job.objective} needs: add one such as 6h, or write cheapest"
        )
    if job.objective == "fastest-within-budget" and job.budget is None:
        raise JobFileError(
            "budget.total_usd", f"is missing, which objective {job.objective} needs: add it, or write fastest"
        )
    if job.checkpoint.interval == "never" and policy == "spot":
        raise JobFileError(
            "checkpoint.interval",
            "is never, but the job is to run on spot: spot without checkpointing loses the work at every interruption: "
            "write auto, or spot_policy on-demand",
        )


def _untrainable(field: str, said: str, instead: str) -> JobFileError:
    return JobFileError(
        field, f"{said}, which can be planned (POST /v1/plans) but not trained yet: {instead} to submit the job"
    )


def _least_nodes(nodes: str) -> int:
    match = _NODES.fullmatch(nodes)
    assert match is not None, "the form has checked it"
    return int(match[1])


def _retry(retry: RetryForm) -> events.Retry:
    if "error" not in retry.on_events and "max_restarts_on_errors" in retry.model_fields_set:
        raise JobFileError("retry.max_restarts_on_errors", "needs error in retry.on_events: add it, or leave this out")
    duration = _DURATION.fullmatch(retry.duration) if retry.duration else None
    return events.Retry(
        max_restarts_on_errors=retry.max_restarts_on_errors if "error" in retry.on_events else 0,
        duration_seconds=_seconds(duration) if duration else 0,
        on_events=sorted(set(retry.on_events)),
    )


def duration_seconds(text: str) -> float:
    """Of a Duration."""
    duration = _DURATION.fullmatch(text)
    if duration is None:
        raise ValueError("is no duration: write one such as 30m, 4h or 1d")
    return _seconds(duration)


def _seconds(duration: re.Match[str]) -> float:
    return float(duration[1]) * UNIT_SECONDS[duration[2]]
