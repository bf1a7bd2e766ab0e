"""The nodes that pods of ours are on: which are about to go, and which are no more.

Kubernetes itself concludes a minute after a node was removed that its pods are gone (the pod garbage collector's look
every 20 s, and its quarantine of 40 s). What the watch of nodes says is known at once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from datetime import datetime
from typing import Any

from sskai.cluster import ClusterUnavailableError, kubernetes_pods
from sskai.cluster.kubernetes_watch import Ask, Reflector

MAX_QUESTIONS = 20  # about single nodes, at one look


class Nodes:
    """`list_nodes` is the official client's list; `call` makes one request and gives its JSON."""

    def __init__(self, list_nodes: Ask, call: Callable[..., Awaitable[dict[str, Any]]]) -> None:
        self.reflector = Reflector("nodes", list_nodes, kubernetes_pods.slim_node, optional=True, departing=True)
        self._list_nodes = list_nodes
        self._call = call
        self._ends: dict[str, kubernetes_pods.NodeEnd] = {}
        self._lost: dict[str, datetime] = {}  # when it was missed first

    def ending(self, now: datetime) -> dict[str, kubernetes_pods.NodeEnd]:
        """Those that are about to go."""
        self._ends = kubernetes_pods.ending_nodes(self.reflector.objects.values(), self._ends, now)
        return self._ends

    async def lost(self, names: Iterable[str], now: datetime) -> dict[str, datetime]:
        """Of these, which pods are bound to, those that are no more. None, where we may not see nodes.

        One that was removed while nobody watched, or that is so new that the watch has not told it yet, is asked for.
        """
        if self.reflector.hidden:
            return {}
        wanted = set(names)
        self.reflector.departed = {name: node for name, node in self.reflector.departed.items() if name in wanted}
        missing = wanted - self.reflector.objects.keys()
        self._lost = {name: at for name, at in self._lost.items() if name in missing}
        unknown = sorted(missing - self._lost.keys() - self.reflector.departed.keys())
        with suppress(ClusterUnavailableError):  # asked again at the next look
            for name in unknown[:MAX_QUESTIONS]:
                if not await self._exists(name):
                    self._lost[name] = now
        for name in missing & self.reflector.departed.keys():
            self._lost.setdefault(name, now)
        return self._lost

    async def _exists(self, name: str) -> bool:
        """By a list of one: the right to get a node is not asked for."""
        return bool((await self._call(self._list_nodes, field_selector=f"metadata.name={name}")).get("items"))
