"""OpenAI's fine-tuning jobs in our words: what a request means as a job file. Pure.

What OpenAI has and we cannot do is refused with what to write instead, never ignored. Our own options come as `sskai`,
with the names and the defaults of a job file.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from services.gateway.jobfile import (
    Auto,
    DatasetOptions,
    Form,
    JobFile,
    JobFileError,
    JobOptions,
    ModelOptions,
    Name,
    Reference,
    Text,
)
from services.gateway.values import TEXT_TO_IMAGE, Dataset, Model

SUPERVISED, DPO, REINFORCEMENT = "supervised", "dpo", "reinforcement"
PREFERENCE = "preference"
# Learning rates of "auto", by method and up to how many parameters: the optimizer's own (a test compares the two).
ADAPTER_RATES = ((1e9, 5e-4), (30e9, 2e-4), (float("inf"), 1e-4))
FULL_RATE = 2e-5
DPO_RATES = {"lora": 1e-5, "qlora": 1e-5, "full": 1e-6}
TEXT_TO_IMAGE_RATE = 1e-4
# What our errors call a field, and what the request calls it.
NAMES = {
    "model": "model",
    "model.base": "model",
    "model.artifact": "model",
    "dataset": "training_file",
    "dataset.uri": "training_file",
    "name": "suffix",
    "hyperparameters.n_epochs": "hyperparameters.n_epochs",
    "hyperparameters.batch_size": "hyperparameters.batch_size",
    "hyperparameters.seed": "seed",
    "hyperparameters.dpo_beta": "method.dpo.hyperparameters.beta",
}


class WishesForm(Form):
    n_epochs: Annotated[float, Field(gt=0, le=1000)] | Auto = "auto"
    batch_size: Annotated[int, Field(ge=1, le=65_536)] | Auto = "auto"
    learning_rate_multiplier: Annotated[float, Field(gt=0, le=1000)] | Auto = "auto"  # of the rate that auto would be


class DpoWishesForm(WishesForm):
    beta: Annotated[float, Field(gt=0, le=10)] | Auto = "auto"


class SupervisedForm(Form):
    hyperparameters: WishesForm | None = None


class DpoForm(Form):
    hyperparameters: DpoWishesForm | None = None


class MethodForm(Form):
    type: Literal["supervised", "dpo", "reinforcement"]
    supervised: SupervisedForm | None = None
    dpo: DpoForm | None = None
    reinforcement: dict[str, Any] | None = None


class OptionsForm(JobOptions):
    """Ours: the fields of a job file that OpenAI has no words for."""

    name: Name | None = None  # of the model; absent: made of the suffix
    model: ModelOptions = ModelOptions()
    dataset: DatasetOptions = DatasetOptions()
    deploy: bool = True  # the model answers under its name as soon as it is there


class FineTuneForm(Form):
    model: Reference
    training_file: Reference
    validation_file: Text | None = None
    hyperparameters: WishesForm | None = None
    method: MethodForm | None = None
    suffix: Annotated[Text, StringConstraints(max_length=64)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    metadata: (
        Annotated[
            dict[
                Annotated[Text, StringConstraints(min_length=1, max_length=64)],
                Annotated[Text, StringConstraints(max_length=512)],
            ],
            Field(max_length=16),
        ]
        | None
    ) = None
    integrations: list[dict[str, Any]] | None = None
    sskai: OptionsForm = OptionsForm()


def require_supported(form: FineTuneForm) -> None:
    """Raises JobFileError, in the request's words, for what OpenAI has and we cannot do."""
    if form.validation_file is not None:
        raise JobFileError(
            "validation_file",
            "cannot be used: leave it out. A share of the training file is held out and evaluated instead "
            "(sskai.dataset.eval_fraction, 0.05 unless it is given)",
        )
    if form.integrations:
        raise JobFileError(
            "integrations", "cannot be used: leave them out. Metrics are in the job's events, webhooks send them on"
        )
    if form.method is not None and form.method.type == REINFORCEMENT:
        raise JobFileError("method.type", f"is {REINFORCEMENT}, which cannot be done: write {SUPERVISED} or {DPO}")


def wishes(form: FineTuneForm) -> DpoWishesForm:
    """The hyperparameters, wherever they stand. Those of the method come before OpenAI's older field."""
    method = form.method
    of_method = None
    if method is not None:
        chosen = method.dpo if method.type == DPO else method.supervised
        of_method = chosen.hyperparameters if chosen else None
    said: dict[str, Any] = {}
    for one in (form.hyperparameters, of_method):
        if one is not None:
            said |= {name: value for name, value in one.model_dump().items() if value != "auto"}
    return DpoWishesForm(**said)


def method_of(form: FineTuneForm, dataset: Dataset) -> str:
    """Supervised or dpo: what the request says, else what the file is for. Raises JobFileError."""
    suited = DPO if dataset.format == PREFERENCE else SUPERVISED
    if form.method is not None and form.method.type != suited:
        raise JobFileError(
            "method.type", f"is {form.method.type}, but the file holds {dataset.format} rows: write {suited}"
        )
    return suited


def job_file(form: FineTuneForm, name: str, model: Model, dataset: Dataset) -> JobFile:
    """The job that is meant."""
    options, wanted = form.sskai, wishes(form)
    hyperparameters = options.hyperparameters.model_dump()
    given = {"n_epochs": wanted.n_epochs, "batch_size": wanted.batch_size, "dpo_beta": wanted.beta}
    if form.seed is not None:
        given["seed"] = form.seed
    if wanted.learning_rate_multiplier != "auto":
        auto = auto_learning_rate(options.model.method, model.parameters, dataset.format)
        given["learning_rate"] = min(1.0, wanted.learning_rate_multiplier * auto)
    hyperparameters |= {field: value for field, value in given.items() if value != "auto"}
    rest = options.model_dump(exclude={"name", "model", "dataset", "hyperparameters", "deploy"}, exclude_unset=True)
    return JobFile.model_validate(
        {
            "kind": "finetune",
            "name": name,
            "model": {"base": form.model, **options.model.model_dump()},
            "dataset": {"uri": dataset.dataset_id, **options.dataset.model_dump()},
            "hyperparameters": hyperparameters,
            **rest,
        }
    )


def auto_learning_rate(method: str, parameters: int, format_name: str) -> float:
    """What "auto" will be: what a multiplier multiplies."""
    if format_name == TEXT_TO_IMAGE:
        return TEXT_TO_IMAGE_RATE
    if format_name == PREFERENCE and method in DPO_RATES:
        return DPO_RATES[method]
    if method in ("lora", "qlora"):
        return next(rate for limit, rate in ADAPTER_RATES if parameters < limit)
    return FULL_RATE


def name_of(form: FineTuneForm, unique: str) -> str:
    """The model's: the suffix, so that versions of it follow each other; else one that no other job has.

    Raises JobFileError.
    """
    if form.sskai.name is not None:
        return form.sskai.name
    if form.suffix is None:
        return f"ft-{_slug(form.model)[:40].strip('._-')}-{unique}"
    slug = _slug(form.suffix)[:63].strip("._-")
    if not slug:
        raise JobFileError("suffix", f"{form.suffix!r} has no letter or digit: the model is named by it")
    return slug


def in_openais_words(error: JobFileError) -> JobFileError:
    """The error with the field that the request has."""
    return JobFileError(NAMES.get(error.field, f"sskai.{error.field}"), error.message)


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("._-")
