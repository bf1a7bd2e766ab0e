"""The cluster in production: an attempt is a `batch/v1` Job, launched, watched and deleted by the official client.

The machine's id is the Job's name, so that a launch repeated after a crash meets the Job that is already there. What
runs is answered from a cache that watches keep (`kubernetes_watch`); what it means stands in `kubernetes_pods`.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any

import aiohttp
import structlog
from kubernetes import aio as k8s

from sskai import failpoints
from sskai.cluster import (
    Cluster,
    ClusterUnavailableError,
    LogPage,
    Machine,
    NoCapacityError,
    NoLogError,
    Observation,
    Pod,
    PodState,
    RefusedError,
    kubernetes_logs,
    kubernetes_pods,
)
from sskai.cluster import kubernetes_manifests as manifests
from sskai.cluster.kubernetes_nodes import Nodes
from sskai.cluster.kubernetes_watch import ApiError, Reflector, refuse
from sskai.cluster.settings import Settings

log = structlog.get_logger()

REQUEST_SECONDS = 10
PAGE = 500
READ_BYTES = 4 * 1024 * 1024  # of a log, at once
# Time for the kubelet to kill; zero would free the node's room in the books while the process still dies there.
KILL_SECONDS = 1


async def load_account() -> None:
    """The pod's service account where there is one, else the kubeconfig's. Raises ConfigException, OSError."""
    try:
        k8s.config.load_incluster_config()
    except k8s.config.ConfigException:
        # The client itself reads the variable only once, when it is imported.
        await k8s.config.load_kube_config(os.environ.get("KUBECONFIG"))


@failpoints.boundary("cluster", ClusterUnavailableError, of=Cluster)
class KubernetesCluster:
    """Jobs in one namespace. `api` is a configured ApiClient (in-cluster configuration or a kubeconfig)."""

    def __init__(self, api: Any, settings: Settings) -> None:
        self._api = api
        self._batch = k8s.client.BatchV1Api(api)
        self._core = k8s.client.CoreV1Api(api)
        self._policy = k8s.client.PolicyV1Api(api)
        self._settings = settings
        self._namespace = settings.namespace
        self._not_before = 0.0  # the API asked us to wait until then
        of_ours = {"namespace": settings.namespace, "label_selector": manifests.selector(settings.program)}
        self._jobs = Reflector(
            "jobs",
            partial(self._batch.list_namespaced_job_without_preload_content, **of_ours),
            kubernetes_pods.slim_job,
        )
        self._pods = Reflector(
            "pods",
            partial(self._core.list_namespaced_pod_without_preload_content, **of_ours),
            kubernetes_pods.slim_pod,
            departing=True,
        )
        self._nodes = Nodes(self._core.list_node_without_preload_content, self._call)
        self._reflectors = (self._jobs, self._pods, self._nodes.reflector)
        self._watching: list[asyncio.Task[None]] = []

    @classmethod
    async def connect(cls, settings: Settings) -> KubernetesCluster:
        await load_account()
        return cls(k8s.client.ApiClient(), settings)

    async def close(self) -> None:
        for task in self._watching:
            task.cancel()
        await asyncio.gather(*self._watching, return_exceptions=True)
        self._watching.clear()
        await self._api.close()

    async def launch(self, pod: Pod) -> Machine:
        create_job = self._batch.create_namespaced_job_without_preload_content
        try:
            job = await self._call(create_job, self._namespace, manifests.job(pod, self._settings))
        except _ConflictError:
            job = await self._existing(pod)
        if pod.machines > 1:
            # A crash between the two leaves a Job without its Service; the repeated launch makes it.
            create_service = self._core.create_namespaced_service_without_preload_content
            with suppress(_ConflictError):
                service = manifests.service(pod, self._settings.program, job["metadata"]["uid"])
                await self._call(create_service, self._namespace, service)
        if pod.keep_ready:
            await self._keep_ready(pod, job["metadata"]["uid"])
        self._jobs.wrote(job)
        return Machine(pod.name, datetime.fromisoformat(job["metadata"]["creationTimestamp"]))

    async def _keep_ready(self, pod: Pod, job_uid: str) -> None:
        """One budget for all Jobs of a job_id; each of them owns it, so that it goes with the last one."""
        budget = manifests.disruption_budget(pod, self._settings.program, job_uid)
        try:
            await self._call(
                self._policy.create_namespaced_pod_disruption_budget_without_preload_content, self._namespace, budget
            )
        except _ConflictError:
            # Owners are added (a strategic merge, by uid); the number is replaced.
            change = {
                "metadata": {"ownerReferences": budget["metadata"]["ownerReferences"]},
                "spec": {"minAvailable": pod.keep_ready},
            }
            await self._call(
                self._policy.patch_namespaced_pod_disruption_budget_without_preload_content,
                manifests.budget_name(pod),
                self._namespace,
                change,
                _content_type="application/strategic-merge-patch+json",
            )

    async def _existing(self, pod: Pod) -> dict[str, Any]:
        """The Job of this name, if it is this attempt's."""
        job = await self._call(self._batch.read_namespaced_job_without_preload_content, pod.name, self._namespace)
        labels = job["metadata"].get("labels") or {}
        if (labels.get(manifests.JOB_ID), labels.get(manifests.ATTEMPT)) != (pod.job_id, str(pod.attempt)):
            raise RefusedError(f"the Job {pod.name} in {self._namespace} is not this attempt's; delete or rename it")
        if job["metadata"].get("deletionTimestamp"):
            raise ClusterUnavailableError(f"the Job {pod.name} is still being deleted")
        return job

    async def observe(self) -> list[Observation]:
        if not self._watching:
            self._watching = [asyncio.create_task(one.run(), name=f"watch {one.kind}") for one in self._reflectors]
        for reflector in self._reflectors:
            await reflector.ready(self._settings.api_silence_seconds)
        now = datetime.now(UTC)
        seen = self._seen(await self._nodes.lost(kubernetes_pods.nodes_of(self._pods.objects.values()), now), now)
        await asyncio.gather(*(self._keep_ended(one.observation) for one in seen if one.restarting))
        return [one.observation for one in seen]

    def _seen(self, lost_nodes: Mapping[str, datetime], now: datetime) -> list[kubernetes_pods.Seen]:
        ends = self._nodes.ending(now)
        jobs = {job["metadata"]["uid"]: job for job in self._jobs.objects.values()}
        alive = _by_job(self._pods.objects)
        departed = _by_job(self._pods.departed)
        for uid in departed.keys() - jobs.keys():
            for pod in departed[uid]:
                del self._pods.departed[pod["metadata"]["name"]]
        return [
            kubernetes_pods.observe(
                job,
                alive.get(uid, []),
                departed.get(uid, []),
                ends,
                now,
                lost_nodes=lost_nodes,
                patience_seconds=self._settings.unschedulable_seconds,
            )
            for uid, job in jobs.items()
        ]

    async def _keep_ended(self, one: Observation) -> None:
        """The Job controller replaces a pod that was evicted; whether and where to go on is the scheduler's to say."""
        try:
            if one.state is PodState.GONE:
                # The pod's end left nothing to read; a Job that is no more says the same.
                await self.delete(one.machine_id)
            else:
                note = {kubernetes_pods.EXIT_CODE_NOTE: str(one.exit_code)}
                change = {"metadata": {"annotations": note}, "spec": {"parallelism": 0}}
                await self._call(
                    self._batch.patch_namespaced_job_without_preload_content, one.machine_id, self._namespace, change
                )
        except ClusterUnavailableError as error:
            log.info(
                "a Job that ended could not be stopped; again at the next look", job=one.machine_id, error=str(error)
            )

    async def drain(self, machine_id: str) -> None:
        """Deleting the pod (not the Job) sends SIGTERM with the grace period; `backoffLimit: 0` makes no other."""
        await self._delete_pods(machine_id, manifests.GRACE_SECONDS)

    async def delete(self, machine_id: str) -> None:
        # The Job first: while it is there, its controller replaces pods.
        await self._gone_is_fine(
            self._batch.delete_namespaced_job_without_preload_content,
            machine_id,
            self._namespace,
            propagation_policy="Background",
        )
        await self._gone_is_fine(
            self._core.delete_namespaced_service_without_preload_content, machine_id, self._namespace
        )
        await self._delete_pods(machine_id, KILL_SECONDS)

    async def log(self, machine_id: str, *, tail: int, after: str = "") -> LogPage:
        """By the API's pod log, with timestamps. Kubernetes keeps a log as long as the pod."""
        pods = (await self._of_job(machine_id))["items"]
        pod = kubernetes_logs.first_member(pods)
        if pod is None:
            raise NoLogError(f"the pod of {machine_id} is deleted, and Kubernetes keeps no log of it")
        name, since = pod["metadata"]["name"], kubernetes_logs.since_seconds(after, datetime.now(UTC))
        try:
            if since is not None:
                text = await self._log_of(name, since_seconds=since)
                page = kubernetes_logs.page(text, after, tail)
                if page.lines or len(text) < READ_BYTES:
                    return page
                # More came in those seconds than is read at once, and none of it is new: the rest is left out.
            return kubernetes_logs.page(await self._log_of(name, tail_lines=tail), "", tail)
        except _MissingError as error:
            raise NoLogError(f"the pod of {machine_id} was deleted a moment ago") from error
        except RefusedError:
            return LogPage((), after)  # 400: its container has not started yet

    async def _log_of(self, pod_name: str, **wanted: int) -> str:
        return await self._text(
            self._core.read_namespaced_pod_log_without_preload_content,
            pod_name,
            self._namespace,
            container=self._settings.program.name,
            timestamps=True,
            limit_bytes=READ_BYTES,
            **wanted,
        )

    async def _of_job(self, machine_id: str) -> dict[str, Any]:
        return await self._call(
            self._core.list_namespaced_pod_without_preload_content,
            self._namespace,
            label_selector=f"{manifests.JOB_NAME}={machine_id}",
            limit=PAGE,
        )

    async def _delete_pods(self, machine_id: str, grace_seconds: int) -> None:
        """Those that are not on their way already, or not as fast."""
        for pod in (await self._of_job(machine_id))["items"]:
            metadata = pod["metadata"]
            dying = metadata.get("deletionTimestamp") is not None
            if not dying or (metadata.get("deletionGracePeriodSeconds") or 0) > grace_seconds:
                await self._gone_is_fine(
                    self._core.delete_namespaced_pod_without_preload_content,
                    metadata["name"],
                    self._namespace,
                    grace_period_seconds=grace_seconds,
                )

    async def _gone_is_fine(self, call: Any, *arguments: Any, **options: Any) -> None:
        with suppress(_MissingError):
            await self._call(call, *arguments, **options)

    async def _call(self, call: Any, *arguments: Any, **options: Any) -> dict[str, Any]:
        """The answer is plain JSON: the client's models refuse what a newer server adds."""
        try:
            answer: dict[str, Any] = json.loads(await self._text(call, *arguments, **options))
        except ValueError as error:
            raise ClusterUnavailableError(f"Kubernetes did not answer in JSON: {error!r}") from error
        return answer

    async def _text(self, call: Any, *arguments: Any, **options: Any) -> str:
        """One request; Kubernetes' words into ours."""
        wait = self._not_before - time.monotonic()
        if wait > 0:
            raise ClusterUnavailableError(f"Kubernetes asked for a pause; {wait:.0f} s of it are left")
        try:
            response = await call(*arguments, _request_timeout=REQUEST_SECONDS, **options)
            async with response:
                await refuse(response)
                return str((await response.read()).decode(errors="replace"))
        except ApiError as error:
            self._not_before = time.monotonic() + error.retry_after_seconds
            raise _translated(error) from error
        except (OSError, TimeoutError, aiohttp.ClientError) as error:
            raise ClusterUnavailableError(f"Kubernetes did not answer: {error!r}") from error


class _ConflictError(ClusterUnavailableError):
    """409: there is one of this name."""


class _MissingError(ClusterUnavailableError):
    """404: the object, or (for a launch) the namespace."""


def _translated(error: ApiError) -> Exception:
    if error.status == 409:
        return _ConflictError(str(error))
    if error.status == 404:
        return _MissingError(str(error))
    if error.status == 403 and "quota" in str(error):
        return NoCapacityError(f"the namespace's quota is used up: {error}")
    if error.status in (400, 422):
        return RefusedError(str(error))
    # 401 and 403 too: what we may do is the operator's to mend, and no reason to fail the users' jobs.
    return ClusterUnavailableError(str(error))


def _by_job(pods: dict[str, dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """By the uid of the Job that made them."""
    found: dict[str, list[dict[str, Any]]] = {}
    for pod in pods.values():
        uid = (pod["metadata"].get("labels") or {}).get("batch.kubernetes.io/controller-uid", "")
        found.setdefault(uid, []).append(pod)
    return found
