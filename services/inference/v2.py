"""The Open Inference Protocol's shapes (v2), for text classifiers: one BYTES tensor of texts in, labels and
probabilities out. Pure.

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from services.inference.openai import MAX_INPUTS, Refusal, Text


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class Input(_Strict):
    name: str = Field(min_length=1, max_length=256)
    shape: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1, max_length=2)]
    datatype: Literal["BYTES"]
    data: Annotated[list[Text], Field(min_length=1, max_length=MAX_INPUTS)]
    parameters: dict[str, Any] | None = None  # ignored: there are none


class Wanted(_Strict):
    name: Literal["label", "probability", "probabilities"]
    parameters: dict[str, Any] | None = None  # ignored


class InferRequest(_Strict):
    id: str | None = Field(default=None, max_length=256)
    inputs: Annotated[list[Input], Field(min_length=1, max_length=1)]
    outputs: Annotated[list[Wanted], Field(min_length=1, max_length=3)] | None = None
    parameters: dict[str, Any] | None = None  # ignored

    @property
    def texts(self) -> list[str]:
        """Raises Refusal when shape and data do not agree."""
        given = self.inputs[0]
        if math.prod(given.shape) != len(given.data):
            message = f"inputs.0: the shape {given.shape} does not hold {len(given.data)} texts"
            raise Refusal(400, message, param="inputs.0.shape")
        return given.data


@dataclass(frozen=True, slots=True)
class Model:
    """A classifier as it is called here; `labels` in the order of its probabilities."""

    name: str
    version: int
    labels: Sequence[str]


def answer(asked: InferRequest, model: Model, rows: Sequence[Sequence[float]], id_: str) -> dict[str, Any]:
    """`rows`: each text's probability by label. `id_`: the answer's, if the request has none."""
    labels = model.labels
    best = [max(range(len(labels)), key=row.__getitem__) for row in rows]
    outputs = [
        _tensor("label", "BYTES", [len(rows)], [labels[place] for place in best]),
        _tensor("probability", "FP32", [len(rows)], [row[place] for row, place in zip(rows, best, strict=True)]),
        _tensor("probabilities", "FP32", [len(rows), len(labels)], [number for row in rows for number in row]),
    ]
    if asked.outputs is not None:
        wanted = {one.name for one in asked.outputs}
        outputs = [one for one in outputs if one["name"] in wanted]
    return {"model_name": model.name, "model_version": str(model.version), "id": asked.id or id_, "outputs": outputs}


def _tensor(name: str, datatype: str, shape: list[int], data: list[Any]) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


def described(model: Model) -> dict[str, Any]:
    """The protocol's model metadata."""
    return {
        "name": model.name,
        "versions": [str(model.version)],
        "platform": "transformers",
        "inputs": [{"name": "text", "datatype": "BYTES", "shape": [-1]}],
        "outputs": [
            {"name": "label", "datatype": "BYTES", "shape": [-1]},
            {"name": "probability", "datatype": "FP32", "shape": [-1]},
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, len(model.labels)]},
        ],
        "parameters": {"labels": list(model.labels)},
    }
