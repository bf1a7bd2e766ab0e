"""What is asked of Kubernetes is valid, restricted, and says what the plan says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import kubernetes_validate
import pytest

import services.inference.settings
from services.scheduler.settings import Settings
from sskai.cluster import Pod
from sskai.cluster.kubernetes_manifests import disruption_budget, job, selector, service
from tests.scheduler.examples import placement

KEYS = {"SSKAI_OBJECTS_ACCESS_KEY": "key", "SSKAI_OBJECTS_SECRET_KEY": "s3cret"}
POD = Pod("job_1", "tenant_a", 2, placement(), {"SSKAI_ATTEMPT": "2", "RANK": "7"} | KEYS, secrets=("HF_TOKEN",))
GANG = replace(POD, machines=4, lifetime_seconds=3600.5)
EVERYTHING = Settings(
    kueue_queue="team-a",
    kueue_priority_class="nightly",
    priority_class="low",
    objects_secret="sskai-objects",
    models_claim="models",
    work_gib=200,
    shm_gib=8,
)


def spec_of(pod: Pod, settings: Settings) -> dict[str, Any]:
    spec: dict[str, Any] = job(pod, settings)["spec"]["template"]["spec"]
    return spec


def environment(pod: Pod, settings: Settings) -> dict[str, Any]:
    (container,) = spec_of(pod, settings)["containers"]
    names = [one["name"] for one in container["env"]]
    assert len(names) == len(set(names))
    return {one["name"]: one.get("value", one.get("valueFrom")) for one in container["env"]}


@pytest.mark.parametrize("settings", [Settings(), EVERYTHING])
@pytest.mark.parametrize("pod", [POD, GANG])
def test_manifests_are_valid_strictly(pod: Pod, settings: Settings) -> None:
    kubernetes_validate.validate(job(pod, settings), "1.34", strict=True)
    kubernetes_validate.validate(service(pod, Settings.program, "uid-1"), "1.34", strict=True)


@pytest.mark.parametrize("pod", [POD, GANG])
def test_pods_fit_the_restricted_profile(pod: Pod) -> None:
    spec = spec_of(pod, EVERYTHING)
    (container,) = spec["containers"]
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert not container["securityContext"]["allowPrivilegeEscalation"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert not spec["automountServiceAccountToken"]
    assert all("hostPath" not in volume for volume in spec["volumes"])
    assert spec["terminationGracePeriodSeconds"] > 60, "longer than the drain"


def test_the_scheduler_restarts_and_kubernetes_does_not() -> None:
    spec = job(POD, Settings())["spec"]
    assert spec["backoffLimit"] == 0
    assert spec["podReplacementPolicy"] == "Failed"
    actions = [rule["action"] for rule in spec["podFailurePolicy"]["rules"]]
    assert actions == ["FailJob", "Ignore"]
    assert "activeDeadlineSeconds" not in spec
    assert job(GANG, Settings())["spec"]["activeDeadlineSeconds"] == 3601


def test_a_gangs_members_fail_one_by_one() -> None:
    spec = job(GANG, Settings())["spec"]
    assert spec["backoffLimitPerIndex"] == 0
    assert "backoffLimit" not in spec, "the Job would fail with the first of them"
    assert [rule["action"] for rule in spec["podFailurePolicy"]["rules"]] == ["FailJob", "FailIndex"]


def test_a_pod_goes_where_the_plan_says() -> None:
    spec = spec_of(POD, Settings())
    assert spec["nodeSelector"] == {
        "node.kubernetes.io/instance-type": "g5.xlarge",
        "karpenter.sh/capacity-type": "spot",
        "topology.k8s.aws/zone-id": "use1-az1",
    }
    assert "cloud.google.com/gke-spot" in [one["key"] for one in spec["tolerations"]]
    named = spec_of(replace(POD, placement=placement(zone="europe-west4-a")), Settings())
    assert named["nodeSelector"]["topology.kubernetes.io/zone"] == "europe-west4-a"
    anywhere = spec_of(replace(POD, placement=placement(spot=False, zone="*")), Settings())
    assert anywhere["nodeSelector"] == {
        "node.kubernetes.io/instance-type": "g5.xlarge",
        "karpenter.sh/capacity-type": "on-demand",
    }
    assert [one["key"] for one in anywhere["tolerations"]] == ["nvidia.com/gpu"]


def test_a_pod_asks_for_what_the_plan_counted_on() -> None:
    where = placement()
    where.accelerator_count = 4
    spec = spec_of(replace(POD, placement=where), EVERYTHING)
    (container,) = spec["containers"]
    assert container["resources"] == {
        "requests": {"cpu": "3600m", "memory": "13926Mi", "ephemeral-storage": "200Gi"},
        "limits": {"memory": "13926Mi", "nvidia.com/gpu": "4"},
    }
    mounts = {one["mountPath"]: one["name"] for one in container["volumeMounts"]}
    assert mounts == {"/tmp": "work", "/dev/shm": "shm", "/var/cache/sskai/models": "models"}
    volumes = {one["name"]: one for one in spec["volumes"]}
    assert volumes["shm"]["emptyDir"] == {"medium": "Memory", "sizeLimit": "8Gi"}
    assert volumes["work"]["emptyDir"] == {"sizeLimit": "200Gi"}
    assert volumes["models"]["persistentVolumeClaim"] == {"claimName": "models"}
    assert "shm" not in [one["name"] for one in spec_of(POD, Settings())["volumes"]], "one accelerator shares nothing"


def test_secrets_are_references() -> None:
    told = environment(POD, EVERYTHING)
    assert told["HF_TOKEN"] == {"secretKeyRef": {"name": "sskai-secrets-tenant-a", "key": "HF_TOKEN"}}
    assert told["SSKAI_OBJECTS_SECRET_KEY"] == {
        "secretKeyRef": {"name": "sskai-objects", "key": "SSKAI_OBJECTS_SECRET_KEY"}
    }
    assert "s3cret" not in str(job(POD, EVERYTHING))
    assert told["LD_PRELOAD"] == "libtcmalloc_minimal.so.4"
    assert told["SSKAI_MACHINE_ID"] == "job-1-2"


def test_a_gangs_members_know_each_other() -> None:
    spec = job(GANG, Settings())["spec"]
    assert (spec["completions"], spec["parallelism"], spec["completionMode"]) == (4, 4, "Indexed")
    told = environment(GANG, Settings())
    assert (told["WORLD_SIZE"], told["MASTER_ADDR"], told["MASTER_PORT"]) == ("4", "job-1-2-0.job-1-2", "29500")
    index = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
    assert told["RANK"] == {"fieldRef": {"fieldPath": index}}
    pod = spec["template"]["spec"]
    assert pod["subdomain"] == service(GANG, Settings.program, "uid-1")["metadata"]["name"]
    (term,) = pod["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert term["topologyKey"] == "topology.kubernetes.io/zone"
    assert term["labelSelector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()
    found = service(GANG, Settings.program, "uid-1")["spec"]
    assert (found["clusterIP"], found["publishNotReadyAddresses"]) == ("None", True)


def test_a_single_pod_is_no_gang() -> None:
    assert job(POD, Settings())["spec"]["completionMode"] == "NonIndexed"
    told = environment(POD, Settings())
    assert "WORLD_SIZE" not in told
    assert told["RANK"] == "7", "what the user set stands"


def test_kueue_admits_where_it_is_used() -> None:
    queued = job(POD, EVERYTHING)
    assert queued["spec"]["suspend"] is True
    assert queued["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team-a"
    assert queued["metadata"]["labels"]["kueue.x-k8s.io/priority-class"] == "nightly"
    assert spec_of(POD, EVERYTHING)["priorityClassName"] == "low"
    assert job(POD, Settings())["spec"]["suspend"] is False


REPLICA = Pod("endpoint_1", "tenant_a", 3, placement(), {"SSKAI_REPLICA_ID": "endpoint_1-3"}, keep_ready=2)
OF_REPLICAS = services.inference.settings.Settings()


def test_a_replica_is_probed_and_told_where_it_answers() -> None:
    manifest = job(REPLICA, OF_REPLICAS)
    kubernetes_validate.validate(manifest, "1.34", strict=True)
    (container,) = manifest["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["python", "-m", "services.inference.replica"]
    assert (container["name"], container["image"]) == ("replica", "sskai/inference:0.1.0")
    assert container["ports"] == [{"name": "http", "containerPort": 8080}]
    paths = {name: container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "readiness", "liveness")}
    assert paths == {"startup": "/healthz", "readiness": "/readyz", "liveness": "/healthz"}
    start = container["startupProbe"]
    assert start["periodSeconds"] * start["failureThreshold"] > OF_REPLICAS.replica_start_seconds, "ours decides first"
    told = {one["name"]: one for one in container["env"]}
    assert told["SSKAI_REPLICA_PORT"]["value"] == "8080"
    assert told["SSKAI_REPLICA_HOST"]["valueFrom"]["fieldRef"]["fieldPath"] == "status.podIP"
    assert manifest["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] >= OF_REPLICAS.replica_drain_seconds
    assert "preStop" in container["lifecycle"]


def test_a_trainer_answers_nobody() -> None:
    (container,) = spec_of(POD, Settings())["containers"]
    assert not {"ports", "readinessProbe", "livenessProbe", "startupProbe", "lifecycle"} & container.keys()


def test_evictions_leave_so_many_replicas_of_an_endpoint() -> None:
    program = OF_REPLICAS.program
    budget = disruption_budget(REPLICA, program, "uid-1")
    kubernetes_validate.validate(budget, "1.34", strict=True)
    assert budget["spec"]["minAvailable"] == 2
    labels = job(REPLICA, OF_REPLICAS)["spec"]["template"]["metadata"]["labels"]
    assert budget["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert budget["metadata"]["ownerReferences"][0]["uid"] == "uid-1"
    other = disruption_budget(replace(REPLICA, attempt=4), program, "uid-2")
    assert other["metadata"]["name"] == budget["metadata"]["name"], "one for all of them"


def test_programs_do_not_see_each_other() -> None:
    for pod, settings in ((POD, Settings()), (REPLICA, OF_REPLICAS)):
        key, _, value = selector(settings.program).partition("=")
        assert job(pod, settings)["metadata"]["labels"][key] == value
    assert selector(Settings.program) != selector(OF_REPLICAS.program)
