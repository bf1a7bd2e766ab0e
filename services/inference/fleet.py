"""What is loaded in this process: which endpoints, on which bases and adapters. What can be shared, is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass

import structlog

from services.inference import loading
from services.inference.artifacts import Artifacts, LoadError
from services.inference.domain import Endpoint, FailureReason, Kind
from services.inference.engine import AnsweringEngine, Engine, NotLoadedError, Occupancy, PromptError
from services.inference.loading import Names, Weights
from services.inference.own_models import GoneError, OwnModels, Tensors, Terms
from services.inference.remote_engine import RemoteEngine
from services.inference.signatures import Signature

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Target:
    """Who answers for an endpoint, and what its weights are called there."""

    engine: AnsweringEngine
    base: str
    adapter: str | None


class Fleet:
    """`new_engine` is called at the first load, in a thread: it imports torch, which takes seconds. `remote`: asks the
    replicas of endpoints that have some. `terms`: limits of users' own models, which run in processes of their own."""

    def __init__(
        self,
        new_engine: Callable[[], Engine],
        artifacts: Artifacts,
        remote: RemoteEngine | None = None,
        terms: Terms | None = None,
    ) -> None:
        self._own = OwnModels(terms or Terms())
        self._remote = remote
        self._new_engine = new_engine
        self._artifacts = artifacts
        self._engine: Engine | None = None
        self._loaded: dict[str, Endpoint] = {}
        self._names: dict[str, Names] = {}
        self._used_at: dict[str, float] = {}
        # One load at a time: two at once would need the memory and the cores twice.
        self._loading = asyncio.Lock()
        self._changed = asyncio.Condition()

    @property
    def engine(self) -> Engine:
        """The one in this process. Raises NotLoadedError while nothing was ever loaded."""
        if self._engine is None:
            raise NotLoadedError("nothing is loaded here yet")
        return self._engine

    def occupancy(self) -> Occupancy:
        """Sequences under way and waiting."""
        counts = [engine.occupancy() for engine in (self._engine, self._remote, self._own) if engine is not None]
        return Occupancy(sum(one.active for one in counts), sum(one.waiting for one in counts))

    @property
    def endpoint_ids(self) -> frozenset[str]:
        return frozenset(self._loaded)

    def is_loaded(self, endpoint_id: str) -> bool:
        """Here, or at a replica that is ready."""
        return endpoint_id in self._loaded or (self._remote is not None and self._remote.is_ready(endpoint_id))

    def target(self, endpoint: Endpoint) -> Target:
        """Whom to ask. Raises NotLoadedError, and PromptError for a user's own model, which is no engine's."""
        names = self._names.get(endpoint.endpoint_id)
        if names is not None and names.own:
            raise PromptError("this model is code of your own: use /v2/models/NAME/infer")
        if names is not None:
            return Target(self.engine, names.base, names.adapter)
        if self._remote is not None and self._remote.is_ready(endpoint.endpoint_id):
            return Target(self._remote, endpoint.endpoint_id, None)
        raise NotLoadedError(f"the endpoint {endpoint.name} is not loaded")

    def signature(self, endpoint: Endpoint) -> Signature | None:
        """What a user's own model takes and gives; None: the endpoint is none. Raises NotLoadedError."""
        names = self._names.get(endpoint.endpoint_id)
        return self._own.signature(names.base) if names is not None and names.own else None

    async def infer(self, endpoint: Endpoint, inputs: Tensors) -> Tensors:
        """A user's own model, asked; see `OwnModels.infer`."""
        names = self._names.get(endpoint.endpoint_id)
        if names is None:
            raise NotLoadedError(f"the endpoint {endpoint.name} is not loaded")
        try:
            return await self._own.infer(names.base, inputs)
        except GoneError:
            await self.unload(endpoint.endpoint_id)  # so that it is fetched and loaded anew
            raise

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
                await self._load(endpoint, manifest_sha256)
            except BaseException:
                self._names.pop(endpoint.endpoint_id, None)
                self._release_unused()
                raise
            self._loaded[endpoint.endpoint_id] = endpoint
            self.touch(endpoint.endpoint_id)
        log.info("loaded", endpoint=endpoint.endpoint_id, seconds=round(time.perf_counter() - started, 3))
        await self.announce()

    async def _load(self, endpoint: Endpoint, manifest_sha256: str | None) -> None:
        with loading.failures_told(endpoint.endpoint_id):
            weights = await asyncio.to_thread(
                loading.fetch, self._artifacts, endpoint.base_uri, endpoint.artifact_uri, manifest_sha256
            )
            if weights.names.own:
                await self._own.load(weights.names.base, weights.folder)
            else:
                await asyncio.to_thread(self._load_here, weights)
            self._names[endpoint.endpoint_id] = weights.names

    def _load_here(self, weights: Weights) -> None:
        loading.load(self._start_engine(), weights)

    def _start_engine(self) -> Engine:
        if self._engine is None:
            self._engine = self._new_engine()
        return self._engine

    def adopt(self, endpoints: Iterable[Endpoint]) -> None:
        """Names that have moved to other weights (a promotion) go on answering, if those are in memory already.

        If they are not, the name counts as not loaded, and is loaded anew.
        """
        here = {one.weights: self._names[one.endpoint_id] for one in self._loaded.values()}
        for one in endpoints:
            loaded = self._loaded.get(one.endpoint_id)
            if loaded is None or loaded.weights == one.weights:
                continue
            if one.weights in here:
                self._loaded[one.endpoint_id] = one
                self._names[one.endpoint_id] = here[one.weights]
            else:
                self._forget(one.endpoint_id)

    def _forget(self, endpoint_id: str) -> None:
        del self._loaded[endpoint_id], self._names[endpoint_id], self._used_at[endpoint_id]

    async def unload(self, endpoint_id: str) -> None:
        """Answer no more for it; answers under way are finished. An absent one is no error."""
        async with self._loading:
            if endpoint_id in self._loaded:
                self._forget(endpoint_id)
                self._release_unused()

    def _release_unused(self) -> None:
        """Give back bases and adapters that no endpoint uses, and end own models that none does."""
        self._own.retain({one.base for one in map(self._names.__getitem__, self._loaded) if one.own})
        if self._engine is not None:
            names = (self._names[endpoint_id] for endpoint_id in self._loaded)
            used = {(one.base, one.adapter or "") for one in names}
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

    async def aclose(self) -> None:
        await self._own.close()
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        for engine in (self._engine, self._remote):
            if engine is not None:
                engine.close()
