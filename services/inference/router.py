"""From a tenant and a name to an endpoint that answers here, the champion's or its canary's. Early requests wait."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence

from services.inference import domain, traffic
from services.inference.domain import Endpoint, State
from services.inference.fleet import Fleet
from services.inference.traffic import Asker, Split

LOOK_AGAIN_SECONDS = 0.5  # also without a change that was announced


class UnknownEndpointError(Exception):
    """The tenant has no endpoint of this name."""


class FailedEndpointError(Exception):
    """The endpoint cannot answer, and waiting will not help."""


class StillLoadingError(Exception):
    """The endpoint is not loaded yet: try again later."""


class Router:
    """The routing table is the database's, read by a loop. `wake_reader`, `wake_loader`: the loops' bells."""

    def __init__(self, fleet: Fleet, wake_reader: asyncio.Event, wake_loader: asyncio.Event) -> None:
        self._fleet = fleet
        self._wake_reader = wake_reader
        self._wake_loader = wake_loader
        self._endpoints: list[Endpoint] = []
        self._splits: dict[str, Split] = {}
        self._readings = 0
        self._wanted: dict[str, float] = {}  # since when, by the monotonic clock

    async def replace(self, endpoints: Sequence[Endpoint], splits: Mapping[str, Split]) -> None:
        """`splits`: by the endpoint whose traffic is shared out."""
        self._endpoints = list(endpoints)
        self._splits = dict(splits)
        self._fleet.adopt(endpoints)
        self._readings += 1
        known = {endpoint.endpoint_id for endpoint in endpoints}
        self._wanted = {endpoint_id: since for endpoint_id, since in self._wanted.items() if endpoint_id in known}
        await self._fleet.announce()

    def endpoints(self, tenant_id: str) -> list[Endpoint]:
        """What a tenant may name, the newest of each name."""
        names = {one.name for one in self._endpoints if one.tenant_id == tenant_id}
        found = (domain.answering(self._endpoints, tenant_id, name) for name in sorted(names))
        return [endpoint for endpoint in found if endpoint is not None]

    def to_load(self) -> list[Endpoint]:
        """Ready endpoints that should be loaded here and are not; sleeping ones only when somebody waits for them."""
        return [
            one
            for one in self._endpoints
            if one.state == State.READY
            and not one.in_pods
            and not self._fleet.is_loaded(one.endpoint_id)
            and (one.replicas > 0 or one.endpoint_id in self._wanted)
        ]

    def to_wake(self) -> list[str]:
        """Endpoints whose replicas somebody waits for."""
        waiting = [one.endpoint_id for one in self._endpoints if one.in_pods and one.endpoint_id in self._wanted]
        for endpoint_id in waiting:
            del self._wanted[endpoint_id]
        return waiting

    def waited_seconds(self, endpoint_id: str) -> float:
        """Since the first request that found it asleep; 0: none did."""
        since = self._wanted.get(endpoint_id)
        return 0.0 if since is None else time.monotonic() - since

    def surplus(self) -> set[str]:
        """Loaded here, but gone from the table."""
        return set(self._fleet.endpoint_ids) - {one.endpoint_id for one in self._endpoints if one.answers}

    async def find(
        self, tenant_id: str, name: str, limit_seconds: float, asker: Asker | None = None, request_id: str = ""
    ) -> Endpoint:
        """An endpoint that is loaded here, or the canary that answers for it.

        Raises UnknownEndpointError, FailedEndpointError, StillLoadingError.
        """
        deadline = time.monotonic() + limit_seconds
        seen = self._readings
        while True:
            endpoint = domain.answering(self._endpoints, tenant_id, name)
            if endpoint is not None and endpoint.state == State.FAILED:
                raise FailedEndpointError(endpoint.failure)
            if endpoint is not None and endpoint.state == State.READY and self._fleet.is_loaded(endpoint.endpoint_id):
                self._fleet.touch(endpoint.endpoint_id)
                self._wanted.pop(endpoint.endpoint_id, None)
                return self._share(endpoint, asker or Asker(), request_id)
            # One reading may have been under way already when the endpoint was made; the second one must show it.
            if endpoint is None and self._readings >= seen + 2:
                raise UnknownEndpointError(name)
            left = deadline - time.monotonic()
            if left <= 0:
                raise StillLoadingError(name)
            self._ask_for(endpoint)
            await self._fleet.wait_for_change(min(left, LOOK_AGAIN_SECONDS))

    def rollout_of(self, endpoint_id: str) -> str:
        """Which rollout shares out an endpoint's traffic; empty: none."""
        split = self._splits.get(endpoint_id)
        return split.rollout_id if split else ""

    def shadow_of(self, champion: Endpoint, request_id: str) -> Endpoint | None:
        """Who is to answer a champion's request once more, for nobody; None: nobody."""
        split = self._splits.get(champion.endpoint_id)
        if split is None or not traffic.is_shadowed(champion.endpoint_id, request_id, split.shadow_fraction):
            return None
        return self._canary(split)

    def _share(self, champion: Endpoint, asker: Asker, request_id: str) -> Endpoint:
        split = self._splits.get(champion.endpoint_id)
        if split is None:
            return champion
        key = traffic.sticky_key(asker, request_id, sticky_by_key=split.sticky_by_key)
        if not traffic.to_canary(champion.endpoint_id, key, split.canary_fraction):
            return champion
        # A canary that is not here, or not any more, costs nobody an answer.
        return self._canary(split) or champion

    def _canary(self, split: Split) -> Endpoint | None:
        ready = (one for one in self._endpoints if one.endpoint_id == split.canary_id and one.state == State.READY)
        canary = next(ready, None)
        if canary is None or not self._fleet.is_loaded(canary.endpoint_id):
            return None
        self._fleet.touch(canary.endpoint_id)
        return canary

    def _ask_for(self, endpoint: Endpoint | None) -> None:
        if endpoint is None:
            self._wake_reader.set()
        elif endpoint.state == State.READY:
            self._wanted.setdefault(endpoint.endpoint_id, time.monotonic())
            self._wake_loader.set()
