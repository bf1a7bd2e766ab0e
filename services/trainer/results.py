"""The kinds of results, and what each must hold to be one. Values only: both halves use it.

A result says in `sskai.json` which kind it is; one that does not (a checkpoint that a budget stop left) is known
by its files.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from services.trainer import manifests
from services.trainer.manifests import ManifestError

DECLARATION = "sskai.json"
ADAPTER, TRANSFORMERS, DIFFUSERS_LORA, OWN_MODEL = "adapter", "transformers", "diffusers-lora", "own-model"
DIFFUSERS_WEIGHTS = "pytorch_lora_weights.safetensors"
CONFIG, MODEL, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
PREPROCESSOR = "preprocessor_config.json"
# What turns a user's input into the model's: without one of them nobody can use a whole model.
PREPARING = frozenset({"tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", PREPROCESSOR})
MAX_DOCUMENT_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Declaration:
    """What a result says of itself."""

    kind: str
    method: str
    base: str
    format: str  # of the dataset
    labels: tuple[str, ...] = ()

    def to_json(self) -> bytes:
        return json.dumps(asdict(self), indent=1).encode()


@dataclass(frozen=True, slots=True)
class Rule:
    """`required` files, and what is looked at beyond that: `check(names, read)`, which raises ManifestError."""

    required: tuple[str, ...]
    check: Callable[[Collection[str], Callable[[str], bytes]], None] = lambda _names, _read: None


def _check_adapter(_names: Collection[str], read: Callable[[str], bytes]) -> None:
    manifests.check_adapter_config(read("adapter_config.json"))


def _check_transformers(names: Collection[str], read: Callable[[str], bytes]) -> None:
    if not isinstance(_document(CONFIG, read).get("model_type"), str):
        raise ManifestError(f"{CONFIG}: model_type is missing")
    if not PREPARING & set(names):
        raise ManifestError(f"none of {', '.join(sorted(PREPARING))} is there")
    if MODEL in names:
        return
    if INDEX not in names:
        raise ManifestError(f"{MODEL} is missing, and so is {INDEX}")
    shards = _document(INDEX, read).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise ManifestError(f"{INDEX}: weight_map is missing")
    if absent := {str(shard) for shard in shards.values()} - set(names):
        raise ManifestError(f"{', '.join(sorted(absent))} is named in {INDEX} but missing")


def _check_own_model(names: Collection[str], read: Callable[[str], bytes]) -> None:
    sources = _document(DECLARATION, read).get("sources")
    if not isinstance(sources, list):
        raise ManifestError(f"{DECLARATION}: sources is missing: the list of what the model's code was")
    if strangers := _code(names) ^ _code(map(str, sources)):
        raise ManifestError(f"{DECLARATION}: {', '.join(sorted(strangers))} is not both named and there")


def _code(names: Iterable[str]) -> set[str]:
    return {name for name in names if name.endswith(manifests.SOURCE_SUFFIX)}


RULES: Mapping[str, Rule] = {
    ADAPTER: Rule(("adapter_config.json", "adapter_model.safetensors"), _check_adapter),
    DIFFUSERS_LORA: Rule((DIFFUSERS_WEIGHTS,)),
    TRANSFORMERS: Rule((CONFIG,), _check_transformers),
    OWN_MODEL: Rule((DECLARATION, "model.py", "data.py", "weights.safetensors"), _check_own_model),
}


def kind_of(names: Collection[str]) -> str:
    """What a result without a declaration is, by its files; an adapter if they tell nothing."""
    telling = {
        "model.py": OWN_MODEL,
        DIFFUSERS_WEIGHTS: DIFFUSERS_LORA,
        "adapter_config.json": ADAPTER,
        CONFIG: TRANSFORMERS,
    }
    return next((kind for name, kind in telling.items() if name in names), ADAPTER)


def check(names: Collection[str], read: Callable[[str], bytes]) -> str:
    """The kind of a result of these files; `read` gives a small one's content. Raises ManifestError if it is none."""
    kind = _document(DECLARATION, read).get("kind") if DECLARATION in names else kind_of(names)
    rule = RULES.get(str(kind))
    if rule is None:
        raise ManifestError(f"{DECLARATION}: kind {kind!r} is not one of {', '.join(RULES)}")
    if kind != OWN_MODEL and (code := _code(names)):
        raise ManifestError(f"{', '.join(sorted(code))} is refused: a result of kind {kind} holds no code")
    for name in rule.required:
        if name not in names:
            raise ManifestError(f"{name} is missing")
    rule.check(names, read)
    return str(kind)


def _document(name: str, read: Callable[[str], bytes]) -> dict[str, Any]:
    try:
        document = json.loads(read(name))
    except ValueError as error:
        raise ManifestError(f"{name} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise ManifestError(f"{name} is not a JSON object")
    return document
