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
OWN_MODEL = "own-model"
# A user's own model holds source text, too: it is never imported in this process (own_models.py).
OWN_MODEL_FILES = (DECLARATION, "model.py", "data.py", "weights.safetensors")
SOURCE_SUFFIX = ".py"
IMAGE_CLASSIFICATION = "image-classification"  # a dataset's format
CONFIG = "config.json"
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
PIPELINE = "model_index.json"  # of diffusers; the pipeline's parts lie in folders of their own
PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
PIPELINE_ADAPTER = "pytorch_lora_weights.safetensors"  # diffusers' name for it
OF_A_PIPELINE = "diffusers-lora"
DECLARED_FILES: dict[str | None, tuple[str, ...]] = {
    OWN_MODEL: OWN_MODEL_FILES,
    OF_A_PIPELINE: (PIPELINE_ADAPTER,),
}  # what such a result must have


class Kind(StrEnum):
    """How a result is served: beside its base (of a language model, or of a pipeline), merged with it, by itself, or by
    its own code behind walls."""

    ADAPTER = "adapter"
    CLASSIFIER_ADAPTER = "classifier-adapter"
    PIPELINE_ADAPTER = "pipeline-adapter"
    WHOLE = "whole"
    OWN_MODEL = "own-model"


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
    safe = SAFE_SUFFIXES | {SOURCE_SUFFIX} if set(OWN_MODEL_FILES) <= set(names) else SAFE_SUFFIXES
    folders = PARTS if PIPELINE in names else ()
    if len(names) > MAX_FILES:
        raise ManifestError(f"{len(names)} files, over {MAX_FILES}")
    for name in names:
        path = PurePosixPath(name)
        part, _, plain = name.rpartition("/")
        if plain != path.name or plain in ("", ".", "..") or (part and part not in folders):
            raise ManifestError(f"{name!r} is not a plain file name")
        if path.suffix not in safe:
            raise ManifestError(f"{name} is refused: only {', '.join(sorted(SAFE_SUFFIXES))} are safe to load")
    if not any(name.endswith(WEIGHTS) for name in names):
        raise ManifestError(f"there are no {WEIGHTS} weights")


def check_no_code(names: Iterable[str]) -> None:
    """Raises ManifestError if any of a base's files is source text: only a result may be a model as code."""
    if code := sorted(name for name in names if name.endswith(SOURCE_SUFFIX)):
        raise ManifestError(f"{', '.join(code)} is refused: only {', '.join(sorted(SAFE_SUFFIXES))} are safe to load")


def check_result(files: Mapping[str, FileEntry]) -> None:
    """Raises ManifestError unless the files of a PEFT adapter, the one of diffusers, a whole transformers model or a
    user's own are there."""
    if set(OWN_MODEL_FILES) <= set(files):
        return
    if any(name in files for name in ADAPTER_FILES):
        for name in ADAPTER_FILES:
            if name not in files:
                raise ManifestError(f"{name} is missing")
    elif CONFIG not in files and PIPELINE_ADAPTER not in files:
        raise ManifestError(
            "this version is neither an adapter on a base, nor a whole transformers model, nor a model as code"
        )


def kind_of(read: Callable[[str], bytes], files: Collection[str]) -> Kind:
    """How a result's files are served; `read` gives a small one's content. Raises ManifestError."""
    try:
        about = json.loads(read(DECLARATION)) if DECLARATION in files else {}
        declared = about.get("kind")
        if declared not in (None, "adapter", "transformers", *DECLARED_FILES):
            raise ManifestError(f"a result of kind {declared!r} is not served here")
        if missing := sorted(set(DECLARED_FILES.get(declared, ())) - set(files)):
            raise ManifestError(f"{', '.join(missing)} is missing")
        if declared == OWN_MODEL:
            return Kind.OWN_MODEL
        if code := sorted(name for name in files if name.endswith(SOURCE_SUFFIX)):
            raise ManifestError(f"{', '.join(code)} is refused: a result of kind {declared!r} holds no code")
        if PIPELINE_ADAPTER in files:
            return Kind.PIPELINE_ADAPTER
        if ADAPTER_FILES[0] not in files:
            return Kind.WHOLE
        task = json.loads(read(ADAPTER_FILES[0])).get("task_type")
    except (ValueError, AttributeError) as error:
        raise error if isinstance(error, ManifestError) else ManifestError(f"not a result: {error!r}") from error
    # peft has no word for image classifiers; the trainer says what the adapter has learnt from.
    of_classes = task == "SEQ_CLS" or about.get("format") == IMAGE_CLASSIFICATION
    return Kind.CLASSIFIER_ADAPTER if of_classes else Kind.ADAPTER


def labels(read: Callable[[str], bytes], files: Collection[str]) -> tuple[str, ...]:
    """What a classifier tells apart, as its training declared; () if it did not."""
    found = json.loads(read(DECLARATION)).get("labels") if DECLARATION in files else None
    return tuple(map(str, found)) if isinstance(found, list) else ()
