"""Reading manifests, and which files are safe to load. Pure: bytes in, values out."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePosixPath

MANIFEST = "MANIFEST.json"
FORMAT = "sskai.manifest/1"
MAX_FILES = 1000
WEIGHTS = ".safetensors"
# Weights are safetensors and the rest is text or a tokenizer's tables: nothing here can run when it is loaded.
SAFE_SUFFIXES = frozenset({WEIGHTS, ".json", ".jsonl", ".md", ".txt", ".jinja", ".model"})
EXPORTS = (("merged",), ("gguf",))
DECLARATION = "sskai.json"  # what a result says of itself: the trainer writes it
CONFIG = "config.json"
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
PIPELINE = "model_index.json"  # of diffusers; the pipeline's parts lie in folders of their own
PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
PIPELINE_ADAPTER = "pytorch_lora_weights.safetensors"  # diffusers' name for it


class Kind(StrEnum):
    """How a result is served: beside its base (of a language model, or of a pipeline), merged with it, or by itself."""

    ADAPTER = "adapter"
    CLASSIFIER_ADAPTER = "classifier-adapter"
    PIPELINE_ADAPTER = "pipeline-adapter"
    WHOLE = "whole"


class ManifestError(ValueError):
    """An artefact is not what it should be; the text says which file and how."""


@dataclass(frozen=True, slots=True)
class FileEntry:
    bytes: int
    sha256: str


def parse(data: bytes) -> dict[str, FileEntry]:
    """The files of a MANIFEST.json, by name. Raises ManifestError."""
    try:
        manifest = json.loads(data)
        if manifest["format"] != FORMAT:
            raise ManifestError(f"the manifest's format is {manifest['format']!r}, not {FORMAT}")
        files = {str(name): FileEntry(int(it["bytes"]), str(it["sha256"])) for name, it in manifest["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise error if isinstance(error, ManifestError) else ManifestError(f"not a manifest: {error!r}") from error
    # A result's exports lie in folders of their own (whole weights, GGUF): what is served needs none of them.
    files = {name: entry for name, entry in files.items() if PurePosixPath(name).parts[:1] not in EXPORTS}
    check_names(files)
    return files


def check_names(names: Iterable[str]) -> None:
    """Raises ManifestError unless all are plain names of safe files, at least one of them weights; of a pipeline also
    those in its parts' folders."""
    names = list(names)
    folders = PARTS if PIPELINE in names else ()
    if len(names) > MAX_FILES:
        raise ManifestError(f"{len(names)} files, over {MAX_FILES}")
    for name in names:
        path = PurePosixPath(name)
        part, _, plain = name.rpartition("/")
        if plain != path.name or plain in ("", ".", "..") or (part and part not in folders):
            raise ManifestError(f"{name!r} is not a plain file name")
        if path.suffix not in SAFE_SUFFIXES:
            raise ManifestError(f"{name} is refused: only {', '.join(sorted(SAFE_SUFFIXES))} are safe to load")
    if not any(name.endswith(WEIGHTS) for name in names):
        raise ManifestError(f"there are no {WEIGHTS} weights")


def check_result(files: Mapping[str, FileEntry]) -> None:
    """Raises ManifestError unless the two files of a PEFT adapter, the one of diffusers or a whole transformers model
    are there."""
    if any(name in files for name in ADAPTER_FILES):
        for name in ADAPTER_FILES:
            if name not in files:
                raise ManifestError(f"{name} is missing")
    elif CONFIG not in files and PIPELINE_ADAPTER not in files:
        raise ManifestError("this version is neither an adapter on a base nor a whole transformers model")


def kind_of(read: Callable[[str], bytes], files: Collection[str]) -> Kind:
    """How a result's files are served; `read` gives a small one's content. Raises ManifestError."""
    try:
        declared = json.loads(read(DECLARATION)).get("kind") if DECLARATION in files else None
        if declared not in (None, "adapter", "transformers", "diffusers-lora"):
            raise ManifestError(f"a result of kind {declared!r} is not served here")
        if PIPELINE_ADAPTER in files:
            return Kind.PIPELINE_ADAPTER
        if ADAPTER_FILES[0] not in files:
            return Kind.WHOLE
        task = json.loads(read(ADAPTER_FILES[0])).get("task_type")
    except (ValueError, AttributeError) as error:
        raise error if isinstance(error, ManifestError) else ManifestError(f"not a result: {error!r}") from error
    return Kind.CLASSIFIER_ADAPTER if task == "SEQ_CLS" else Kind.ADAPTER


def labels(read: Callable[[str], bytes], files: Collection[str]) -> tuple[str, ...]:
    """What a classifier tells apart, as its training declared; () if it did not."""
    found = json.loads(read(DECLARATION)).get("labels") if DECLARATION in files else None
    return tuple(map(str, found)) if isinstance(found, list) else ()
