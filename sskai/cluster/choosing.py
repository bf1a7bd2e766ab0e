"""Which cluster a service keeps its pods on, by its settings."""

from __future__ import annotations

import asyncio

from sskai.cluster import Cluster, LogPage, Machine, NoLogError, Observation, Pod, RefusedError
from sskai.cluster.local_cluster import LocalCluster
from sskai.cluster.settings import Settings


class _KubernetesLater:
    """Connects at the first call: the client needs a running event loop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._cluster: Cluster | None = None
        self._connecting = asyncio.Lock()

    async def _connected(self) -> Cluster:
        # Loops call at the same time. Of two clusters one would not know what the other has launched.
        async with self._connecting:
            if self._cluster is None:
                from sskai.cluster.kubernetes_cluster import KubernetesCluster

                self._cluster = await KubernetesCluster.connect(self._settings)
            return self._cluster

    async def launch(self, pod: Pod) -> Machine:
        return await (await self._connected()).launch(pod)

    async def observe(self) -> list[Observation]:
        return await (await self._connected()).observe()

    async def drain(self, machine_id: str) -> None:
        await (await self._connected()).drain(machine_id)

    async def delete(self, machine_id: str) -> None:
        await (await self._connected()).delete(machine_id)

    async def log(self, machine_id: str, *, tail: int, after: str = "") -> LogPage:
        return await (await self._connected()).log(machine_id, tail=tail, after=after)


class NoCluster:
    """Of an installation that names none: nothing runs there, and nothing can be launched."""

    async def launch(self, pod: Pod) -> Machine:
        raise RefusedError(
            f"{pod.name}: this installation has no cluster: set SSKAI_CLUSTER (SSKAI_CLOUD_URL for the simulated one)"
        )

    async def observe(self) -> list[Observation]:
        return []

    async def drain(self, machine_id: str) -> None:
        """There is nothing."""

    async def delete(self, machine_id: str) -> None:
        """There is nothing."""

    async def log(self, machine_id: str, *, tail: int, after: str = "") -> LogPage:  # noqa: ARG002
        raise NoLogError(f"{machine_id}: this installation has no cluster")


def cluster_of(settings: Settings) -> Cluster:
    """The cluster that the settings name. Raises ValueError with what is missing."""
    if settings.cluster == "kubernetes":
        return _KubernetesLater(settings)
    if settings.cluster == "ec2":
        from sskai.cluster.ec2_cluster import Ec2Cluster

        return Ec2Cluster(settings)
    if not settings.cloud_url:
        raise ValueError("SSKAI_CLUSTER=local needs SSKAI_CLOUD_URL and SSKAI_CLOUD_TOKEN (`sskai up` sets both)")
    return LocalCluster(settings.cloud_url, settings.cloud_token.get_secret_value(), settings.program)
