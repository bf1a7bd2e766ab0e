"""The cluster in production: an attempt is a `batch/v1` Job, launched, watched and deleted by the official client.

One attempt is one Job with `backoffLimit: 0`: the scheduler restarts jobs, Kubernetes does not. The machine's id is the
Job's name, so that a launch repeated after a crash meets the Job that is already there.
"""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import UTC, datetime
from typing import Any, TypeVar

import aiohttp
from kubernetes import aio as k8s
from kubernetes.aio.client.exceptions import ApiException

from services.scheduler.cluster import ClusterUnavailableError, Machine, NoCapacityError, Observation, Pod, PodState
from services.scheduler.settings import Settings
from sskai.events import v1 as events

T = TypeVar("T")

MANAGED_BY = "sskai-scheduler"
# Longer than the drain: a kill in the middle of the last save would waste it.
GRACE_SECONDS = 120
USER_EXIT_CODES = [65, 71, 76, 78]  # services/trainer/README.md: another pod would end the same way
REQUEST_SECONDS = 10
# The image brings it (deploy/Dockerfile, docs/decisions/0009); an image without it is told so by the loader, and runs.
PRELOADED = {"LD_PRELOAD": "libtcmalloc_minimal.so.4"}
PAGE = 500


class KubernetesCluster:
    """Jobs in one namespace. `api` is a configured ApiClient (in-cluster configuration or a kubeconfig)."""

    def __init__(self, api: Any, settings: Settings) -> None:
        self._batch = k8s.client.BatchV1Api(api)
        self._core = k8s.client.CoreV1Api(api)
        self._settings = settings

    @classmethod
    async def connect(cls, settings: Settings) -> KubernetesCluster:
        """By the pod's service account where there is one, else by the kubeconfig."""
        try:
            k8s.config.load_incluster_config()
        except k8s.config.ConfigException:
            await k8s.config.load_kube_config()
        return cls(k8s.client.ApiClient(), settings)

    async def launch(self, pod: Pod) -> Machine:
        namespace = self._settings.namespace
        try:
            job = await _call(
                self._batch.create_namespaced_job(
                    namespace, manifest(pod, self._settings), _request_timeout=REQUEST_SECONDS
                )
            )
        except _AlreadyThereError:
            job = await _call(self._batch.read_namespaced_job(pod.name, namespace, _request_timeout=REQUEST_SECONDS))
        return Machine(pod.name, job.metadata.creation_timestamp or datetime.now(UTC))

    async def observe(self) -> list[Observation]:
        found: list[Observation] = []
        token: str | None = None
        while True:
            page = await _call(
                self._batch.list_namespaced_job(
                    self._settings.namespace,
                    label_selector=f"app.kubernetes.io/managed-by={MANAGED_BY}",
                    limit=PAGE,
                    _continue=token,
                    _request_timeout=REQUEST_SECONDS,
                )
            )
            found += [await self._observation(job) for job in page.items]
            token = page.metadata._continue
            if not token:
                return found

    async def drain(self, machine_id: str) -> None:
        """Deleting the pod (not the Job) sends SIGTERM with the grace period; `backoffLimit: 0` makes no other."""
        for pod in await self._pods(machine_id):
            if pod.metadata.deletion_timestamp is None:
                await _gone_is_fine(
                    self._core.delete_namespaced_pod(
                        pod.metadata.name,
                        self._settings.namespace,
                        grace_period_seconds=GRACE_SECONDS,
                        _request_timeout=REQUEST_SECONDS,
                    )
                )

    async def delete(self, machine_id: str) -> None:
        await _gone_is_fine(
            self._batch.delete_namespaced_job(
                machine_id,
                self._settings.namespace,
                propagation_policy="Background",
                grace_period_seconds=0,
                _request_timeout=REQUEST_SECONDS,
            )
        )

    async def _pods(self, job_name: str) -> list[Any]:
        pods = await _call(
            self._core.list_namespaced_pod(
                self._settings.namespace,
                label_selector=f"batch.kubernetes.io/job-name={job_name}",
                limit=PAGE,
                _request_timeout=REQUEST_SECONDS,
            )
        )
        return list(pods.items)

    async def _observation(self, job: Any) -> Observation:
        labels = job.metadata.labels or {}
        conditions = {one.type: one for one in job.status.conditions or [] if one.status == "True"}
        ended = conditions.get("Failed") or conditions.get("Complete")
        exit_code = None
        if ended is not None:
            exit_code = 0 if "Complete" in conditions else await self._exit_code(job.metadata.name)
        return Observation(
            machine_id=job.metadata.name,
            job_id=labels["sskai.dev/job-id"],
            attempt=int(labels["sskai.dev/attempt"]),
            # A failed Job without an exit code lost its pod with its node.
            state=PodState.RUNNING if ended is None else PodState.EXITED if exit_code is not None else PodState.GONE,
            exit_code=exit_code,
            ended_at=ended.last_transition_time if ended is not None else None,
        )

    async def _exit_code(self, job_name: str) -> int | None:
        for pod in await self._pods(job_name):
            for status in pod.status.container_statuses or []:
                if status.state and status.state.terminated:
                    return int(status.state.terminated.exit_code)
        return None


def manifest(pod: Pod, settings: Settings) -> dict[str, Any]:
    """The `batch/v1` Job of an attempt, fit for Pod Security `restricted`."""
    placement = pod.placement
    labels = {
        "app.kubernetes.io/name": "sskai-trainer",
        "app.kubernetes.io/instance": pod.name,
        "app.kubernetes.io/part-of": "sskai",
        "app.kubernetes.io/managed-by": MANAGED_BY,
        "sskai.dev/job-id": pod.job_id,
        "sskai.dev/attempt": str(pod.attempt),
        "sskai.dev/tenant": pod.tenant_id,
    }
    job_labels = dict(labels)
    if settings.kueue_queue:
        job_labels["kueue.x-k8s.io/queue-name"] = settings.kueue_queue
    spot = placement.capacity_type == events.CAPACITY_TYPE_SPOT
    selector = {
        "node.kubernetes.io/instance-type": placement.instance_type,
        "karpenter.sh/capacity-type": "spot" if spot else "on-demand",
    }
    if placement.zone not in ("", "*"):
        # The catalogue's zones are zone ids (use1-az1), which mean the same place in every account.
        selector["topology.k8s.aws/zone-id"] = placement.zone
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": pod.name, "labels": job_labels},
        "spec": {
            "backoffLimit": 0,
            "suspend": bool(settings.kueue_queue),
            "ttlSecondsAfterFinished": 24 * 3600,
            "podFailurePolicy": {
                "rules": [
                    {"action": "FailJob", "onExitCodes": {"operator": "In", "values": USER_EXIT_CODES}},
                    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                ]
            },
            "template": {"metadata": {"labels": labels}, "spec": _pod_spec(pod, settings, selector)},
        },
    }


def _pod_spec(pod: Pod, settings: Settings, selector: dict[str, str]) -> dict[str, Any]:
    placement = pod.placement
    # A node keeps a part of itself for the kubelet and daemons; the rest is the pod's.
    resources = {"cpu": f"{max(1, round(placement.vcpus * 900))}m", "memory": f"{int(placement.memory_gib * 0.85)}Gi"}
    limits = {"memory": resources["memory"]}
    if placement.accelerator_count:
        limits["nvidia.com/gpu"] = str(placement.accelerator_count)
    return {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "automountServiceAccountToken": False,
        "serviceAccountName": settings.service_account,
        "nodeSelector": selector,
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 10001,
            "fsGroup": 10001,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [
            {
                "name": "trainer",
                "image": settings.trainer_image,
                "command": ["python", "-m", "services.trainer.pod"],
                "env": [{"name": name, "value": value} for name, value in sorted((PRELOADED | dict(pod.env)).items())]
                + [{"name": "SSKAI_MACHINE_ID", "value": pod.name}]
                + [_secret(pod, name) for name in pod.secrets],
                "resources": {"requests": resources, "limits": limits},
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                },
                "volumeMounts": [{"name": "work", "mountPath": "/tmp"}],  # noqa: S108 (the container's own)
            }
        ],
        "volumes": [{"name": "work", "emptyDir": {}}],
    }


def _secret(pod: Pod, name: str) -> dict[str, Any]:
    """A job file's secret is a key of the tenant's Secret; a pod waits until it is there."""
    secret = f"sskai-secrets-{pod.tenant_id.replace('_', '-')}"
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": name}}}


class _AlreadyThereError(Exception):
    pass


async def _call(request: Awaitable[T]) -> T:
    """Kubernetes' words into ours."""
    try:
        return await request
    except ApiException as error:
        if error.status == 409:
            raise _AlreadyThereError from error
        if error.status == 403 and "quota" in str(error.body):
            raise NoCapacityError(f"the namespace's quota is used up: {error.body}") from error
        raise ClusterUnavailableError(f"Kubernetes answered {error.status} {error.reason}") from error
    except (OSError, TimeoutError, aiohttp.ClientError) as error:
        raise ClusterUnavailableError(f"Kubernetes did not answer: {error!r}") from error


async def _gone_is_fine(request: Awaitable[Any]) -> None:
    try:
        await request
    except ApiException as error:
        if error.status != 404:
            raise ClusterUnavailableError(f"Kubernetes answered {error.status} {error.reason}") from error
