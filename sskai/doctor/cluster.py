"""Where attempts run: the cluster that SSKAI_CLUSTER names answers, and lets us do what we do."""

from __future__ import annotations

from sskai.cluster import ClusterUnavailableError
from sskai.cluster.local_cluster import LocalCluster
from sskai.doctor import Finding, Findings, ec2, kubernetes
from sskai.doctor.settings import Settings


async def look(settings: Settings) -> list[Finding]:
    if settings.cluster == "kubernetes":
        return await kubernetes.look(settings)
    if settings.cluster == "ec2":
        return await ec2.look(settings)
    return await _local(settings)


async def _local(settings: Settings) -> list[Finding]:
    said = Findings("cluster")
    if not settings.cloud_url:
        said.fail(
            "local",
            "SSKAI_CLUSTER is local, and SSKAI_CLOUD_URL is not set",
            "Set SSKAI_CLUSTER to kubernetes or ec2; `local` is for the simulated cloud of `sskai up` and compose.",
        )
        return said.found
    cluster = LocalCluster(settings.cloud_url, settings.cloud_token.get_secret_value(), settings.program)
    try:
        machines = await cluster.observe()
    except ClusterUnavailableError as error:
        said.fail(
            "local", f"{settings.cloud_url}: {error}", "Start the simulated cloud; SSKAI_CLOUD_TOKEN must be its own."
        )
    else:
        said.ok("local", f"the simulated cloud at {settings.cloud_url}, {len(machines)} machines of ours")
    finally:
        await cluster.close()
    said.skip("quotas", "the simulated cloud has none")
    return said.found
