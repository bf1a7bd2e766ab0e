"""What a user's model behind walls says, and how it ended: believed in its form alone, for the user's code could have
written it as well."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors.numpy

from services.inference import own_model_frames as frames
from services.inference.engine import UnusableWeightsError
from services.inference.signatures import NAMES, Signature, SignatureError
from sskai.sandbox import GIB, Limits, Outcome
from sskai.sandbox_session import Session

MAX_ANSWER_BYTES = 8 * 1024 * 1024
MAX_ERROR_CHARACTERS = 1_000


async def read(session: Session) -> tuple[bytes, bytes]:
    """A frame: its letter and its payload. Raises EndedError, ValueError."""
    kind, size = frames.HEAD.unpack(await session.read_exactly(frames.HEAD.size))
    if size > MAX_ANSWER_BYTES:
        raise ValueError(f"it has {size} bytes; up to {MAX_ANSWER_BYTES} are told")
    return kind, await session.read_exactly(size)


def signature(kind: bytes, payload: bytes) -> Signature:
    """Of a program's first frame. Raises UnusableWeightsError, ValueError."""
    if kind != frames.READY:
        raise UnusableWeightsError(f"the model cannot be built: {error(kind, payload)}")
    return Signature.parse(_document(payload).get("signature"))


def outputs(kind: bytes, payload: bytes, signature: Signature, rows: int) -> dict[str, np.ndarray[Any, Any]]:
    """Of a frame that answers so many rows. Raises ValueError, SafetensorError."""
    if kind != frames.TENSORS:
        raise ValueError("it is none")
    found: dict[str, np.ndarray[Any, Any]] = safetensors.numpy.load(payload)
    if found.keys() != {each.name for each in signature.outputs}:
        raise ValueError(f"it holds {', '.join(found) or 'nothing'}")
    for name, output in found.items():
        if output.dtype not in NAMES:
            raise ValueError(f"{name} is of {output.dtype}")
        if output.shape[:1] != (rows,):
            raise ValueError(f"{name} is {list(output.shape)} for {rows} samples")
    return found


def error(kind: bytes, payload: bytes) -> str:
    """The user's mistake, by the program's word. Raises ValueError."""
    if kind != frames.ERROR:
        raise ValueError("it is none")
    return plain(str(_document(payload).get("error")))


def end(outcome: Outcome, limits: Limits) -> str:
    """Why the program ended, in words for the user."""
    last = plain(outcome.stderr_tail.strip().rpartition("\n")[2])
    return {
        "time": "it computed for too long",
        "memory": f"it took more than {limits.memory_bytes / GIB:.1f} GiB of memory",
        "processes": f"it started more than {limits.processes} processes and threads",
        "output": f"it printed more than {limits.output_bytes} bytes at a time, or wrote more than "
        f"{limits.folder_bytes} bytes of files",
        "": f"it ended by itself with code {outcome.exit_code}{': ' if last else ''}{last}",
    }[outcome.killed_for]


def plain(text: str) -> str:
    """Text from behind the walls, in one line that may be shown and stored."""
    return "".join(each if each.isprintable() else " " for each in text)[:MAX_ERROR_CHARACTERS]


def _document(payload: bytes) -> Mapping[str, Any]:
    try:
        document = json.loads(payload)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(document, dict):
        raise SignatureError("it is no object")
    return document
