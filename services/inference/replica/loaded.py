"""An endpoint's weights, loaded into the engine that its replica is told to use. Imports torch when it is called."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog
from safetensors import safe_open

from services.inference import loading
from services.inference.artifacts import Artifacts, LoadError
from services.inference.domain import FailureReason
from services.inference.engine import AnsweringEngine, UnusableWeightsError
from services.inference.loading import Names, Weights
from services.inference.manifests import ADAPTER_FILES, PIPELINE, WEIGHTS
from services.inference.replica.settings import ReplicaSettings
from sskai.importing import without_garbage_collection
from sskai.objects import Objects

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Loaded:
    """`capacity`: answers that it takes at a time, the waiting ones included. `alive`: whether the engine still is.
    `close` blocks for some seconds."""

    engine: AnsweringEngine
    names: Names
    capacity: int
    alive: Callable[[], bool]
    close: Callable[[], None]


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
        if (weights.folder / PIPELINE).exists():
            raise LoadError(
                FailureReason.UNSUPPORTED_KIND, "replicas draw no pictures: choose kind adapter or serverless"
            )
        return _vllm(settings, weights) if endpoint.engine == "vllm" else _embedded(settings, weights)


def _embedded(settings: ReplicaSettings, weights: Weights) -> Loaded:
    with without_garbage_collection():
        from services.inference.embedded import new_engine

    _check_kind(weights)
    engine = new_engine(settings)
    loading.load(engine, weights)
    capacity = settings.max_concurrent_sequences + settings.max_waiting_sequences
    return Loaded(engine, weights.names, capacity, alive=lambda: True, close=engine.close)


def _check_kind(weights: Weights) -> None:
    """Raises LoadError for what lives in the service alone."""
    if weights.names.own or any("ImageClassification" in kind for kind in loading.architectures(weights.folder)):
        detail = "image classifiers and models as code are served by the kinds adapter and serverless, without replicas"
        raise LoadError(FailureReason.UNSUPPORTED_KIND, detail)


def _vllm(settings: ReplicaSettings, weights: Weights) -> Loaded:
    from services.inference.replica import vllm_process, vllm_settings
    from services.inference.replica.vllm_engine import VllmEngine

    _check_kind(weights)
    names = weights.names
    config = json.loads((weights.folder / "config.json").read_text())
    if weights.merged or any("SequenceClassification" in kind for kind in config.get("architectures") or ()):
        raise LoadError(FailureReason.UNSUPPORTED_KIND, "classifiers are served by the embedded engine, not by vLLM")
    try:
        shape = vllm_settings.shape_of(config, _parameters(weights.folder))
        ranks = [_rank(weights.adapter)] if weights.adapter is not None else []
        plan = vllm_settings.plan(shape, vllm_process.machine(), names.base, ranks)
    except vllm_settings.DoesNotFitError as error:
        raise LoadError(FailureReason.OUT_OF_MEMORY, str(error)) from error
    for flag in plan.flags:
        log.info("vllm", flag=flag.name, value=flag.value, reason=flag.reason)
    process = vllm_process.VllmProcess(settings.vllm_command)
    process.start(weights.folder, plan.arguments(), settings.vllm_start_seconds)
    try:
        capacity = plan.sequences + settings.max_waiting_sequences
        engine = VllmEngine(process.url, names.base, weights.folder, plan.context_tokens, capacity)
        if weights.adapter is not None and names.adapter is not None:
            engine.attach_adapter(names.adapter, weights.adapter)
    except BaseException:
        process.end()
        raise

    def close() -> None:
        engine.close()
        process.end()

    return Loaded(engine, names, capacity, process.alive, close)


def _parameters(folder: Path) -> int:
    """Numbers in the weights, by their headers."""
    total = 0
    for path in folder.glob(f"*{WEIGHTS}"):
        with safe_open(path, framework="numpy") as tensors:
            total += sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
    return total


def _rank(adapter: Path) -> int:
    try:
        return int(json.loads((adapter / ADAPTER_FILES[0]).read_text())["r"])
    except (ValueError, KeyError, TypeError) as error:
        raise UnusableWeightsError(f"the adapter's config names no rank: {error!r}") from error
