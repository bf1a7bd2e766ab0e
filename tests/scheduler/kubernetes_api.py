"""A small API server of Kubernetes over real HTTP: versions, lists in pages, watches, and faults to inject.

Behind it, the parts of the Job controller and the kubelet that matter to us: pods are made for Jobs, an evicted pod is
replaced (podFailurePolicy: Ignore) or fails its index (FailIndex), a failed one fails its Job or its index, and what
belongs to a deleted Job goes with it.
"""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from kubernetes import aio as k8s

from sskai.local.processes import free_ports
from sskai.testing import wait_for

Thing = dict[str, Any]
KINDS = {"jobs": "batch/v1", "pods": "v1", "services": "v1", "nodes": "v1", "poddisruptionbudgets": "policy/v1"}


class KubernetesApi:
    def __init__(self) -> None:
        self._failed_indexes: dict[str, set[str]] = {}  # of Jobs with backoffLimitPerIndex 0
        self.things: dict[str, dict[str, Thing]] = {kind: {} for kind in KINDS}
        self.history: list[tuple[int, str, str, Thing]] = []  # version, kind, type, object
        self.forgotten = 0  # watches from before this version get 410
        self.requests: list[tuple[str, str, dict[str, str]]] = []  # method, path, query
        self.prints: dict[str, list[tuple[str, str]]] = {}  # by pod: when, and what
        self.terminated: list[tuple[str, int]] = []  # pods that were sent SIGTERM, with their grace
        self.refusals: dict[tuple[str, str], list[Response]] = {}  # by method and kind, one for each request
        self.cuts = 0  # watches to cut in the middle of a line
        self.bookmarks = False
        self._versions, self._uids = count(100), count(1)
        self._port = free_ports(1)[0]
        self._server: uvicorn.Server | None = None
        self._task: asyncio.Task[None] | None = None

    # The server.

    async def start(self) -> None:
        app = FastAPI()
        app.add_api_route("/{path:path}", self._serve, methods=["GET", "POST", "PATCH", "DELETE"])
        self._server = uvicorn.Server(
            uvicorn.Config(app, port=self._port, log_level="critical", timeout_graceful_shutdown=1)
        )
        self._task = asyncio.create_task(self._server.serve())
        await wait_for(lambda: self._server.started)

    async def stop(self) -> None:
        assert self._server is not None
        assert self._task is not None
        self._server.should_exit = self._server.force_exit = True
        await self._task

    def client(self) -> Any:
        return k8s.client.ApiClient(k8s.client.Configuration(host=f"http://127.0.0.1:{self._port}"))

    def refuse(self, method: str, kind: str, status: int, message: str = "", *, retry_after: str = "") -> None:
        """Answer the next request of this method and kind so."""
        headers = {"Retry-After": retry_after} if retry_after else {}
        answer = JSONResponse({"kind": "Status", "code": status, "message": message}, status, headers)
        self.refusals.setdefault((method, kind), []).append(answer)

    def forget_history(self) -> None:
        """As etcd's compaction: watches go on only from now."""
        self.forgotten = next(self._versions)
        self.history.clear()

    async def _serve(self, path: str, request: Request) -> Response:
        parts = path.split("/")
        at = next(index for index, part in enumerate(parts) if part in KINDS)
        kind, name = parts[at], parts[at + 1] if len(parts) > at + 1 else ""
        query = dict(request.query_params)
        self.requests.append(("WATCH" if "watch" in query else request.method, kind, query))
        waiting = self.refusals.get(("WATCH" if "watch" in query else request.method, kind))
        if waiting:
            return waiting.pop(0)
        if request.method == "POST":
            return self._create(kind, await request.json())
        if path.endswith("/log"):
            return self._log(name, query)
        if request.method == "GET" and not name:
            return self._watch(kind, query) if "watch" in query else self._list(kind, query)
        if name not in self.things[kind]:
            return _status(404, "not found")
        if request.method == "PATCH":
            self.change(kind, name, await request.json())
        elif request.method == "DELETE":
            grace = query.get("gracePeriodSeconds")
            last = copy.deepcopy(self.things[kind][name])
            self._delete(kind, name, 30 if grace is None else int(grace))
            return JSONResponse(last if kind == "pods" else {"kind": "Status", "status": "Success"})
        return JSONResponse(self.things[kind][name])

    def _log(self, pod: str, query: dict[str, str]) -> Response:
        """As the kubelet reads it: timestamps, the last lines or those of so many seconds, up to a limit of bytes."""
        if pod not in self.things["pods"]:
            return _status(404, "not found")
        if self.things["pods"][pod]["status"]["phase"] == "Pending":
            return _status(400, f"container {query['container']} in pod {pod} is waiting to start")
        lines = self.prints.get(pod, [])
        if "tailLines" in query:
            lines = lines[-int(query["tailLines"]) :]
        if "sinceSeconds" in query:
            begin = datetime.now(UTC) - timedelta(seconds=int(query["sinceSeconds"]))
            lines = [line for line in lines if datetime.fromisoformat(line[0]) >= begin]
        text = "".join(f"{at} {said}\n" for at, said in lines)
        return Response(text[: int(query["limitBytes"])], media_type="text/plain")

    def print(self, pod: str, *lines: str, at: str = "") -> None:
        """The container printed these; `at`: all in one moment."""
        for line in lines:
            moment = at or datetime.now(UTC).isoformat().replace("+00:00", "789Z")
            self.prints.setdefault(pod, []).append((moment, line))

    def _create(self, kind: str, thing: Thing) -> Response:
        if thing["metadata"]["name"] in self.things[kind]:
            return _status(409, "already exists")
        thing = self.add(kind, thing)
        if kind == "jobs":
            thing["status"]["startTime"] = _now()
            self._make_pods(thing)
        return JSONResponse(thing, 201)

    def _list(self, kind: str, query: dict[str, str]) -> Response:
        found = [one for one in self.things[kind].values() if _selected(one, query)]
        begin = int(query.get("continue") or 0)
        end = begin + int(query.get("limit") or 500)
        metadata = {"resourceVersion": str(next(self._versions)), "continue": str(end) if end < len(found) else ""}
        answer = {"kind": "List", "apiVersion": KINDS[kind], "metadata": metadata, "items": found[begin:end]}
        return JSONResponse(answer)

    def _watch(self, kind: str, query: dict[str, str]) -> Response:
        version = int(query["resourceVersion"])
        if version < self.forgotten:
            return _status(410, "too old resource version")

        async def events() -> AsyncIterator[str]:
            told = version
            ends = asyncio.get_running_loop().time() + float(query["timeoutSeconds"])
            while asyncio.get_running_loop().time() < ends and not self._server.should_exit:
                if told < self.forgotten:
                    yield json.dumps({"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "gone"}})
                    return
                for at, of, word, thing in list(self.history):
                    if at > told and of == kind and _selected(thing, query):
                        line = json.dumps({"type": word, "object": thing}) + "\n"
                        if self.cuts:
                            self.cuts -= 1
                            yield line[: len(line) // 2]
                            raise ConnectionResetError("cut")
                        yield line
                    told = max(told, at)
                if self.bookmarks:
                    told = next(self._versions)
                    bookmark = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": str(told)}}}
                    yield json.dumps(bookmark) + "\n"
                await asyncio.sleep(0.01)

        return StreamingResponse(events(), media_type="application/json")

    # The store.

    def add(self, kind: str, thing: Thing) -> Thing:
        thing = {"apiVersion": KINDS[kind], **copy.deepcopy(thing)}
        thing.setdefault("status", {})
        thing["metadata"] |= {"uid": f"uid-{next(self._uids)}", "creationTimestamp": _now()}
        self.things[kind][thing["metadata"]["name"]] = thing
        self._tell("ADDED", kind, thing)
        return thing

    def change(self, kind: str, name: str, patch: Thing) -> None:
        _merge(self.things[kind][name], patch)
        self._tell("MODIFIED", kind, self.things[kind][name])

    def remove(self, kind: str, name: str) -> None:
        thing = self.things[kind].pop(name)
        self._tell("DELETED", kind, thing)

    def _tell(self, word: str, kind: str, thing: Thing) -> None:
        version = next(self._versions)
        thing["metadata"]["resourceVersion"] = str(version)
        self.history.append((version, kind, word, copy.deepcopy(thing)))

    # The Job controller, the scheduler and the kubelet.

    def pods_of(self, job: str) -> list[str]:
        label = "batch.kubernetes.io/job-name"
        return [name for name, pod in self.things["pods"].items() if pod["metadata"]["labels"].get(label) == job]

    def _make_pods(self, job: Thing) -> None:
        if not job["spec"].get("suspend"):
            for index in range(job["spec"]["parallelism"]):
                self._make_pod(job, index)

    def _make_pod(self, job: Thing, index: int) -> None:
        name, template = job["metadata"]["name"], job["spec"]["template"]
        own = {"batch.kubernetes.io/job-name": name, "batch.kubernetes.io/controller-uid": job["metadata"]["uid"]}
        metadata = {
            "name": f"{name}-{index}-{next(self._uids):05}",
            "labels": template["metadata"]["labels"] | own,
            "annotations": {"batch.kubernetes.io/job-completion-index": str(index)},
        }
        pod = {"kind": "Pod", "metadata": metadata, "spec": copy.deepcopy(template["spec"]), "status": {}}
        self.add("pods", pod | {"status": {"phase": "Pending"}})

    def schedule(self, pod: str, node: str) -> None:
        if node not in self.things["nodes"]:
            self.add("nodes", {"kind": "Node", "metadata": {"name": node}, "spec": {}})
        state = {"name": "trainer", "state": {"running": {"startedAt": _now()}}}
        status = {"phase": "Running", "containerStatuses": [state]}
        self.change("pods", pod, {"spec": {"nodeName": node}, "status": status})

    def wait_for_a_node(self, pod: str, message: str, *, seconds_ago: float = 0) -> None:
        since = (datetime.now(UTC) - timedelta(seconds=seconds_ago)).strftime("%Y-%m-%dT%H:%M:%SZ")
        waits = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
        self.change("pods", pod, {"status": {"conditions": [waits | {"lastTransitionTime": since}]}})

    def exit(self, pod: str, code: int, *, reason: str = "Error", evicted: bool = False) -> None:
        """The container ended; the kubelet tells it, and the Job controller acts on it."""
        ended = {"exitCode": code, "reason": reason, "finishedAt": _now()}
        state = {"name": "trainer", "state": {"terminated": ended}}
        conditions = [_disruption()] if evicted else []
        status = {"phase": "Failed" if code else "Succeeded", "containerStatuses": [state], "conditions": conditions}
        self.change("pods", pod, {"status": status})
        self._reconcile(pod, code, evicted)
        if "deletionTimestamp" in self.things["pods"].get(pod, {}).get("metadata", {}):
            self.remove("pods", pod)

    def evict(self, pod: str, grace_seconds: int = 60) -> None:
        """The node is drained: a notice, a SIGTERM."""
        at = (datetime.now(UTC) + timedelta(seconds=grace_seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
        self.change("pods", pod, {"metadata": {"deletionTimestamp": at}, "status": {"conditions": [_disruption()]}})

    def lose(self, pod: str) -> None:
        """The node is no more; the pod garbage collector removes the pod, and the Job controller makes another."""
        self.change("pods", pod, {"status": {"phase": "Failed", "conditions": [_disruption()]}})
        self.remove("pods", pod)
        self._reconcile(pod, None, True)

    def _reconcile(self, pod: str, code: int | None, evicted: bool) -> None:
        job_name, _, _ = pod.rpartition("-")
        job_name, _, index = job_name.rpartition("-")
        job = self.things["jobs"].get(job_name)
        if job is None:
            return
        by_index = "backoffLimitPerIndex" in job["spec"]
        users = code in (65, 71, 76, 78)
        if by_index and (evicted or code) and not users:
            self._failed_indexes.setdefault(job_name, set()).add(index)
        elif evicted and not users:
            if job["spec"]["parallelism"]:
                self._make_pod(job, int(index))
            return
        elif code:
            self._end(job_name, "Failed")
            for other in self.pods_of(job_name):
                if other != pod:
                    self._delete("pods", other, 120)
            return
        failed = self._failed_indexes.get(job_name, set())
        left = [one for one in self.pods_of(job_name) if one.split("-")[-2] not in failed]
        if all(_succeeded(self.things["pods"][one]) for one in left):
            self._end(job_name, "Failed" if failed else "Complete")

    def _end(self, job: str, word: str) -> None:
        condition = {"type": word, "status": "True", "lastTransitionTime": _now()}
        self.change("jobs", job, {"status": {"conditions": [condition]}})

    def _delete(self, kind: str, name: str, grace_seconds: int) -> None:
        if kind == "pods":
            self.terminated.append((name, grace_seconds))
            if grace_seconds <= 1:
                self.remove(kind, name)
            else:
                at = (datetime.now(UTC) + timedelta(seconds=grace_seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
                self.change(
                    kind, name, {"metadata": {"deletionTimestamp": at, "deletionGracePeriodSeconds": grace_seconds}}
                )
            return
        uid = self.things[kind][name]["metadata"]["uid"]
        self.remove(kind, name)
        if kind == "jobs":
            for pod in self.pods_of(name):
                self._delete("pods", pod, 120)
            for service in [*self.things["services"].values()]:
                if any(owner["uid"] == uid for owner in service["metadata"].get("ownerReferences", [])):
                    self.remove("services", service["metadata"]["name"])


def _succeeded(pod: Thing) -> bool:
    return bool(pod["status"].get("phase") == "Succeeded")


def _disruption() -> Thing:
    return {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "TerminationByKubelet",
        "lastTransitionTime": _now(),
    }


def _selected(thing: Thing, query: dict[str, str]) -> bool:
    if query.get("fieldSelector", "") not in ("", f"metadata.name={thing['metadata']['name']}"):
        return False
    selector = query.get("labelSelector")
    key, _, value = (selector or "").partition("=")
    return not selector or thing["metadata"].get("labels", {}).get(key) == value


def _merge(thing: Thing, patch: Thing) -> None:
    for key, value in patch.items():
        if isinstance(value, dict) and isinstance(thing.get(key), dict):
            _merge(thing[key], value)
        else:
            thing[key] = value


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _status(code: int, message: str) -> JSONResponse:
    return JSONResponse({"kind": "Status", "status": "Failure", "code": code, "message": message}, code)
