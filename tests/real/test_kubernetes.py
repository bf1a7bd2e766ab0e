"""Our client of Kubernetes against Kubernetes itself, with the rights of the docs, under Pod Security `restricted`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

import services.inference.settings
from services.scheduler.settings import Settings
from sskai.cluster import ClusterUnavailableError, Observation, Pod, PodState, kubernetes_watch
from sskai.cluster.kubernetes_cluster import KubernetesCluster
from sskai.testing import wait_for
from tests.real.cuts import Wire
from tests.real.namespace import Namespace
from tests.scheduler.cluster_contract import LIMIT_SECONDS, POD, ClusterContract, observed, reaches, stand
from tests.scheduler.examples import placement

pytestmark = pytest.mark.real

MACHINES = 4
GANG = replace(POD, machines=2)
NOWHERE = replace(POD, placement=placement(zone="use1-az9"))


class Site:
    """Reached through a wire, as the account that the docs describe."""

    def __init__(self, namespace: Namespace, wire: Wire) -> None:
        self.namespace = namespace
        self.wire = wire
        self.cluster = self.another()

    def another(self, settings: Settings | services.inference.settings.Settings | None = None) -> KubernetesCluster:
        """A process that starts anew, or another service's."""
        settings = settings or Settings(api_silence_seconds=3, unschedulable_seconds=300)
        settings = settings.model_copy(update={"namespace": self.namespace.name})
        return KubernetesCluster(self.namespace.client(f"https://127.0.0.1:{self.wire.port}"), settings)

    def running(self) -> int:
        return self.namespace.standing()

    def signals(self) -> int:
        """A kubelet sends one when a pod is deleted."""
        return len(self.namespace.plane.asked("delete", "pods", self.namespace.name))

    def deny(self) -> None:
        self.namespace.limit_jobs(0)

    async def start(self, machine_id: str) -> None:
        await self.namespace.running(machine_id)

    async def exit(self, machine_id: str, code: int, rank: int = 0) -> None:
        self.namespace.end(await self.namespace.pod(machine_id, rank), code)

    async def lose(self, machine_id: str, rank: int = 0) -> None:
        pod = await self.namespace.pod(machine_id, rank)
        self.namespace.remove_node(pod["spec"]["nodeName"])

    async def cut_off(self) -> None:
        await self.wire.disconnect()

    async def node_of(self, machine_id: str) -> str:
        [pod] = await self.namespace.running(machine_id)
        return str(pod["spec"]["nodeName"])

    def lists(self) -> int:
        """How often anything was listed so far."""
        return sum(
            len(self.namespace.plane.asked("list", kind, where))
            for kind, where in (("jobs", self.namespace.name), ("pods", self.namespace.name))
        )


@pytest.fixture
async def site(namespace: Namespace, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    monkeypatch.setattr(kubernetes_watch, "LONGEST_PAUSE_SECONDS", 0.5)
    for _ in range(MACHINES):
        namespace.add_node(POD.placement)
    wire = Wire(namespace.plane.port)
    await wire.connect()
    site = Site(namespace, wire)
    yield site
    await site.cluster.close()
    await wire.disconnect()


async def sees(site: Site, what: Callable[[Observation], bool]) -> Observation:
    """Wait until it is observed so."""

    async def there() -> Observation | None:
        try:
            one = await observed(site, POD.name)
        except ClusterUnavailableError:
            return None
        return one if one is not None and what(one) else None

    found: Observation | None = await wait_for(there, limit_seconds=LIMIT_SECONDS)
    assert found is not None
    return found


class TestContract(ClusterContract):
    """What every cluster promises; with the double's tests (tests/scheduler/test_kubernetes_cluster.py) the same."""


# What Kubernetes checks, and what it does by itself.


async def test_jobs_pods_and_gangs_pass_the_restricted_profile(site: Site) -> None:
    await site.cluster.launch(POD)
    await site.cluster.launch(replace(GANG, attempt=2))
    await site.namespace.running(POD.name)
    assert len(await site.namespace.running(replace(GANG, attempt=2).name)) == 2


async def test_the_profile_is_enforced_there(site: Site) -> None:
    """Else the test before this one says nothing."""
    container = {"name": "root", "image": "x", "securityContext": {"runAsUser": 0}}
    pod = {"metadata": {"name": "root"}, "spec": {"containers": [container]}}
    answer = site.namespace.plane.admin.post(f"{site.namespace.path()}/pods", json=pod)
    assert (answer.status_code, "restricted" in answer.text) == (403, True), answer.text


async def test_the_rights_of_the_docs_are_enough_and_no_more(site: Site) -> None:
    """Everything that both services do was done with them; what they do not name is refused."""
    inference = site.another(services.inference.settings.Settings(api_silence_seconds=3))
    replica = Pod("endpoint_1", "tenant_a", 1, POD.placement, {}, keep_ready=1)
    await site.cluster.launch(GANG)
    await inference.launch(replica)
    await inference.launch(replace(replica, attempt=2, keep_ready=2))
    await site.namespace.running(GANG.name)
    await site.cluster.drain(GANG.name)
    await site.cluster.delete(GANG.name)
    assert [(one.job_id, one.attempt) for one in await inference.observe()] == [("endpoint_1", 1), ("endpoint_1", 2)]
    budgets = site.namespace.plane.items(f"{site.namespace.path('/apis/policy/v1')}/poddisruptionbudgets")
    assert [one["spec"]["minAvailable"] for one in budgets] == [2]
    await inference.close()
    with site.namespace.plane.client(site.namespace.token) as client:
        for path in (f"{site.namespace.path()}/secrets", "/api/v1/namespaces/default/pods", "/api/v1/nodes/none"):
            assert client.get(path).status_code == 403, path


async def test_a_job_that_is_gone_takes_its_service_and_pods_with_it(site: Site) -> None:
    await site.cluster.launch(GANG)
    await site.namespace.running(GANG.name)
    services_at = f"{site.namespace.path()}/services"
    assert [one["metadata"]["name"] for one in site.namespace.plane.items(services_at)] == [GANG.name]
    site.namespace.plane.delete(f"{site.namespace.path('/apis/batch/v1')}/jobs/{GANG.name}")
    await wait_for(lambda: not site.namespace.plane.items(services_at), limit_seconds=LIMIT_SECONDS)


async def test_a_drain_leaves_the_pod_its_grace_and_its_exit_code_outlives_it(site: Site) -> None:
    await site.cluster.launch(POD)
    [pod] = await site.namespace.running(POD.name)
    await reaches(site, POD.name, PodState.RUNNING)
    await site.cluster.drain(POD.name)
    leaving = await site.namespace.pod(POD.name)
    assert leaving["metadata"]["deletionGracePeriodSeconds"] == 120
    site.namespace.end(pod, 75)
    assert (await reaches(site, POD.name, PodState.EXITED)).exit_code == 75
    await wait_for(lambda: not site.namespace.pods(POD.name), limit_seconds=LIMIT_SECONDS)
    assert (await reaches(site, POD.name, PodState.EXITED)).exit_code == 75


@pytest.mark.parametrize(("code", "reason", "told"), [(137, "OOMKilled", 71), (71, "Error", 71), (1, "Error", 1)])
async def test_how_a_container_ended_is_told(site: Site, code: int, reason: str, told: int) -> None:
    await site.cluster.launch(POD)
    [pod] = await site.namespace.running(POD.name)
    site.namespace.end(pod, code, reason=reason)
    assert (await reaches(site, POD.name, PodState.EXITED)).exit_code == told


async def test_an_evicted_pod_is_a_notice_and_kubernetes_starts_no_other(site: Site) -> None:
    """The Job controller replaces it; where to go on is the scheduler's to say."""
    await site.cluster.launch(POD)
    [pod] = await site.namespace.running(POD.name)
    site.namespace.evict(pod)
    noticed = await sees(site, lambda one: one.terminates_at is not None)
    assert noticed.why == "DisruptionTarget/EvictionByEvictionAPI"
    assert noticed.terminates_at is not None
    assert 100 < (noticed.terminates_at - datetime.now(UTC)).total_seconds() <= 120
    site.namespace.end(pod, 75)
    assert (await reaches(site, POD.name, PodState.EXITED)).exit_code == 75

    def nothing_starts() -> bool:
        [job] = site.namespace.jobs()
        return job["spec"]["parallelism"] == 0 and not [
            one for one in site.namespace.pods(POD.name) if one["status"]["phase"] in ("Pending", "Running")
        ]

    await wait_for(nothing_starts, limit_seconds=LIMIT_SECONDS)
    other = site.another()
    seen = [one for one in await other.observe() if one.machine_id == POD.name]
    assert [(one.state, one.exit_code) for one in seen] == [(PodState.EXITED, 75)]
    await other.close()


async def test_what_a_pod_waits_for_is_told_in_the_schedulers_words(site: Site) -> None:
    await site.cluster.launch(NOWHERE)
    # Nodes that were just made may not be ready: until they are, that is the reason.
    seen = await sees(site, lambda one: "didn't match Pod's node affinity/selector" in one.pending)
    assert seen.pending.startswith("Unschedulable: 0/")
    assert not seen.denied


async def test_a_pod_that_waits_too_long_for_a_machine_is_denied(site: Site) -> None:
    impatient = site.another(Settings(api_silence_seconds=3, unschedulable_seconds=0.5))
    await impatient.launch(NOWHERE)

    async def denied() -> bool:
        return any(one.denied for one in await impatient.observe())

    await wait_for(denied, limit_seconds=LIMIT_SECONDS)
    await impatient.close()


# Machines that go.


@pytest.mark.parametrize("taint", ["karpenter.sh/disrupted", "aws-node-termination-handler/spot-itn"])
async def test_a_nodes_taint_is_a_notice(site: Site, taint: str) -> None:
    await site.cluster.launch(POD)
    node = await site.node_of(POD.name)
    assert (await reaches(site, POD.name, PodState.RUNNING)).terminates_at is None
    before = datetime.now(UTC)
    site.namespace.taint(node, taint)
    one = await sees(site, lambda one: one.terminates_at is not None)
    assert (one.source, one.why) == ("kubernetes", taint)
    assert one.terminates_at is not None
    assert before <= one.terminates_at - timedelta(seconds=120) <= datetime.now(UTC)


async def test_a_removed_node_is_a_loss_at_once(site: Site) -> None:
    """Kubernetes' own garbage collector says so a minute later."""
    await site.cluster.launch(POD)
    node = await site.node_of(POD.name)
    await reaches(site, POD.name, PodState.RUNNING)
    before = asyncio.get_running_loop().time()
    site.namespace.remove_node(node)
    seen = await reaches(site, POD.name, PodState.GONE)
    assert asyncio.get_running_loop().time() - before < 3
    assert (seen.source, seen.why) == ("kubernetes", "its node is no more")


async def test_a_node_that_was_removed_while_nobody_watched_is_a_loss(site: Site) -> None:
    await site.cluster.launch(POD)
    site.namespace.remove_node(await site.node_of(POD.name))
    await reaches(site, POD.name, PodState.GONE)


async def test_a_taint_that_evicts_is_seen_as_a_notice_with_kubernetes_reason(site: Site) -> None:
    """NoExecute, as of a node that is shut down: the taint manager deletes the pod."""
    await site.cluster.launch(POD)
    node = await site.node_of(POD.name)
    await reaches(site, POD.name, PodState.RUNNING)
    site.namespace.taint(node, "example.com/maintenance", "NoExecute")
    seen = await sees(site, lambda one: one.terminates_at is not None)
    assert seen.why == "DisruptionTarget/DeletionByTaintManager"


# An API that is cut off, restarted, throttled.


async def test_watches_that_are_cut_go_on_where_they_were(site: Site) -> None:
    await site.cluster.launch(POD)
    [pod] = await site.namespace.running(POD.name)
    await reaches(site, POD.name, PodState.RUNNING)
    lists = site.lists()
    for _ in range(3):
        await site.wire.cut()
        assert (await sees(site, lambda one: one.state is PodState.RUNNING)).lost == 0
    site.namespace.end(pod, 0)
    await site.wire.cut()
    assert (await sees(site, lambda one: one.state is PodState.EXITED)).exit_code == 0
    assert site.lists() == lists, "nothing is listed again"


async def test_an_api_that_restarts_loses_nothing_and_is_found_again(site: Site) -> None:
    await site.cluster.launch(POD)
    [pod] = await site.namespace.running(POD.name)
    await reaches(site, POD.name, PodState.RUNNING)
    await asyncio.to_thread(site.namespace.plane.stop_api)

    async def unavailable() -> bool:
        try:
            [one] = await site.cluster.observe()
        except ClusterUnavailableError:
            return True
        assert one.state is PodState.RUNNING, "unreachable is not dead"
        return False

    await wait_for(unavailable, limit_seconds=LIMIT_SECONDS)
    await asyncio.to_thread(site.namespace.plane.start_api)
    assert (await sees(site, lambda one: one.state is PodState.RUNNING)).lost == 0
    site.namespace.end(pod, 75)
    assert (await sees(site, lambda one: one.state is PodState.EXITED)).exit_code == 75


async def test_an_api_that_throttles_us_is_left_alone_and_found_again(site: Site) -> None:
    await site.cluster.launch(POD)
    await site.namespace.running(POD.name)
    await reaches(site, POD.name, PodState.RUNNING)
    site.namespace.throttle()

    async def throttled() -> bool:
        try:
            await site.cluster.launch(replace(POD, attempt=2))
        except ClusterUnavailableError as error:
            return "429" in str(error)
        await site.cluster.delete(replace(POD, attempt=2).name)
        return False

    await wait_for(throttled, limit_seconds=LIMIT_SECONDS, pause_seconds=0.2)
    with pytest.raises(ClusterUnavailableError, match="asked for a pause"):
        await site.cluster.launch(replace(POD, attempt=3))
    await site.wire.cut()  # watches, too, ask anew, and are refused

    async def silent() -> bool:
        try:
            assert all(one.state is PodState.RUNNING for one in await site.cluster.observe())
        except ClusterUnavailableError:
            return True
        return False

    await wait_for(silent, limit_seconds=LIMIT_SECONDS)
    site.namespace.throttle_no_more()
    assert (await sees(site, lambda one: one.state is PodState.RUNNING)).lost == 0

    async def launches() -> bool:
        try:
            await site.cluster.launch(replace(POD, attempt=3))
        except ClusterUnavailableError:
            return False
        return True

    await wait_for(launches, limit_seconds=LIMIT_SECONDS, pause_seconds=0.2)
    await stand(site, 2)
