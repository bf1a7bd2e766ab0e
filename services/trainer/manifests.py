"""Manifests: the files of a checkpoint or an artefact, with size and SHA-256 of each. Written last, read first."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import PurePosixPath
from typing import Any

MANIFEST = "MANIFEST.json"
FORMAT = "sskai.manifest/1"
MAX_FILES = 1000
MAX_HEADER_BYTES = 100_000_000  # the limit of the safetensors library
# Tensors are safetensors or GGUF and the rest is text or a tokenizer's tables: nothing here can run when it is loaded.
SAFE_SUFFIXES = frozenset({".safetensors", ".gguf", ".json", ".jsonl", ".md", ".txt", ".jinja", ".model"})
SOURCE_SUFFIX = ".py"  # of a model as code alone, which runs in pods and nowhere else: `results.check`
MAX_DEPTH = 3  # folders and file: "merged/model.safetensors"
MAX_NAME_LENGTH = 200


class ManifestError(ValueError):
    """A manifest, or a file it names, is not what it should be; the text says which and how."""


@dataclass(frozen=True, slots=True)
class FileEntry:
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """`files` by name, relative to the manifest's folder."""

    kind: str  # "checkpoint" | "artifact"
    job_id: str
    attempt: int
    step: int
    created_at: str  # RFC 3339
    files: Mapping[str, FileEntry]
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def total_bytes(self) -> int:
        return sum(entry.bytes for entry in self.files.values())

    def to_json(self) -> bytes:
        return json.dumps({"format": FORMAT, **asdict(self)}, indent=1, sort_keys=True).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Manifest:
        """Raises ManifestError."""
        try:
            values: dict[str, Any] = json.loads(data)
            found = values.pop("format")
            files = {name: FileEntry(int(it["bytes"]), str(it["sha256"])) for name, it in values.pop("files").items()}
            manifest = cls(files=files, **values)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ManifestError(f"not a manifest: {error!r}") from error
        if found != FORMAT:
            raise ManifestError(f"the manifest's format is {found!r}, not {FORMAT}")
        manifest._check_names()
        return manifest

    def _check_names(self) -> None:
        if len(self.files) > MAX_FILES:
            raise ManifestError(f"{len(self.files)} files, over {MAX_FILES}")
        for name in self.files:
            if not is_plain(name) or name == MANIFEST:
                raise ManifestError(f"{name!r} is not a plain file name")
            if above := {str(folder) for folder in PurePosixPath(name).parents} & self.files.keys():
                raise ManifestError(f"{name!r} is not a plain file name: {above.pop()!r} is a file")


def is_plain(name: str) -> bool:
    """Whether a name leads to a file below the folder that it is relative to, wherever it is written."""
    parts = name.split("/")
    return (
        len(parts) <= MAX_DEPTH
        and len(name) <= MAX_NAME_LENGTH
        and name.isprintable()
        and not any(part in ("", ".", "..") or "\\" in part or ":" in part for part in parts)
    )


def digest(chunks: Iterable[bytes]) -> FileEntry:
    """Size and SHA-256 of what is read once, in constant memory."""
    sha256, size = hashlib.sha256(), 0
    for chunk in chunks:
        sha256.update(chunk)
        size += len(chunk)
    return FileEntry(size, sha256.hexdigest())


def check_file(name: str, found: FileEntry, manifest: Manifest) -> None:
    """Raises ManifestError unless the file is the one that the manifest names."""
    named = manifest.files[name]
    if found.bytes != named.bytes:
        raise ManifestError(f"{name} has {found.bytes} bytes, its manifest says {named.bytes}")
    if found.sha256 != named.sha256:
        raise ManifestError(f"{name} has SHA-256 {found.sha256}, its manifest says {named.sha256}")


def check_artifact(manifest: Manifest, present: Iterable[str], *, job_id: str) -> None:
    """Raises ManifestError unless this is an artefact of the job, of safe files only, all of them named.

    `present`: what a list has of it. That a list lacks a file does not say that it is gone: reading it does.
    """
    if manifest.kind != "artifact" or manifest.job_id != job_id:
        raise ManifestError(f"this is the {manifest.kind} of {manifest.job_id}, not the artifact of {job_id}")
    for name in manifest.files:
        if PurePosixPath(name).suffix not in SAFE_SUFFIXES | {SOURCE_SUFFIX}:
            raise ManifestError(f"{name} is refused: only {', '.join(sorted(SAFE_SUFFIXES))} are safe to load")
    if strangers := set(present) - set(manifest.files) - {MANIFEST}:
        raise ManifestError(f"{', '.join(sorted(strangers))} is not named in the manifest")


def check_adapter_config(data: bytes) -> None:
    """Raises ManifestError unless vLLM, LoRAX and peft would load it: a positive `r` and the base model's name."""
    try:
        config = json.loads(data)
        rank, base = config["r"], config["base_model_name_or_path"]
    except (ValueError, KeyError, TypeError) as error:
        raise ManifestError(f"adapter_config.json: {error!r}") from error
    if not isinstance(rank, int) or rank < 1:
        raise ManifestError(f"adapter_config.json: r is {rank!r}; it must be a positive integer")
    if not isinstance(base, str) or not base:
        raise ManifestError("adapter_config.json: base_model_name_or_path is empty")


def check_safetensors(name: str, header: bytes, size_bytes: int) -> None:
    """Raises ManifestError unless the file is of the safetensors format: 8 bytes of length, JSON, then the tensors.

    `header` is the beginning of the file, at least 8 + the header's length long.
    """
    if len(header) < 8:
        raise ManifestError(f"{name} is too short for safetensors")
    (length,) = struct.unpack("<Q", header[:8])
    if length > MAX_HEADER_BYTES or 8 + length > len(header):
        raise ManifestError(f"{name}: a safetensors header of {length} bytes")
    try:
        tensors = json.loads(header[8 : 8 + length])
        ends = [int(value["data_offsets"][1]) for key, value in tensors.items() if key != "__metadata__"]
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise ManifestError(f"{name} is not safetensors: {error!r}") from error
    if 8 + length + max(ends, default=0) != size_bytes:
        raise ManifestError(f"{name}: its tensors end elsewhere than the file does")


def check_gguf(name: str, header: bytes) -> None:
    """Raises ManifestError unless the file begins as GGUF does: its magic, then a version that is known."""
    if header[:4] != b"GGUF" or len(header) < 8 or struct.unpack("<I", header[4:8])[0] not in (2, 3):
        raise ManifestError(f"{name} is not GGUF")
