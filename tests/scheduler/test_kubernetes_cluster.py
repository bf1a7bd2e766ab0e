"""The Kubernetes cluster: manifests are valid and restricted, and its calls speak the real API's words over HTTP."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import kubernetes_validate
import pytest
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from kubernetes import aio as k8s

from services.scheduler.cluster import ClusterUnavailableError, NoCapacityError, Pod, PodState
from services.scheduler.kubernetes_cluster import KubernetesCluster, manifest
from services.scheduler.settings import Settings
from sskai.local.processes import free_ports
from sskai.testing import wait_for
from tests.scheduler.examples import placement

POD = Pod("job_1", "tenant_a", 2, placement(), {"SSKAI_ATTEMPT": "2"}, secrets=("HF_TOKEN",))


def test_the_manifest_is_valid_strictly() -> None:
    kubernetes_validate.validate(manifest(POD, Settings()), "1.34", strict=True)


def test_the_pod_fits_the_restricted_profile_and_the_plan() -> None:
    job = manifest(POD, Settings(kueue_queue="team-a"))
    spec = job["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert not container["securityContext"]["allowPrivilegeEscalation"]
    assert not spec["automountServiceAccountToken"]
    assert spec["nodeSelector"] == {
        "node.kubernetes.io/instance-type": "g5.xlarge",
        "karpenter.sh/capacity-type": "spot",
        "topology.k8s.aws/zone-id": "use1-az1",
    }
    assert spec["terminationGracePeriodSeconds"] > 60, "longer than the drain"
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "team-a"
    assert job["spec"]["suspend"] is True
    assert {"name": "LD_PRELOAD", "value": "libtcmalloc_minimal.so.4"} in container["env"]
    (secret,) = [one for one in container["env"] if one["name"] == "HF_TOKEN"]
    assert secret["valueFrom"] == {"secretKeyRef": {"name": "sskai-secrets-tenant-a", "key": "HF_TOKEN"}}
    assert job["spec"]["backoffLimit"] == 0, "the scheduler restarts, Kubernetes does not"


class ApiServer:
    """The few routes of the Kubernetes API that the cluster uses, with a store in a dict."""

    def __init__(self) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self.pods: dict[str, dict[str, Any]] = {}
        self.deleted_pods: list[tuple[str, int]] = []
        self.refuse: JSONResponse | None = None
        self.app = FastAPI()
        self.app.middleware("http")(self._refuse)
        jobs, pods = "/apis/batch/v1/namespaces/{namespace}/jobs", "/api/v1/namespaces/{namespace}/pods"
        self.app.post(jobs)(self.create)
        self.app.get(jobs)(self.list_jobs)
        self.app.get(jobs + "/{name}")(self.read)
        self.app.delete(jobs + "/{name}")(self.delete_job)
        self.app.get(pods)(self.list_pods)
        self.app.delete(pods + "/{name}")(self.delete_pod)

    async def _refuse(self, request: Request, call_next: Any) -> Any:
        return self.refuse or await call_next(request)

    async def create(self, request: Request) -> JSONResponse:
        job = await request.json()
        name = job["metadata"]["name"]
        if name in self.jobs:
            return _status(409, "AlreadyExists")
        job["metadata"]["creationTimestamp"] = datetime.now(UTC).isoformat()
        job["status"] = {}
        self.jobs[name] = job
        labels = job["spec"]["template"]["metadata"]["labels"] | {"batch.kubernetes.io/job-name": name}
        self.pods[f"{name}-abcde"] = {"metadata": {"name": f"{name}-abcde", "labels": labels}, "status": {}}
        return JSONResponse(job, 201)

    async def read(self, name: str) -> JSONResponse:
        return JSONResponse(self.jobs[name]) if name in self.jobs else _status(404, "NotFound")

    async def list_jobs(self) -> dict[str, Any]:
        return {"kind": "JobList", "apiVersion": "batch/v1", "metadata": {}, "items": list(self.jobs.values())}

    async def delete_job(self, name: str) -> JSONResponse:
        return JSONResponse({"kind": "Status"}) if self.jobs.pop(name, None) else _status(404, "NotFound")

    async def list_pods(self, labelSelector: str) -> dict[str, Any]:
        key, _, value = labelSelector.partition("=")
        found = [copy.deepcopy(pod) for pod in self.pods.values() if pod["metadata"]["labels"].get(key) == value]
        return {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": found}

    async def delete_pod(self, name: str, request: Request) -> JSONResponse:
        grace = request.query_params.get("gracePeriodSeconds") or (await request.json()).get("gracePeriodSeconds")
        self.deleted_pods.append((name, int(grace)))
        return JSONResponse(self.pods[name])

    def end(self, name: str, kind: str, exit_code: int | None) -> None:
        """The Job controller's and the kubelet's word."""
        at = datetime.now(UTC).isoformat()
        self.jobs[name]["status"] = {"conditions": [{"type": kind, "status": "True", "lastTransitionTime": at}]}
        if exit_code is None:
            del self.pods[f"{name}-abcde"]
        else:
            state = {"terminated": {"exitCode": exit_code}}
            container = {
                "name": "trainer",
                "ready": False,
                "restartCount": 0,
                "image": "i",
                "imageID": "i",
                "state": state,
            }
            self.pods[f"{name}-abcde"]["status"] = {"containerStatuses": [container]}


def _status(code: int, reason: str) -> JSONResponse:
    return JSONResponse({"kind": "Status", "status": "Failure", "reason": reason, "code": code}, code)


@pytest.fixture
async def api() -> AsyncIterator[tuple[ApiServer, KubernetesCluster]]:
    server_side = ApiServer()
    (port,) = free_ports(1)
    server = uvicorn.Server(uvicorn.Config(server_side.app, port=port, log_level="error"))
    task = asyncio.create_task(server.serve())
    await wait_for(lambda: server.started)
    configuration = k8s.client.Configuration(host=f"http://127.0.0.1:{port}")
    client = k8s.client.ApiClient(configuration)
    yield server_side, KubernetesCluster(client, Settings())
    await client.close()
    server.should_exit = True
    await task


async def test_launching_the_same_attempt_twice_makes_one_job(api: tuple[ApiServer, KubernetesCluster]) -> None:
    server, cluster = api
    first, second = await cluster.launch(POD), await cluster.launch(POD)
    assert first.machine_id == second.machine_id == "job-1-2"
    assert len(server.jobs) == 1


@pytest.mark.parametrize(
    ("condition", "exit_code", "state"),
    [
        ("Complete", 0, PodState.EXITED),
        ("Failed", 75, PodState.EXITED),
        ("Failed", None, PodState.GONE),
    ],
)
async def test_what_the_cluster_says_of_a_pod(
    api: tuple[ApiServer, KubernetesCluster], condition: str, exit_code: int | None, state: PodState
) -> None:
    server, cluster = api
    await cluster.launch(POD)
    (running,) = await cluster.observe()
    assert (running.job_id, running.attempt, running.state) == ("job_1", 2, PodState.RUNNING)
    server.end("job-1-2", condition, exit_code)
    (ended,) = await cluster.observe()
    assert (ended.state, ended.exit_code) == (state, exit_code)
    await cluster.delete("job-1-2")
    await cluster.delete("job-1-2")
    assert await cluster.observe() == []


async def test_a_drain_leaves_the_pod_its_grace(api: tuple[ApiServer, KubernetesCluster]) -> None:
    server, cluster = api
    await cluster.launch(POD)
    await cluster.drain("job-1-2")
    assert server.deleted_pods == [("job-1-2-abcde", 120)]


async def test_foreign_words_stop_at_the_door(api: tuple[ApiServer, KubernetesCluster]) -> None:
    server, cluster = api
    server.refuse = JSONResponse({"kind": "Status", "message": "exceeded quota: team-a"}, 403)
    with pytest.raises(NoCapacityError, match="quota"):
        await cluster.launch(POD)
    server.refuse = _status(500, "InternalError")
    with pytest.raises(ClusterUnavailableError, match="500"):
        await cluster.observe()


async def test_an_api_that_is_away_says_nothing_about_pods() -> None:
    client = k8s.client.ApiClient(k8s.client.Configuration(host="http://127.0.0.1:1"))
    with pytest.raises(ClusterUnavailableError):
        await KubernetesCluster(client, Settings()).observe()
    await client.close()
