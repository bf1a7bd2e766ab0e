"""Is this upload a model as code? A zip with model.py and data.py, checked by its content; nothing of it is run here.

The contract is docs/guides/own-model.md. The code runs in the optimizer's sandbox when a plan is
asked for, and in the job's own pod.
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from services.gateway.weights import RefusedError, check_safetensors
from sskai import archives, requirements
from sskai.archives import ArchiveError
from sskai.requirements import RequirementError

REQUIRED = ("model.py", "data.py")
WEIGHTS = "weights.safetensors"
MAX_SOURCE_BYTES = 1024 * 1024
CHUNK_BYTES = 1024 * 1024


class TrainForm(BaseModel):
    """train.json: everything may be left out."""

    model_config = ConfigDict(strict=True, extra="forbid")

    loss: Literal["cross_entropy", "mse", "l1", "bce_with_logits"] | None = None
    optimizer: Literal["adamw", "sgd", "adam"] | None = None


@dataclass(frozen=True, slots=True)
class Code:
    """What is known of an archive without running it."""

    sha256: str
    bytes: int
    requirements: tuple[str, ...]


def check(file: BinaryIO) -> Code:
    """Whether a zip can be a model. Raises RefusedError, which names the file in it."""
    try:
        sizes = archives.check(file)
        _check_names(sizes)
        sources = [name for name in sizes if name.endswith(".py")]
        for name in sources:
            _text(file, name)
        listed = _text(file, "requirements.txt") if "requirements.txt" in sizes else ""
        if "train.json" in sizes:
            _check_train(_text(file, "train.json"))
        if WEIGHTS in sizes:
            with archives.opened(file, WEIGHTS) as stream:
                check_safetensors(WEIGHTS, stream, sizes[WEIGHTS])
    except ArchiveError as error:
        raise RefusedError(error.file, error.reason) from error
    return Code(_sha256(file), file.seek(0, io.SEEK_END), requirements_of(listed))


def requirements_of(text: str) -> tuple[str, ...]:
    """The packages of a requirements.txt: plain names or pinned ones. Raises RefusedError."""
    try:
        return tuple(str(each) for each in requirements.parse(text))
    except RequirementError as error:
        raise RefusedError("requirements.txt", str(error)) from error


def _check_names(sizes: dict[str, int]) -> None:
    for required in REQUIRED:
        if required not in sizes:
            raise RefusedError(
                required, "missing at the top of the zip: zip the files themselves, not the folder that holds them"
            )
    for name in sizes:
        if name.endswith(".safetensors") and name != WEIGHTS:
            raise RefusedError(name, f"weights are taken from {WEIGHTS} at the top of the zip alone")


def _check_train(text: str) -> None:
    try:
        document: Any = json.loads(text)
        TrainForm.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the document"
        raise RefusedError("train.json", f"{where}: {first['msg']}") from error
    except (ValueError, RecursionError) as error:
        raise RefusedError("train.json", f"not JSON: {error}") from error


def _text(file: BinaryIO, name: str) -> str:
    try:
        text = archives.read(file, name, MAX_SOURCE_BYTES).decode()
    except UnicodeDecodeError as error:
        raise RefusedError(name, f"not UTF-8 at byte {error.start + 1}") from error
    if "\0" in text:
        raise RefusedError(name, "holds a NUL character, so it is no source text")
    return text


def _sha256(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    file.seek(0)
    while piece := file.read(CHUNK_BYTES):
        digest.update(piece)
    return digest.hexdigest()
