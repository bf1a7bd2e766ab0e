"""What is loaded in this process: which endpoints, on which bases and adapters. What can be shared, is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass

import structlog

from services.inference import manifests
from services.inference.artifacts import Artifacts, LoadError
from services.inference.domain import Endpoint, FailureReason, Kind
from services.inference.engine import Engine, NotLoadedError, Occupancy, UnusableWeightsError
from sskai.objects import ObjectsUnavailableError

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Target:
    """An endpoint's names in the engine. A model with weights of its own is a base itself."""

    base: str
    adapter: str | None


class Fleet:
    """`new_engine` is called at the first load, in a thread: it imports torch, which takes seconds."""

    def __init__(self, new_engine: Callable[[], Engine], artifacts: Artifacts) -> None:
        self._new_engine = new_engine
        self._artifacts = artifacts
        self._engine: Engine | None = None
        self._loaded: dict[str, Endpoint] = {}
        self._targets: dict[str, Target] = {}
        self._used_at: dict[str, float] = {}
        # One load at a time: two at once would need the memory and the cores twice.
        self._loading = asyncio.Lock()
        self._changed = asyncio.Condition()

    @property
    def engine(self) -> Engine:
        """Raises NotLoadedError while nothing was ever loaded."""
        if self._engine is None:
            raise NotLoadedError("nothing is loaded here yet")
        return self._engine

    def occupancy(self) -> Occupancy:
        """Sequences under way and waiting."""
        return self._engine.occupancy() if self._engine is not None else Occupancy(0, 0)

    @property
    def endpoint_ids(self) -> frozenset[str]:
        return frozenset(self._loaded)

    def is_loaded(self, endpoint_id: str) -> bool:
        return endpoint_id in self._loaded

    def target(self, endpoint: Endpoint) -> Target:
        """Whom to ask the engine for. Raises NotLoadedError."""
        try:
            return self._targets[endpoint.endpoint_id]
        except KeyError:
            raise NotLoadedError(f"the endpoint {endpoint.name} is not loaded") from None

    def touch(self, endpoint_id: str) -> None:
        """Somebody asks it now."""
        self._used_at[endpoint_id] = time.monotonic()

    def idle(self, idle_seconds: float) -> list[Endpoint]:
        """Serverless endpoints that nobody asked for so long."""
        limit = time.monotonic() - idle_seconds
        return [one for one in self._loaded.values() if one.serverless and self._used_at[one.endpoint_id] < limit]

    async def load(self, endpoint: Endpoint, manifest_sha256: str | None) -> None:
        """Make it answer here; at once if it does already. Raises LoadError."""
        if endpoint.kind not in set(Kind):
            raise LoadError(FailureReason.UNSUPPORTED_KIND, f"kind {endpoint.kind!r} is not served")
        async with self._loading:
            if endpoint.endpoint_id in self._loaded:
                return
            started = time.perf_counter()
            try:
                await asyncio.to_thread(self._load, endpoint, manifest_sha256)
            except BaseException:
                self._targets.pop(endpoint.endpoint_id, None)
                self._release_unused()
                raise
            self._loaded[endpoint.endpoint_id] = endpoint
            self.touch(endpoint.endpoint_id)
        log.info("loaded", endpoint=endpoint.endpoint_id, seconds=round(time.perf_counter() - started, 3))
        await self.announce()

    def _load(self, endpoint: Endpoint, manifest_sha256: str | None) -> None:
        try:
            self._targets[endpoint.endpoint_id] = self._load_artifacts(endpoint, manifest_sha256)
        except LoadError:
            raise
        except UnusableWeightsError as error:
            raise LoadError(FailureReason.UNUSABLE_WEIGHTS, str(error)) from error
        except ObjectsUnavailableError as error:
            raise LoadError(FailureReason.UNAVAILABLE, str(error)) from error
        except MemoryError as error:
            raise LoadError(FailureReason.OUT_OF_MEMORY, "the weights do not fit into memory") from error
        except Exception as error:
            log.exception("loading failed", endpoint=endpoint.endpoint_id)
            raise LoadError(FailureReason.INTERNAL, f"{type(error).__name__}: {error}"[:500]) from error

    def _load_artifacts(self, endpoint: Endpoint, manifest_sha256: str | None) -> Target:
        if not endpoint.artifact_uri:
            self._start_engine().load_base(endpoint.base_uri, self._artifacts.base(endpoint.base_uri))
            return Target(endpoint.base_uri, None)
        folder, kind = self._artifacts.result(endpoint.artifact_uri, manifest_sha256)
        if kind == manifests.Kind.WHOLE:
            self._start_engine().load_base(endpoint.artifact_uri, folder)
            return Target(endpoint.artifact_uri, None)
        base = self._artifacts.base(endpoint.base_uri)
        engine = self._start_engine()
        if kind == manifests.Kind.CLASSIFIER_ADAPTER:
            engine.load_classifier(endpoint.artifact_uri, base, folder)
            return Target(endpoint.artifact_uri, None)
        engine.load_base(endpoint.base_uri, base)
        engine.attach_adapter(endpoint.base_uri, endpoint.artifact_uri, folder)
        return Target(endpoint.base_uri, endpoint.artifact_uri)

    def _start_engine(self) -> Engine:
        if self._engine is None:
            self._engine = self._new_engine()
        return self._engine

    def adopt(self, endpoints: Iterable[Endpoint]) -> None:
        """Names that have moved to other weights (a promotion) go on answering, if those are in memory already.

        If they are not, the name counts as not loaded, and is loaded anew.
        """
        here = {one.weights: self._targets[one.endpoint_id] for one in self._loaded.values()}
        for one in endpoints:
            loaded = self._loaded.get(one.endpoint_id)
            if loaded is None or loaded.weights == one.weights:
                continue
            if one.weights in here:
                self._loaded[one.endpoint_id] = one
                self._targets[one.endpoint_id] = here[one.weights]
            else:
                self._forget(one.endpoint_id)

    def _forget(self, endpoint_id: str) -> None:
        del self._loaded[endpoint_id], self._targets[endpoint_id], self._used_at[endpoint_id]

    async def unload(self, endpoint_id: str) -> None:
        """Answer no more for it; answers under way are finished. An absent one is no error."""
        async with self._loading:
            if endpoint_id in self._loaded:
                self._forget(endpoint_id)
                self._release_unused()

    def _release_unused(self) -> None:
        """Give back bases and adapters that no endpoint uses."""
        if self._engine is not None:
            used = {(one.base, one.adapter or "") for one in map(self.target, self._loaded.values())}
            self._engine.retain(used)

    async def announce(self) -> None:
        """Wake who waits in `wait_for_change`."""
        async with self._changed:
            self._changed.notify_all()

    async def wait_for_change(self, limit_seconds: float) -> None:
        """Return when an endpoint was loaded or the routing table was read, or after the limit."""
        async with self._changed:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), limit_seconds)

    def close(self) -> None:
        if self._engine is not None:
            self._engine.close()
