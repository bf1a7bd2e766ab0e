"""The data of a v2 request: from JSON or from bytes behind it to texts, pictures and arrays of numbers. Pure.

Whatever does not fit is a Refusal that names the field. JSON is strict: 1.0 is no INT64, 300 no INT8, true no number.
"""

from __future__ import annotations

import binascii
import math
import struct
from base64 import b64decode
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from services.inference.openai import MAX_INPUTS, MAX_TEXT_CHARACTERS, Refusal
from services.inference.signatures import ANY, NUMPY, Signature, Tensor
from services.inference.v2 import BYTES, Asked, Input, picture_tensors

MAX_PICTURES = 64  # of a request
MAX_PICTURE_BYTES = 6 * 1024 * 1024  # of a file
MAX_ROWS = 1024  # of a request to a user's own model
_LENGTH = struct.Struct("<I")  # before each element of a BYTES tensor in binary data
_KINDS: dict[str, frozenset[type]] = {"b": frozenset({bool}), "i": frozenset({int}), "f": frozenset({int, float})}


def texts(asked: Asked) -> list[str]:
    """The one input of a text classifier. Raises Refusal."""
    given = _only(asked, "a text classifier takes one BYTES tensor of texts")
    _check_datatype(0, given, (BYTES,))
    elements = _elements(given, asked.raw[0], MAX_INPUTS, "texts", dimensions=2)
    found = []
    for place, element in enumerate(elements):
        where = f"inputs.0.data.{place}"
        try:
            text = element if isinstance(element, str) else element.decode()
        except UnicodeDecodeError as error:
            raise Refusal(400, f"{where}: not UTF-8 at byte {error.start + 1}", param=where) from error
        if len(text) > MAX_TEXT_CHARACTERS:
            message = f"{where}: {len(text)} characters; a text has up to {MAX_TEXT_CHARACTERS}"
            raise Refusal(400, message, param=where)
        found.append(text)
    return found


def pictures(asked: Asked, prepared: Sequence[int]) -> list[bytes] | np.ndarray[Any, Any]:
    """The one input of an image classifier: files, or an array [pictures, channels, height, width] of uint8 (pixels)
    or float32 (as the model takes them, of shape `prepared`). Raises Refusal."""
    given = _only(asked, "an image classifier takes one tensor of pictures")
    _check_datatype(0, given, (BYTES, "UINT8", "FP32"))
    if given.datatype == BYTES:
        elements = _elements(given, asked.raw[0], MAX_PICTURES, "pictures", dimensions=2)
        return [_file(f"inputs.0.data.{place}", element) for place, element in enumerate(elements)]
    pixels, values = picture_tensors(prepared)
    _check_shape(0, given, pixels if given.datatype == "UINT8" else values)
    if given.shape[0] > MAX_PICTURES:
        raise _shape_refused(0, f"{given.shape[0]} pictures; a request has up to {MAX_PICTURES}")
    return numbers(0, given, asked.raw[0])


def tensors(asked: Asked, signature: Signature) -> dict[str, np.ndarray[Any, Any]]:
    """The inputs of a user's own model by name, all with as many rows. Raises Refusal."""
    wanted = {one.name: one for one in signature.inputs}
    found: dict[str, np.ndarray[Any, Any]] = {}
    rows = asked.request.inputs[0].shape[0]
    for place, given in enumerate(asked.request.inputs):
        where = f"inputs.{place}.name"
        if given.name not in wanted:
            raise Refusal(400, f"{where}: {given.name!r} is none of {', '.join(wanted)}", param=where)
        if given.name in found:
            raise Refusal(400, f"{where}: {given.name!r} is there twice", param=where)
        _check_datatype(place, given, (wanted[given.name].datatype,))
        _check_shape(place, given, wanted[given.name])
        if given.shape[0] != rows:
            raise _shape_refused(place, f"{given.shape[0]} rows, but inputs.0 has {rows}")
        if rows > MAX_ROWS:
            raise _shape_refused(place, f"{rows} rows; a request has up to {MAX_ROWS}")
        found[given.name] = numbers(place, given, asked.raw[place])
    if missing := [name for name in wanted if name not in found]:
        raise Refusal(400, f"inputs: {', '.join(missing)} is missing", param="inputs")
    return found


def numbers(place: int, given: Input, raw: bytes | None) -> np.ndarray[Any, Any]:
    """An input's array. Raises Refusal."""
    kind, count = NUMPY[given.datatype], math.prod(given.shape)
    where = f"inputs.{place}.data"
    if raw is not None:
        if len(raw) != count * kind.itemsize:
            raise Refusal(
                400, f"{where}: {len(raw)} bytes are not {given.shape} of {given.datatype}", param=f"inputs.{place}"
            )
        values = np.frombuffer(raw, kind.newbyteorder("<")).astype(kind)
        if kind.kind == "f" and not np.isfinite(values).all():
            raise Refusal(400, f"{where}: numbers must be finite", param=where)
        return values.reshape(given.shape)
    flat = _flat(place, given)
    allowed = _KINDS["i" if kind.kind == "u" else kind.kind]
    if not set(map(type, flat)) <= allowed:
        raise _no_number(where, next(value for value in flat if type(value) not in allowed), given)
    try:
        with np.errstate(over="ignore"):
            array = np.array(flat, kind)
    except (OverflowError, ValueError) as error:
        raise _no_number(where, _outside(flat, kind), given) from error
    if kind.kind == "f" and not np.isfinite(array).all():
        raise _no_number(where, flat[int(np.argmin(np.isfinite(array)))], given)
    return array.reshape(given.shape)


def _outside(flat: Sequence[Any], kind: np.dtype[Any]) -> Any:
    """The first value that the datatype does not hold."""
    if kind.kind in "iu":
        limits = np.iinfo(kind)
        return next((value for value in flat if not limits.min <= value <= limits.max), flat[0])
    return max(flat, key=abs)


def _no_number(where: str, value: Any, given: Input) -> Refusal:
    return Refusal(400, f"{where}: {str(value)[:40]!r} is no {given.datatype}", param=where)


def _flat(place: int, given: Input) -> list[Any]:
    """The data in row-major order, whether they were nested or not. Raises Refusal."""
    data: list[Any] = given.data or []
    count = math.prod(given.shape)
    if data and isinstance(data[0], list):
        # Nested as the shape says: from the outermost dimension inwards.
        expected = 1
        for size, inner in pairwise(given.shape):
            expected *= size
            lists = len(data) == expected and all(isinstance(each, list) for each in data)
            if not lists or {len(each) for each in data} != {inner}:
                raise _unlike_shape(place, given)
            data = [value for each in data for value in each]
    if len(data) != count:
        raise _unlike_shape(place, given)
    return data


def _unlike_shape(place: int, given: Input) -> Refusal:
    return _shape_refused(place, f"the shape {given.shape} asks for {math.prod(given.shape)} values in data")


def _elements(given: Input, raw: bytes | None, most: int, what: str, *, dimensions: int) -> list[str | bytes]:
    """The elements of a BYTES tensor: texts of JSON, or bytes. Raises Refusal."""
    count = math.prod(given.shape)
    if len(given.shape) > dimensions:
        raise _shape_refused(0, f"{len(given.shape)} dimensions; {what} have up to {dimensions}")
    if count > most:
        raise _shape_refused(0, f"{count} {what}; a request has up to {most}")
    if raw is not None:
        return _unpacked(raw, count)
    flat = _flat(0, given)
    for place, value in enumerate(flat):
        if not isinstance(value, str):
            where = f"inputs.0.data.{place}"
            raise Refusal(400, f"{where}: a text is wanted, not {str(value)[:40]!r}", param=where)
    return flat


def _unpacked(raw: bytes, count: int) -> list[str | bytes]:
    """Of binary data: each element behind its length, four bytes, little-endian."""
    found: list[str | bytes] = []
    at = 0
    while at < len(raw) and len(found) < count:
        if at + _LENGTH.size > len(raw):
            break
        (length,) = _LENGTH.unpack_from(raw, at)
        at += _LENGTH.size
        if at + length > len(raw):
            break
        found.append(raw[at : at + length])
        at += length
    if len(found) != count or at != len(raw):
        message = f"inputs.0: the binary data are not {count} elements, each behind its length of four bytes"
        raise Refusal(400, message, param="inputs.0.parameters.binary_data_size")
    return found


def _file(where: str, element: str | bytes) -> bytes:
    """A picture's file; in JSON it is base64. Raises Refusal."""
    # Before it is decoded: base64 takes four characters for three bytes.
    if isinstance(element, str) and len(element) > MAX_PICTURE_BYTES // 3 * 4 + 4:
        raise _too_large(where)
    try:
        file = b64decode(element, validate=True) if isinstance(element, str) else element
    except (binascii.Error, ValueError) as error:
        message = f"{where}: a picture's file in base64 is wanted: {error}"
        raise Refusal(400, message, param=where) from error
    if len(file) > MAX_PICTURE_BYTES:
        raise _too_large(where)
    return file


def _too_large(where: str) -> Refusal:
    return Refusal(400, f"{where}: a picture's file has up to {MAX_PICTURE_BYTES} bytes", param=where)


def _only(asked: Asked, rule: str) -> Input:
    if len(asked.request.inputs) > 1:
        raise Refusal(400, f"inputs: {rule}, not {len(asked.request.inputs)} tensors", param="inputs")
    return asked.request.inputs[0]


def _check_datatype(place: int, given: Input, taken: Sequence[str]) -> None:
    if given.datatype not in taken:
        where = f"inputs.{place}.datatype"
        raise Refusal(400, f"{where}: the model takes {' or '.join(taken)}, not {given.datatype}", param=where)


def _check_shape(place: int, given: Input, taken: Tensor) -> None:
    if not taken.takes(given.shape):
        raise _shape_refused(place, f"the model takes {list(taken.shape)} ({ANY}: any size), not {given.shape}")


def _shape_refused(place: int, why: str) -> Refusal:
    return Refusal(400, f"inputs.{place}.shape: {why}", param=f"inputs.{place}.shape")
