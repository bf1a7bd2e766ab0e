"""The Kubernetes cluster, by the official client over HTTP, against an API server that can cut, forget and refuse."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

import services.inference.settings
from services.scheduler.settings import Settings
from sskai.cluster import (
    ClusterUnavailableError,
    NoCapacityError,
    Observation,
    Pod,
    PodState,
    RefusedError,
    kubernetes_watch,
)
from sskai.cluster.kubernetes_cluster import KubernetesCluster
from sskai.testing import wait_for
from tests.scheduler.cluster_contract import POD, ClusterContract, observed, reaches
from tests.scheduler.kubernetes_api import KubernetesApi

GANG = replace(POD, machines=2)


class Site:
    def __init__(self, api: KubernetesApi, settings: Settings) -> None:
        self.api = api
        self.cluster = KubernetesCluster(api.client(), settings)

    def running(self) -> int:
        return len(
            [one for one in self.api.things["pods"].values() if one["status"]["phase"] in ("Pending", "Running")]
        )

    def signals(self) -> int:
        return len(self.api.terminated)

    def deny(self) -> None:
        self.api.refuse("POST", "jobs", 403, "exceeded quota: team-a")

    async def start(self, machine_id: str) -> None:
        for number, pod in enumerate(self.api.pods_of(machine_id)):
            self.api.schedule(pod, f"node-{number}")

    async def exit(self, machine_id: str, code: int, rank: int = 0) -> None:
        self.api.exit(next(one for one in self.api.pods_of(machine_id) if f"{machine_id}-{rank}-" in one), code)

    async def lose(self, machine_id: str, rank: int = 0) -> None:
        self.api.lose(next(one for one in self.api.pods_of(machine_id) if f"{machine_id}-{rank}-" in one))

    async def cut_off(self) -> None:
        await self.api.stop()


@pytest.fixture
async def site(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    monkeypatch.setattr(kubernetes_watch, "LONGEST_PAUSE_SECONDS", 0.1)
    monkeypatch.setattr(kubernetes_watch, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(kubernetes_watch, "WATCH_SECONDS", 1)
    api = KubernetesApi()
    await api.start()
    site = Site(api, Settings(api_silence_seconds=3, unschedulable_seconds=300))
    yield site
    await site.cluster.close()
    await api.stop()


async def sees(site: Site, text: str) -> Observation:
    """Wait until the pod is said to wait for this."""

    async def there() -> Observation | None:
        one = await observed(site, POD.name)
        return one if one is not None and text in one.pending else None

    found: Observation | None = await wait_for(there)
    assert found is not None
    return found


class TestContract(ClusterContract):
    """What every cluster promises."""


# Launching and deleting.


async def test_a_job_of_the_same_name_that_is_not_ours_is_refused(site: Site) -> None:
    await site.cluster.launch(POD)
    site.api.change("jobs", POD.name, {"metadata": {"labels": {"sskai.dev/job-id": "job_2"}}})
    with pytest.raises(RefusedError, match="not this attempt's"):
        await site.cluster.launch(POD)


@pytest.mark.parametrize(
    ("status", "message", "expected"),
    [
        (403, "exceeded quota: team-a", NoCapacityError),
        (403, "serviceaccount may not create jobs", ClusterUnavailableError),
        (422, "spec.template.spec.containers[0].env: invalid", RefusedError),
        (400, "unknown field", RefusedError),
        (404, "namespaces sskai-jobs not found", ClusterUnavailableError),
        (500, "etcd: leader changed", ClusterUnavailableError),
    ],
)
async def test_what_a_refused_launch_means(site: Site, status: int, message: str, expected: type[Exception]) -> None:
    site.api.refuse("POST", "jobs", status, message)
    with pytest.raises(expected, match=re.escape(message)):
        await site.cluster.launch(POD)


async def test_an_api_that_asks_for_a_pause_is_left_alone_for_it(site: Site) -> None:
    site.api.refuse("POST", "jobs", 429, "slow down", retry_after="30")
    with pytest.raises(ClusterUnavailableError, match="429"):
        await site.cluster.launch(POD)
    asked = len(site.api.requests)
    with pytest.raises(ClusterUnavailableError, match="asked for a pause"):
        await site.cluster.launch(POD)
    assert len(site.api.requests) == asked


async def test_a_gang_has_a_service_that_goes_with_its_job(site: Site) -> None:
    await site.cluster.launch(GANG)
    (service,) = site.api.things["services"].values()
    assert service["metadata"]["ownerReferences"][0]["uid"] == site.api.things["jobs"][GANG.name]["metadata"]["uid"]
    site.api.remove("services", GANG.name)  # as if the scheduler had died between the two
    await site.cluster.launch(GANG)
    assert GANG.name in site.api.things["services"]
    await site.cluster.delete(GANG.name)
    assert not site.api.things["services"]


async def test_what_is_half_there_is_deleted_whole(site: Site) -> None:
    await site.cluster.launch(GANG)
    site.api.things["services"][GANG.name]["metadata"]["ownerReferences"] = []
    del site.api.things["jobs"][GANG.name]
    await site.cluster.delete(GANG.name)
    assert not site.api.things["services"]
    assert site.running() == 0


async def test_a_drain_leaves_the_pod_its_grace_and_its_exit_code_outlives_it(site: Site) -> None:
    await site.cluster.launch(POD)
    await site.start(POD.name)
    await reaches(site, POD.name, PodState.RUNNING)
    await site.cluster.drain(POD.name)
    (pod,) = site.api.pods_of(POD.name)
    assert site.api.terminated == [(pod, 120)]
    site.api.exit(pod, 75)  # the kubelet tells, and the pod is no more
    assert not site.api.pods_of(POD.name)
    assert (await reaches(site, POD.name, PodState.EXITED)).exit_code == 75


# What is observed.


async def test_a_container_that_was_killed_for_memory_is_out_of_memory(site: Site) -> None:
    await site.cluster.launch(POD)
    (pod,) = site.api.pods_of(POD.name)
    site.api.exit(pod, 137, reason="OOMKilled")
    assert (await reaches(site, POD.name, PodState.EXITED)).exit_code == 71


async def test_an_evicted_pod_is_not_replaced_by_kubernetes(site: Site) -> None:
    """The Job controller would start the same attempt again; where to go on is the scheduler's to say."""
    await site.cluster.launch(POD)
    await site.start(POD.name)
    (pod,) = site.api.pods_of(POD.name)
    site.api.exit(pod, 75, evicted=True)
    assert len(site.api.pods_of(POD.name)) == 2
    assert (await reaches(site, POD.name, PodState.EXITED)).exit_code == 75
    assert site.api.things["jobs"][POD.name]["spec"]["parallelism"] == 0
    # Nobody has to remember it: a scheduler that starts anew reads the same.
    other = Site(site.api, Settings())
    site.api.remove("pods", pod)
    assert (await reaches(other, POD.name, PodState.EXITED)).exit_code == 75
    await other.cluster.close()


async def test_a_pod_that_was_killed_with_its_node_is_gone(site: Site) -> None:
    await site.cluster.launch(POD)
    await site.start(POD.name)
    (pod,) = site.api.pods_of(POD.name)
    await reaches(site, POD.name, PodState.RUNNING)
    site.api.exit(pod, 137, evicted=True)

    async def over() -> bool:
        one = await observed(site, POD.name)
        return one is None

    await wait_for(over)
    assert POD.name not in site.api.things["jobs"]


async def test_what_the_user_must_mend_goes_before_what_broke_after_it(site: Site) -> None:
    await site.cluster.launch(GANG)
    await site.start(GANG.name)
    await reaches(site, GANG.name, PodState.RUNNING)
    first, second = site.api.pods_of(GANG.name)
    site.api.exit(first, 70)  # lost its peer
    site.api.exit(second, 71)

    async def out_of_memory() -> bool:
        seen = await observed(site, GANG.name)
        return seen is not None and seen.exit_code == 71

    await wait_for(out_of_memory)


@pytest.mark.parametrize(
    ("taint", "seconds"),
    [
        ("aws-node-termination-handler/spot-itn", 120),
        ("karpenter.sh/disrupted", 120),
        ("cloud.google.com/impending-node-termination", 25),
        ("ToBeDeletedByClusterAutoscaler", 120),
        ("node.kubernetes.io/out-of-service", 0),
    ],
)
async def test_a_nodes_taint_is_a_notice(site: Site, taint: str, seconds: float) -> None:
    await site.cluster.launch(POD)
    await site.start(POD.name)
    seen = await reaches(site, POD.name, PodState.RUNNING)
    assert seen.terminates_at is None
    before = datetime.now(UTC)
    site.api.change("nodes", "node-0", {"spec": {"taints": [{"key": taint, "effect": "NoSchedule"}]}})

    async def noticed() -> datetime | None:
        one = await observed(site, POD.name)
        return one.terminates_at if one else None

    at: datetime | None = await wait_for(noticed)
    assert at is not None
    assert before <= at - timedelta(seconds=seconds) <= datetime.now(UTC)
    assert await noticed() == at, "a notice does not move while it is looked at"
    one = await observed(site, POD.name)
    assert one is not None
    assert (one.source, one.why) == ("kubernetes", taint)


async def test_a_node_that_is_removed_takes_its_pod_with_it_at_once(site: Site) -> None:
    """Kubernetes' own word on the pod comes a minute later."""
    await site.cluster.launch(POD)
    await site.start(POD.name)
    await reaches(site, POD.name, PodState.RUNNING)
    site.api.remove("nodes", "node-0")
    seen = await reaches(site, POD.name, PodState.GONE)
    assert (seen.source, seen.why) == ("kubernetes", "its node is no more")


async def test_a_node_that_was_removed_while_nobody_watched_is_asked_for(site: Site) -> None:
    await site.cluster.launch(POD)
    await site.start(POD.name)
    site.api.remove("nodes", "node-0")
    other = Site(site.api, Settings())
    await reaches(other, POD.name, PodState.GONE)
    await other.cluster.close()


async def test_a_node_that_the_watch_has_not_told_yet_is_no_loss(site: Site) -> None:
    await site.cluster.launch(POD)
    await site.start(POD.name)
    await reaches(site, POD.name, PodState.RUNNING)
    site.cluster._nodes.reflector.objects.clear()
    assert (await reaches(site, POD.name, PodState.RUNNING)).lost == 0


async def test_without_the_right_to_see_nodes_none_is_missed(site: Site) -> None:
    site.api.refuse("GET", "nodes", 403, "nodes is forbidden")
    await site.cluster.launch(POD)
    await site.start(POD.name)
    site.api.remove("nodes", "node-0")
    await reaches(site, POD.name, PodState.RUNNING)


async def test_other_taints_are_no_notice(site: Site) -> None:
    await site.cluster.launch(POD)
    await site.start(POD.name)
    taints = [{"key": "node.kubernetes.io/memory-pressure", "effect": "NoSchedule"}]
    site.api.change("nodes", "node-0", {"spec": {"taints": taints}})
    site.api.change("pods", site.api.pods_of(POD.name)[0], {"metadata": {"annotations": {"seen": "yes"}}})
    assert (await reaches(site, POD.name, PodState.RUNNING)).terminates_at is None


async def test_an_eviction_is_a_notice_until_the_grace_runs_out(site: Site) -> None:
    await site.cluster.launch(POD)
    await site.start(POD.name)
    site.api.evict(site.api.pods_of(POD.name)[0], grace_seconds=60)

    async def noticed() -> datetime | None:
        one = await observed(site, POD.name)
        return one.terminates_at if one else None

    at: datetime | None = await wait_for(noticed)
    assert at is not None
    left = at - datetime.now(UTC)
    assert 50 < left.total_seconds() <= 60


async def test_what_a_pod_waits_for_is_told(site: Site) -> None:
    await site.cluster.launch(POD)
    (pod,) = site.api.pods_of(POD.name)
    site.api.wait_for_a_node(pod, "0/5 nodes are available: 5 Insufficient nvidia.com/gpu.")
    seen = await sees(site, "Insufficient nvidia.com/gpu")
    assert (seen.state, seen.denied) == (PodState.RUNNING, False)
    for reason, message in (
        ("ImagePullBackOff", 'Back-off pulling image "sskai/trainer:0.1.0"'),
        ("CreateContainerConfigError", 'secret "sskai-secrets-tenant-a" not found'),
    ):
        waiting = {"name": "trainer", "state": {"waiting": {"reason": reason, "message": message}}}
        site.api.change("pods", pod, {"status": {"conditions": [], "containerStatuses": [waiting]}})
        assert not (await sees(site, f"{reason}: {message}")).denied


async def test_a_pod_that_waits_too_long_for_a_machine_is_denied(site: Site) -> None:
    await site.cluster.launch(POD)
    site.api.wait_for_a_node(site.api.pods_of(POD.name)[0], "no nodes", seconds_ago=301)
    assert (await sees(site, "no nodes")).denied


async def test_a_job_whose_queue_has_not_admitted_it_waits_and_is_not_denied() -> None:
    api = KubernetesApi()
    await api.start()
    site = Site(api, Settings(kueue_queue="team-a", unschedulable_seconds=0.001))
    await site.cluster.launch(POD)
    assert site.running() == 0
    assert not (await sees(site, "not admitted")).denied
    await site.cluster.close()
    await api.stop()


# The watches.


async def test_it_watches_instead_of_asking_again(site: Site) -> None:
    await site.cluster.launch(POD)
    await reaches(site, POD.name, PodState.RUNNING)
    lists = [method for method, _, _ in site.api.requests].count("GET")
    for number in range(20):
        await site.cluster.launch(replace(POD, attempt=2 + number))
    await wait_for(lambda: len(site.cluster._jobs.objects) == 21)
    await site.cluster.observe()
    assert [method for method, _, _ in site.api.requests].count("GET") == lists


async def test_a_watch_that_was_cut_goes_on_where_it_was(site: Site) -> None:
    await site.cluster.launch(POD)
    await reaches(site, POD.name, PodState.RUNNING)
    lists = [method for method, _, _ in site.api.requests].count("GET")
    site.api.cuts = 3
    site.api.exit(site.api.pods_of(POD.name)[0], 0)
    assert (await reaches(site, POD.name, PodState.EXITED)).exit_code == 0
    assert site.api.cuts == 0
    assert [method for method, _, _ in site.api.requests].count("GET") == lists, "nothing is listed again"


async def test_a_version_that_the_server_has_forgotten_is_listed_anew(site: Site) -> None:
    await site.cluster.launch(POD)
    (pod,) = site.api.pods_of(POD.name)
    await reaches(site, POD.name, PodState.RUNNING)
    site.api.exit(pod, 0)
    site.api.forget_history()  # before the watches have read it
    assert (await reaches(site, POD.name, PodState.EXITED)).exit_code == 0


async def test_bookmarks_move_the_version_on(site: Site) -> None:
    site.api.bookmarks = True
    await site.cluster.observe()
    started = int(site.cluster._jobs._version or 0)
    await wait_for(lambda: int(site.cluster._jobs._version or 0) > started + 5)
    assert await site.cluster.observe() == []


async def test_an_api_that_restarts_is_found_again(site: Site) -> None:
    await site.cluster.launch(POD)
    await reaches(site, POD.name, PodState.RUNNING)
    await site.api.stop()
    await site.api.start()
    site.api.exit(site.api.pods_of(POD.name)[0], 0)
    assert (await reaches(site, POD.name, PodState.EXITED)).exit_code == 0


async def test_a_short_silence_is_answered_from_what_is_known(site: Site) -> None:
    await site.cluster.launch(POD)
    await reaches(site, POD.name, PodState.RUNNING)
    await site.api.stop()
    assert len(await site.cluster.observe()) == 1

    async def too_old() -> bool:
        try:
            await site.cluster.observe()
        except ClusterUnavailableError as error:
            return "nothing heard" in str(error)
        return False

    await wait_for(too_old)
    await site.api.start()

    async def back() -> bool:
        try:
            return len(await site.cluster.observe()) == 1
        except ClusterUnavailableError:
            return False

    await wait_for(back)


async def test_errors_of_the_api_are_waited_out(site: Site) -> None:
    for kind in ("jobs", "pods", "nodes"):
        for _ in range(3):
            site.api.refuse("GET", kind, 500, "etcd: leader changed")
        site.api.refuse("WATCH", kind, 429, "slow down")
    with pytest.raises(ClusterUnavailableError, match="500"):
        await site.cluster.observe()

    async def back() -> bool:
        try:
            return await site.cluster.observe() == []
        except ClusterUnavailableError:
            return False

    await wait_for(back)


async def test_nodes_that_we_may_not_see_are_gone_without(site: Site) -> None:
    site.api.refuse("GET", "nodes", 403, "nodes is forbidden")
    await site.cluster.launch(POD)
    assert (await observed(site, POD.name)) is not None


async def test_lists_come_in_pages(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubernetes_watch, "PAGE", 2)
    for number in range(1, 6):
        await site.cluster.launch(replace(POD, attempt=number))
    other = Site(site.api, Settings())
    assert len(await other.cluster.observe()) == 5
    await other.cluster.close()


async def test_an_api_that_was_never_there_says_nothing_about_pods(site: Site) -> None:
    await site.api.stop()
    with pytest.raises(ClusterUnavailableError):
        await site.cluster.observe()


async def test_an_evicted_member_is_not_replaced_and_the_others_still_save(site: Site) -> None:
    await site.cluster.launch(GANG)
    await site.start(POD.name)
    await reaches(site, POD.name, PodState.RUNNING)
    first, second = site.api.pods_of(POD.name)
    site.api.exit(second, 75, evicted=True)
    assert site.api.pods_of(POD.name) == [first, second]
    seen = await observed(site, POD.name)
    assert seen is not None
    assert seen.state is PodState.RUNNING
    site.api.exit(first, 75)
    assert (await reaches(site, POD.name, PodState.EXITED)).exit_code == 75


async def test_replicas_are_their_own_programs_and_share_one_disruption_budget(site: Site) -> None:
    inference = Site(site.api, services.inference.settings.Settings(api_silence_seconds=3))
    attempt = await site.cluster.launch(Pod("job_1", "tenant_a", 1, POD.placement, {}))
    first = Pod("endpoint_1", "tenant_a", 1, POD.placement, {}, keep_ready=1)
    machines = [await inference.cluster.launch(one) for one in (first, replace(first, attempt=2, keep_ready=2))]
    (budget,) = site.api.things["poddisruptionbudgets"].values()
    assert budget["spec"]["minAvailable"] == 2
    patched = [query for method, path, query in site.api.requests if method == "PATCH" and "budgets" in path]
    assert len(patched) == 1
    assert [one.machine_id for one in await site.cluster.observe()] == [attempt.machine_id]
    assert {one.machine_id for one in await inference.cluster.observe()} == {one.machine_id for one in machines}
    await inference.cluster.close()
