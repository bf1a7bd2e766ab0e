"""What a model takes and gives, as tensors of the Open Inference Protocol. Pure.

A user's own model tells its signature itself (sskai/usermodel_signature.py), so it is believed in its form alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

# As what numbers travel here. numpy has no bfloat16: float32 holds all of its numbers.
NUMPY: Mapping[str, np.dtype[Any]] = MappingProxyType(
    {
        "BOOL": np.dtype("bool"),
        "UINT8": np.dtype("uint8"),
        "UINT16": np.dtype("uint16"),
        "UINT32": np.dtype("uint32"),
        "UINT64": np.dtype("uint64"),
        "INT8": np.dtype("int8"),
        "INT16": np.dtype("int16"),
        "INT32": np.dtype("int32"),
        "INT64": np.dtype("int64"),
        "FP16": np.dtype("float16"),
        "BF16": np.dtype("float32"),
        "FP32": np.dtype("float32"),
        "FP64": np.dtype("float64"),
    }
)
NAMES: Mapping[np.dtype[Any], str] = MappingProxyType({kind: name for name, kind in NUMPY.items() if name != "BF16"})
ANY = -1  # a size that may differ
MAX_TENSORS = 16
MAX_DIMENSIONS = 8
MAX_NAME_CHARACTERS = 256
MAX_SIZE = 2**31 - 1


class SignatureError(ValueError):
    """What a model says of itself is no signature; the text says where."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """`shape`: the first size is that of the samples, and always ANY."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    def takes(self, shape: Sequence[int]) -> bool:
        return len(shape) == len(self.shape) and all(
            size in (ANY, given) for size, given in zip(self.shape, shape, strict=True)
        )

    def document(self) -> dict[str, Any]:
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}


@dataclass(frozen=True, slots=True)
class Signature:
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    @classmethod
    def parse(cls, document: Any) -> Signature:
        """Raises SignatureError."""
        if not isinstance(document, Mapping):
            raise SignatureError("the signature is no object")
        sides = []
        for side in ("inputs", "outputs"):
            listed = document.get(side)
            if not isinstance(listed, list) or not 1 <= len(listed) <= MAX_TENSORS:
                raise SignatureError(f"{side}: a list of 1 to {MAX_TENSORS} tensors is wanted")
            tensors = tuple(_tensor(f"{side}.{at}", each) for at, each in enumerate(listed))
            if len({each.name for each in tensors}) < len(tensors):
                raise SignatureError(f"{side}: two tensors have one name")
            sides.append(tensors)
        return cls(*sides)


def _tensor(where: str, document: Any) -> Tensor:
    if not isinstance(document, Mapping):
        raise SignatureError(f"{where} is no object")
    name, datatype, shape = (document.get(key) for key in ("name", "datatype", "shape"))
    if not isinstance(name, str) or not 1 <= len(name) <= MAX_NAME_CHARACTERS or not name.isprintable():
        raise SignatureError(f"{where}.name is no name")
    if not isinstance(datatype, str) or datatype not in NUMPY:
        raise SignatureError(f"{where}.datatype is none of {', '.join(NUMPY)}")
    sizes = shape if isinstance(shape, list) else []
    plain = all(type(size) is int and (size == ANY or 0 <= size <= MAX_SIZE) for size in sizes)
    if not 1 <= len(sizes) <= MAX_DIMENSIONS or not plain or sizes[0] != ANY:
        raise SignatureError(f"{where}.shape is not -1 and then up to {MAX_DIMENSIONS - 1} sizes")
    return Tensor(name, datatype, tuple(sizes))
