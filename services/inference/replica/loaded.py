"""An endpoint's weights, loaded into the engine that its replica is told to use. Imports torch when it is called."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from services.inference import loading
from services.inference.artifacts import Artifacts
from services.inference.engine import Engine
from services.inference.loading import Names, Weights
from services.inference.replica.settings import ReplicaSettings
from sskai.objects import Objects


@dataclass(frozen=True, slots=True)
class Loaded:
    """`capacity`: answers that it takes at a time, the waiting ones included. `alive`: whether the engine still is."""

    engine: Engine
    names: Names
    capacity: int
    alive: Callable[[], bool]


def load(settings: ReplicaSettings) -> Loaded:
    """Fetch, verify and load; blocks. Raises LoadError."""
    endpoint = settings.replica_endpoint
    with loading.failures_told(endpoint.endpoint_id):
        artifacts = Artifacts(
            Objects.from_settings(settings),
            settings.models_dir,
            settings.cache / "inference",
            settings.inference_cache_bytes,
        )
        weights = loading.fetch(artifacts, endpoint.base_uri, endpoint.artifact_uri, endpoint.manifest_sha256)
        return _embedded(settings, weights)


def _embedded(settings: ReplicaSettings, weights: Weights) -> Loaded:
    from services.inference.embedded import new_engine

    engine = new_engine(settings)
    loading.load(engine, weights)
    capacity = settings.max_concurrent_sequences + settings.max_waiting_sequences
    return Loaded(engine, weights.names, capacity, alive=lambda: True)
