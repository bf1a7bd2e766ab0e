"""An endpoint's weights: from their URIs to this machine's disk, and from there into an engine. Synchronous."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog

from services.inference.artifacts import Artifacts, LoadError
from services.inference.domain import FailureReason
from services.inference.engine import Engine, UnusableWeightsError
from services.inference.manifests import CONFIG, Kind
from sskai.objects import ObjectsUnavailableError

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Names:
    """An endpoint's names in the engine. A model with weights of its own is a base itself. `own`: it is a user's own
    model as code, and runs in no engine of this process (own_models.py)."""

    base: str
    adapter: str | None
    own: bool = False


@dataclass(frozen=True, slots=True)
class Weights:
    """Folders of a base, or of a whole model, and perhaps of an adapter on it."""

    names: Names
    folder: Path
    adapter: Path | None = None
    merged: bool = False  # the adapter makes a classifier of its base, and lies in no batch with others


def fetch(artifacts: Artifacts, base_uri: str, artifact_uri: str, manifest_sha256: str | None) -> Weights:
    """Fetch and verify what an endpoint answers with. Raises LoadError, ObjectsUnavailableError."""
    if not artifact_uri:
        return Weights(Names(base_uri, None), artifacts.base(base_uri))
    folder, kind = artifacts.result(artifact_uri, manifest_sha256)
    if kind == Kind.OWN_MODEL:
        return Weights(Names(artifact_uri, None, own=True), folder)
    if kind == Kind.WHOLE:
        return Weights(Names(artifact_uri, None), folder)
    base = artifacts.base(base_uri)
    if kind == Kind.CLASSIFIER_ADAPTER:
        return Weights(Names(artifact_uri, None), base, folder, merged=True)
    return Weights(Names(base_uri, artifact_uri), base, folder)


def load(engine: Engine, weights: Weights) -> None:
    """Make the engine answer with them. Raises UnusableWeightsError."""
    names = weights.names
    if weights.merged and weights.adapter is not None:
        engine.load_classifier(names.base, weights.folder, weights.adapter)
        return
    engine.load_base(names.base, weights.folder)
    if weights.adapter is not None and names.adapter is not None:
        engine.attach_adapter(names.base, names.adapter, weights.adapter)


def architectures(folder: Path) -> list[str]:
    """The classes that a folder's config names."""
    try:
        named = json.loads((folder / CONFIG).read_bytes()).get("architectures") or []
    except (OSError, ValueError, AttributeError):
        return []
    return list(map(str, named))


@contextmanager
def failures_told(endpoint_id: str) -> Iterator[None]:
    """Whatever goes wrong inside becomes a LoadError with its reason."""
    try:
        yield
    except LoadError:
        raise
    except UnusableWeightsError as error:
        raise LoadError(FailureReason.UNUSABLE_WEIGHTS, str(error)) from error
    except ObjectsUnavailableError as error:
        raise LoadError(FailureReason.UNAVAILABLE, str(error)) from error
    except MemoryError as error:
        raise LoadError(FailureReason.OUT_OF_MEMORY, "the weights do not fit into memory") from error
    except Exception as error:
        log.exception("loading failed", endpoint=endpoint_id)
        raise LoadError(FailureReason.INTERNAL, f"{type(error).__name__}: {error}"[:500]) from error
