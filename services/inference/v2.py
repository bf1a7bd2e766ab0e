"""The Open Inference Protocol's shapes (v2): what a request may say, what an answer and a model's metadata look like.
Pure. What the data of a request mean is `v2_data.py`'s.

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from services.inference import openai
from services.inference.openai import Refusal
from services.inference.signatures import (
    ANY,
    MAX_DIMENSIONS,
    MAX_NAME_CHARACTERS,
    MAX_SIZE,
    MAX_TENSORS,
    NAMES,
    NUMPY,
    Signature,
    Tensor,
)

BYTES = "BYTES"
DATATYPES = (BYTES, *NUMPY)
BINARY_SIZE = "binary_data_size"  # of the protocol's binary data extension
LENGTH_HEADER = "inference-header-content-length"
Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME_CHARACTERS)]
Size = Annotated[int, Field(ge=1, le=MAX_SIZE)]

_CLASSES = (("label", BYTES), ("probability", "FP32"), ("probabilities", "FP32"))


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class Input(_Strict):
    """`data`: values in row-major order, flat or nested; absent if they lie behind the JSON (`binary_data_size`)."""

    name: Name
    shape: Annotated[list[Size], Field(min_length=1, max_length=MAX_DIMENSIONS)]
    datatype: str
    data: list[Any] | None = None
    parameters: dict[str, Any] | None = None  # ignored but for `binary_data_size`


class Wanted(_Strict):
    name: Name
    parameters: dict[str, Any] | None = None  # ignored: answers are JSON


class InferRequest(_Strict):
    id: str | None = Field(default=None, max_length=256)
    inputs: Annotated[list[Input], Field(min_length=1, max_length=MAX_TENSORS)]
    outputs: Annotated[list[Wanted], Field(min_length=1, max_length=MAX_TENSORS)] | None = None
    parameters: dict[str, Any] | None = None  # ignored


@dataclass(frozen=True, slots=True)
class Asked:
    """A request whose inputs are of known datatypes; `raw`: of each input the bytes behind the JSON, or None."""

    request: InferRequest
    raw: Sequence[bytes | None]


@dataclass(frozen=True, slots=True)
class Model:
    """A model as it is called here."""

    name: str
    version: int


@dataclass(frozen=True, slots=True)
class Classes:
    """A classifier: `labels` in the order of its probabilities; `picture`: (channels, height, width) of a prepared
    picture, None if it reads texts."""

    labels: Sequence[str]
    picture: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Output:
    name: str
    datatype: str
    shape: list[int]
    data: list[Any] = field(repr=False)

    def document(self) -> dict[str, Any]:
        return {"name": self.name, "datatype": self.datatype, "shape": self.shape, "data": self.data}


def parse(body: bytes, json_bytes: str | None) -> Asked:
    """`json_bytes`: of the header LENGTH_HEADER: so long is the JSON, and tensors lie behind it. Raises Refusal."""
    head, rest = body, b""
    if json_bytes is not None:
        if not json_bytes.isascii() or not json_bytes.isdigit() or int(json_bytes[:12]) > len(body):
            message = f"Inference-Header-Content-Length: {json_bytes[:20]!r} is no length within this body"
            raise Refusal(400, message, param="Inference-Header-Content-Length")
        head, rest = body[: int(json_bytes)], body[int(json_bytes) :]
    request = openai.parse(InferRequest, head)
    raw: list[bytes | None] = []
    for place, given in enumerate(request.inputs):
        if given.datatype not in DATATYPES:
            message = f"inputs.{place}.datatype: {given.datatype[:20]!r} is none of {', '.join(DATATYPES)}"
            raise Refusal(400, message, param=f"inputs.{place}.datatype")
        piece, rest = _binary(place, given, rest)
        raw.append(piece)
    if rest:
        raise Refusal(400, f"{len(rest)} bytes of the body belong to no input", param="inputs")
    return Asked(request, raw)


def _binary(place: int, given: Input, rest: bytes) -> tuple[bytes | None, bytes]:
    """An input's bytes behind the JSON, and those that are left."""
    size = (given.parameters or {}).get(BINARY_SIZE)
    if size is None:
        if given.data is None:
            raise Refusal(400, f"inputs.{place}.data: is missing", param=f"inputs.{place}.data")
        return None, rest
    where = f"inputs.{place}.parameters.{BINARY_SIZE}"
    if given.data is not None:
        raise Refusal(400, f"{where}: the input has data as well: send one of them", param=where)
    if type(size) is not int or not 0 <= size <= len(rest):
        raise Refusal(400, f"{where}: {size!r} bytes are not in the body, {len(rest)} are"[:300], param=where)
    return rest[:size], rest[size:]


def classified(classes: Classes, rows: Sequence[Sequence[float]]) -> list[Output]:
    """`rows`: each input's probability by label."""
    labels = classes.labels
    best = [max(range(len(labels)), key=row.__getitem__) for row in rows]
    count = len(rows)
    return [
        Output("label", BYTES, [count], [labels[place] for place in best]),
        Output("probability", "FP32", [count], [row[place] for row, place in zip(rows, best, strict=True)]),
        Output("probabilities", "FP32", [count, len(labels)], [number for row in rows for number in row]),
    ]


def told(outputs: Mapping[str, np.ndarray[Any, Any]]) -> list[Output]:
    """What a user's own model gave. Raises Refusal for what JSON has no words for."""
    found = []
    for name, numbers in outputs.items():
        if numbers.dtype.kind == "f" and not np.isfinite(numbers).all():
            message = f"The model's {name} holds numbers that are not finite: mend the model, or what it is asked."
            raise Refusal(500, message, kind="server_error", code="engine_error")
        found.append(Output(name, NAMES[numbers.dtype], list(numbers.shape), numbers.reshape(-1).tolist()))
    return found


def check_wanted(request: InferRequest, names: Sequence[str]) -> None:
    """Raises Refusal for an output that the model does not have."""
    for place, one in enumerate(request.outputs or ()):
        if one.name not in names:
            message = f"outputs.{place}.name: {one.name!r} is none of {', '.join(names)}"
            raise Refusal(400, message, param=f"outputs.{place}.name")


def answer(request: InferRequest, model: Model, outputs: Sequence[Output], id_: str) -> dict[str, Any]:
    """`id_`: the answer's, if the request has none."""
    wanted = {one.name for one in request.outputs or ()} or {one.name for one in outputs}
    return {
        "model_name": model.name,
        "model_version": str(model.version),
        "id": request.id or id_,
        "outputs": [one.document() for one in outputs if one.name in wanted],
    }


CLASS_NAMES = tuple(name for name, _ in _CLASSES)


def described(model: Model, kind: Classes | Signature) -> dict[str, Any]:
    """The protocol's model metadata."""
    if isinstance(kind, Signature):
        return _metadata(model, "pytorch", kind.inputs, kind.outputs, {})
    outputs = [
        Tensor(name, datatype, (ANY, len(kind.labels)) if name == "probabilities" else (ANY,))
        for name, datatype in _CLASSES
    ]
    more: dict[str, Any] = {"labels": list(kind.labels)}
    if kind.picture is not None:
        # The protocol has no word for "or".
        more["or_inputs"] = [one.document() for one in picture_tensors(kind.picture)]
    inputs = [Tensor("text" if kind.picture is None else "image", BYTES, (ANY,))]
    return _metadata(model, "transformers", inputs, outputs, more)


def picture_tensors(prepared: Sequence[int]) -> tuple[Tensor, Tensor]:
    """What an image classifier takes instead of files: pixels, and pictures that are prepared already."""
    return Tensor("pixels", "UINT8", (ANY, ANY, ANY, ANY)), Tensor("pixel_values", "FP32", (ANY, *prepared))


def _metadata(
    model: Model, platform: str, inputs: Sequence[Tensor], outputs: Sequence[Tensor], parameters: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "name": model.name,
        "versions": [str(model.version)],
        "platform": platform,
        "inputs": [one.document() for one in inputs],
        "outputs": [one.document() for one in outputs],
        "parameters": dict(parameters),
    }
