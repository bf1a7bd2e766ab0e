"""The way of a job file into the contract's JobSpec, which the other services work from. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from services.gateway.jobfile import (
    DURATION,
    UNIT_SECONDS,
    DatasetForm,
    JobFile,
    JobFileError,
    MachinesForm,
    RetryForm,
    duration_seconds,
    node_range,
)
from services.gateway.plain import in_utc
from services.gateway.values import TEXT_TO_IMAGE, Dataset, Model
from sskai.contract import timestamp
from sskai.events import v1 as events

MAX_DEADLINE_DAYS = 90
PACKED_FORMATS = ("text", "messages", "prompt-completion")
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


@dataclass(frozen=True, slots=True)
class Trainable:
    """What the trainer can do. A plan may be asked for more; a job may not."""

    methods: tuple[str, ...]
    nodes: int  # machines of one job, at most


TRAINABLE = Trainable(methods=("lora", "qlora", "full", "scratch"), nodes=8)


def require_trainable(job: JobFile) -> None:
    """Raises JobFileError for what can be planned and not yet trained."""
    # A model as code is trained by its own method, which `to_spec` holds it to.
    if job.kind != "train" and job.model.method not in TRAINABLE.methods:
        raise _untrainable("model.method", f"is {job.model.method}", f"write {' or '.join(TRAINABLE.methods)}")
    if job.resources.nodes and node_range(job.resources.nodes)[0] > TRAINABLE.nodes:
        raise _untrainable("resources.nodes", f"asks for {job.resources.nodes}", f"write {TRAINABLE.nodes}")


def trainable_spec(spec: events.JobSpec) -> events.JobSpec:
    """The specification with what it leaves to the planner narrowed to what the trainer can do."""
    narrowed = events.JobSpec()
    narrowed.CopyFrom(spec)
    least, most = node_range(spec.resources.nodes or "1+")
    if most != least:
        narrowed.resources.nodes = f"{least}..{min(most or TRAINABLE.nodes, TRAINABLE.nodes)}"
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
    if DURATION.fullmatch(text):
        at = now + timedelta(seconds=min(duration_seconds(text), (MAX_DEADLINE_DAYS + 1) * UNIT_SECONDS["d"]))
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


def _retry(retry: RetryForm) -> events.Retry:
    if "error" not in retry.on_events and "max_restarts_on_errors" in retry.model_fields_set:
        raise JobFileError("retry.max_restarts_on_errors", "needs error in retry.on_events: add it, or leave this out")
    return events.Retry(
        max_restarts_on_errors=retry.max_restarts_on_errors if "error" in retry.on_events else 0,
        duration_seconds=duration_seconds(retry.duration) if retry.duration else 0,
        on_events=sorted(set(retry.on_events)),
    )
