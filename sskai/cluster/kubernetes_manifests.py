"""What is asked of Kubernetes for one pod: a `batch/v1` Job, for a gang a headless Service, and for what answers
requests a PodDisruptionBudget. Values only.

One attempt, or one replica, is one Job with `backoffLimit: 0`: the service that keeps it restarts it, Kubernetes does
not (for replicas: docs/decisions/0018).
"""

from __future__ import annotations

import math
import re
from typing import Any

from sskai.cluster import Pod, Program, dns_label
from sskai.cluster.pods import BROKER_CA, BROKER_SECRETS, MASTER_PORT, OBJECTS_SECRETS, PRELOADED, USER_EXIT_CODES
from sskai.cluster.settings import Settings
from sskai.events import v1 as events

Manifest = dict[str, Any]

JOB_ID, ATTEMPT, TENANT = "sskai.dev/job-id", "sskai.dev/attempt", "sskai.dev/tenant"
JOB_NAME = "batch.kubernetes.io/job-name"  # the Job controller's own label on pods
COMPLETION_INDEX = "batch.kubernetes.io/job-completion-index"
NAME, MANAGED_BY = "app.kubernetes.io/name", "app.kubernetes.io/managed-by"
# Longer than the drain: a kill in the middle of the last save would waste it.
GRACE_SECONDS = 120
# Once a pod is to go, routers hear of it while it still answers; only then is it told.
BEFORE_STOP_SECONDS = 3
PROBE_SECONDS, PROBES_UNTIL_DEAD = 5, 6
START_SECONDS = 3600
# use1-az1: AWS's zone ids mean the same place in every account. Other clouds and on-premises have names only.
ZONE_ID = re.compile(r"[a-z]{2,6}\d+-[a-z]{2,4}\d+(-\w+)?")
# What node pools of spot machines are commonly tainted with: Karpenter's custom (its label as a taint), GKE, AKS.
SPOT_TAINTS = ("karpenter.sh/capacity-type", "cloud.google.com/gke-spot", "kubernetes.azure.com/scalesetpriority")


def selector(program: Program) -> str:
    """What finds the objects of one program, and no other's."""
    return f"{MANAGED_BY}={program.managed_by}"


def job(pod: Pod, settings: Settings) -> Manifest:
    """The Job of a pod, fit for Pod Security `restricted`; indexed when it is a gang, whose members fail one by one:
    the others go on."""
    labels = _labels(pod, settings.program)
    gang = pod.machines > 1
    # Ignored: a pod that the node took counts for nothing, and what comes in its place is deleted.
    disrupted = "FailIndex" if gang else "Ignore"
    spec: Manifest = {
        "backoffLimitPerIndex" if gang else "backoffLimit": 0,
        "completions": pod.machines,
        "parallelism": pod.machines,
        "completionMode": "Indexed" if gang else "NonIndexed",
        "suspend": bool(settings.kueue_queue),
        "ttlSecondsAfterFinished": 24 * 3600,
        # Never two pods of one attempt at a time, not even while the first still saves.
        "podReplacementPolicy": "Failed",
        "podFailurePolicy": {
            "rules": [
                {"action": "FailJob", "onExitCodes": {"operator": "In", "values": USER_EXIT_CODES}},
                {"action": disrupted, "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            ]
        },
        "template": {"metadata": {"labels": labels}, "spec": _pod_spec(pod, settings)},
    }
    if pod.lifetime_seconds is not None:
        spec["activeDeadlineSeconds"] = max(1, math.ceil(pod.lifetime_seconds))
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": pod.name, "labels": labels | _queue_labels(settings)},
        "spec": spec,
    }


def service(pod: Pod, program: Program, job_uid: str) -> Manifest:
    """The headless Service by which a gang's members find each other (JOB-0.JOB); it goes with its Job."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": pod.name,
            "labels": _labels(pod, program),
            "ownerReferences": [_owner(pod, job_uid)],
        },
        "spec": {
            "clusterIP": "None",
            # Members look for each other before they call themselves ready.
            "publishNotReadyAddresses": True,
            "selector": {JOB_NAME: pod.name},
            "ports": [{"name": "rendezvous", "port": MASTER_PORT}],
        },
    }


def disruption_budget(pod: Pod, program: Program, job_uid: str) -> Manifest:
    """Evictions leave so many pods of the same job_id ready. It goes with the last Job that owns it.

    `minAvailable` as a number is all that Kubernetes takes for pods without a Deployment.
    """
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {
            "name": budget_name(pod),
            "labels": {MANAGED_BY: program.managed_by, JOB_ID: pod.job_id, TENANT: pod.tenant_id},
            "ownerReferences": [_owner(pod, job_uid)],
        },
        "spec": {
            "minAvailable": pod.keep_ready,
            "selector": {"matchLabels": {MANAGED_BY: program.managed_by, JOB_ID: pod.job_id}},
            # A pod that does not answer holds up no drain.
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }


def budget_name(pod: Pod) -> str:
    return dns_label(pod.job_id)


def _owner(pod: Pod, job_uid: str) -> Manifest:
    return {"apiVersion": "batch/v1", "kind": "Job", "name": pod.name, "uid": job_uid}


def _labels(pod: Pod, program: Program) -> dict[str, str]:
    return {
        NAME: name_of(program),
        "app.kubernetes.io/instance": pod.name,
        "app.kubernetes.io/part-of": "sskai",
        MANAGED_BY: program.managed_by,
        JOB_ID: pod.job_id,
        ATTEMPT: str(pod.attempt),
        TENANT: pod.tenant_id,
    }


def name_of(program: Program) -> str:
    return f"sskai-{program.name}"


def _queue_labels(settings: Settings) -> dict[str, str]:
    if not settings.kueue_queue:
        return {}
    labels = {"kueue.x-k8s.io/queue-name": settings.kueue_queue}
    if settings.kueue_priority_class:
        labels["kueue.x-k8s.io/priority-class"] = settings.kueue_priority_class
    return labels


def _pod_spec(pod: Pod, settings: Settings) -> Manifest:
    placement = pod.placement
    spot = placement.capacity_type == events.CAPACITY_TYPE_SPOT
    volumes, mounts = _volumes(pod, settings)
    spec: Manifest = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "serviceAccountName": settings.service_account,
        "nodeSelector": _node_selector(placement, spot),
        "tolerations": [_tolerates(taint) for taint in ("nvidia.com/gpu", *(SPOT_TAINTS if spot else ()))],
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 10001,
            "fsGroup": 10001,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [
            {
                "name": settings.program.name,
                "image": settings.image,
                "command": ["python", "-m", settings.program.module],
                "env": _environment(pod, settings),
                "resources": _resources(placement, settings),
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                },
                "volumeMounts": mounts,
                **_answering(settings.program.port),
            }
        ],
        "volumes": volumes,
    }
    if settings.priority_class:
        spec["priorityClassName"] = settings.priority_class
    if pod.machines > 1:
        spec["subdomain"] = pod.name
        # Gradients that cross zones cost money and time. The first pod may go anywhere that the selector allows.
        spec["affinity"] = {
            "podAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": [
                    {
                        "labelSelector": {"matchLabels": {"app.kubernetes.io/instance": pod.name}},
                        "topologyKey": "topology.kubernetes.io/zone",
                    }
                ]
            }
        }
    return spec


def _answering(port: int | None) -> Manifest:
    """Of a container that answers requests."""
    if port is None:
        return {}
    return {
        "ports": [{"name": "http", "containerPort": port}],
        # Loading weights takes minutes, and is no illness: the other probes begin after it.
        "startupProbe": {
            "httpGet": {"path": "/healthz", "port": "http"},
            "periodSeconds": PROBE_SECONDS,
            "failureThreshold": START_SECONDS // PROBE_SECONDS,
        },
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": "http"}, "periodSeconds": PROBE_SECONDS},
        "livenessProbe": {
            "httpGet": {"path": "/healthz", "port": "http"},
            "periodSeconds": PROBE_SECONDS,
            "timeoutSeconds": PROBE_SECONDS,
            "failureThreshold": PROBES_UNTIL_DEAD,
        },
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", str(BEFORE_STOP_SECONDS)]}}},
    }


def _node_selector(placement: events.Placement, spot: bool) -> dict[str, str]:
    selector = {
        "node.kubernetes.io/instance-type": placement.instance_type,
        "karpenter.sh/capacity-type": "spot" if spot else "on-demand",
    }
    if placement.zone not in ("", "*"):
        by_id = ZONE_ID.fullmatch(placement.zone) is not None
        selector["topology.k8s.aws/zone-id" if by_id else "topology.kubernetes.io/zone"] = placement.zone
    return selector


def _tolerates(taint: str) -> dict[str, str]:
    return {"key": taint, "operator": "Exists", "effect": "NoSchedule"}


def _resources(placement: events.Placement, settings: Settings) -> Manifest:
    # A node keeps a part of itself for the kubelet and daemons; the rest is the pod's.
    memory, disk = f"{int(placement.memory_gib * 0.85 * 1024)}Mi", f"{settings.work_gib}Gi"
    requests = {"cpu": f"{max(1, round(placement.vcpus * 900))}m", "memory": memory, "ephemeral-storage": disk}
    limits = {"memory": memory}
    if placement.accelerator_count:
        limits["nvidia.com/gpu"] = str(placement.accelerator_count)
    return {"requests": requests, "limits": limits}


def _volumes(pod: Pod, settings: Settings) -> tuple[list[Manifest], list[Manifest]]:
    volumes: list[Manifest] = [{"name": "work", "emptyDir": {"sizeLimit": f"{settings.work_gib}Gi"}}]
    mounts: list[Manifest] = [{"name": "work", "mountPath": "/tmp"}]  # noqa: S108 (the container's own)
    if pod.machines > 1 or pod.placement.accelerator_count > 1:
        # NCCL's and the data loaders' shared memory: part of the pod's. A container runtime's own default is 64 MiB.
        volumes.append({"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": f"{settings.shm_gib}Gi"}})
        mounts.append({"name": "shm", "mountPath": "/dev/shm"})  # noqa: S108
    if settings.models_claim:
        volumes.append({"name": "models", "persistentVolumeClaim": {"claimName": settings.models_claim}})
        mounts.append({"name": "models", "mountPath": str(settings.models_dir)})
    return volumes, mounts


def _environment(pod: Pod, settings: Settings) -> list[Manifest]:
    values = PRELOADED | dict(pod.env) | {"SSKAI_MACHINE_ID": pod.name}
    by_reference = {name: f"sskai-secrets-{pod.tenant_id.replace('_', '-')}" for name in pod.secrets}
    for secret, names in (
        (settings.objects_secret, OBJECTS_SECRETS),
        (settings.kafka_secret, BROKER_SECRETS),
        (settings.kafka_ca_secret, (BROKER_CA,)),
    ):
        if secret:
            by_reference |= {name: secret for name in names if name in values}
    environment: list[Manifest] = []
    if settings.program.port is not None:
        prefix = settings.program.variables
        values[f"{prefix}_PORT"] = str(settings.program.port)
        environment.append({"name": f"{prefix}_HOST", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}})
    if pod.machines > 1:
        values |= {
            "WORLD_SIZE": str(pod.machines),
            "MASTER_ADDR": f"{pod.name}-0.{pod.name}",  # an indexed Job's pod 0 keeps this name
            "MASTER_PORT": str(MASTER_PORT),
        }
        values.pop("RANK", None)
        index = {"fieldRef": {"fieldPath": f"metadata.annotations['{COMPLETION_INDEX}']"}}
        environment.append({"name": "RANK", "valueFrom": index})
    environment += [{"name": name, "value": values[name]} for name in sorted(values) if name not in by_reference]
    # A job file's secret is a key of the tenant's Secret; a pod waits until it is there.
    return environment + [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": name}}}
        for name, secret in by_reference.items()
    ]
