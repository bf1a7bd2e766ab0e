"""What a model was found to ask for: remembered by the hash of the question, or counted by the profiling worker."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from importlib import metadata
from typing import Any, Protocol

from pydantic import TypeAdapter

from services.optimizer.memory import ModelProfile, Peaks, Precision
from services.optimizer.store import Store
from services.optimizer.work import MAX_EVAL_ROWS, Request
from sskai.database import Database

# Changes when the workers count otherwise or answer in another shape.
COUNTED_BY = 5
LIBRARIES = ("torch", "transformers", "peft", "diffusers")


# The worker is started anew for each try; what kills it three times is set aside.
MAX_TRIES = 3
OUR_ADVICE = "Nothing is wrong with the request as far as is known: ask again later, or tell the operator."


class ProfilesModels(Protocol):
    """The profiling worker as planners see it."""

    async def profile(self, request: dict[str, Any]) -> dict[str, Any]: ...


def key_of(question: Mapping[str, Any]) -> str:
    """The name under which the answer is remembered: another version of what counts is asked anew."""
    question = {**question, "counted_by": [COUNTED_BY, *(metadata.version(name) for name in LIBRARIES)]}
    return hashlib.sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()


class ProfilesCode(Protocol):
    """The sandbox for users' own models as planners see it."""

    async def profile(self, code_uri: str) -> dict[str, Any]: ...


_PROFILE = TypeAdapter(ModelProfile)


def model_profile(counted: Mapping[str, Any]) -> ModelProfile:
    """The profiling worker's answer as planning takes it."""
    return _PROFILE.validate_python(counted)


def own_model(counted: Mapping[str, Any], request: Request) -> tuple[ModelProfile, Request]:
    """A user's own model as planning takes it: one "sequence" of one "token" is one sample, and the zip holds the data.

    On accelerators a float32 model is planned in mixed precision; another type stays what it is.
    """
    parameters, trainable = counted["parameters"], counted["trainable_parameters"]
    activations, whole = float(counted["activation_bytes_per_sample"]), counted["dtype"] == "float32"

    def precision(element_bytes: int, share: float) -> Precision:
        gradients = trainable * element_bytes
        peaks = Peaks(fresh=((float(gradients), activations * share),), accumulating=((0.0, activations * share),))
        weights = parameters * element_bytes + counted["buffers_bytes"]
        return Precision(weight_bytes=weights, gradient_bytes=gradients, plain=peaks, checkpointed=peaks)

    flops = float(counted["flops_forward_per_sample"] + counted["flops_backward_per_sample"])
    profile = ModelProfile(
        parameters=parameters,
        trainable_parameters=trainable,
        largest_trainable_parameters=trainable,
        layers=1,
        linear_parameters=0,
        largest_linear_parameters=0,
        flops_per_token=flops,
        recomputing_flops_per_token=flops,
        float32=precision(4, 1.0),
        bfloat16=precision(2, 0.5) if whole else precision(4, 1.0),
    )
    held_out = min(counted["held_out_samples"], MAX_EVAL_ROWS)
    rows = counted["samples"] + held_out
    return profile, replace(
        request,
        method="scratch",
        rows=rows,
        estimated_tokens=rows,
        dataset_bytes=(counted["samples"] + counted["held_out_samples"]) * counted["sample_bytes"],
        eval_fraction=held_out / rows,
        learning_rate=request.learning_rate or counted["learning_rate"],  # goes by the optimizer, not by the size
        sequence_length=1,
        context_length=1,
        gradient_checkpointing=False,
    )


async def of_code(database: Database, profiler: ProfilesCode, code_uri: str) -> dict[str, Any]:
    """The counts of a zip, which is named by its content and so asked about once. Raises what the profiler raises."""
    return await _remembered(database, {"code_uri": code_uri}, lambda: profiler.profile(code_uri))


async def answer(database: Database, profiler: ProfilesModels, question: dict[str, Any]) -> dict[str, Any]:
    """Raises what the profiler raises. A refusal is not remembered: a newer transformers may know the model."""
    return await _remembered(database, question, lambda: profiler.profile(question))


async def _remembered(
    database: Database, question: dict[str, Any], ask: Callable[[], Awaitable[dict[str, Any]]]
) -> dict[str, Any]:
    key, now = key_of(question), datetime.now(UTC)
    async with database.transaction() as session:
        known = await Store(session).remembered_profile(key, now)
    if known is None:
        known = await ask()
        async with database.transaction() as session:
            await Store(session).remember_profile(key, known, now)
    return known
