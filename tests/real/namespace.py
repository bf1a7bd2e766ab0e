"""A namespace of the real Kubernetes as docs/operations.md asks for it, its nodes, and the hands of fate."""

from __future__ import annotations

import itertools
import re
import socket
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from kubernetes import aio as k8s

from sskai.cluster import kubernetes_manifests as manifests
from sskai.contract import new_id
from sskai.events import v1 as events
from sskai.local.processes import wait_until
from sskai.testing import wait_for
from tests.real.kubernetes import Kubernetes, Thing

DOCS = Path(__file__).parents[2] / "docs" / "operations.md"
FAIRNESS = "/apis/flowcontrol.apiserver.k8s.io/v1"
HOME = "sskai"  # the namespace of our services and their accounts
RESTRICTED = {
    "pod-security.kubernetes.io/enforce": "restricted",
    "pod-security.kubernetes.io/enforce-version": "latest",
}
# As Karpenter and EKS label a node of these types, and what it has to give.
TYPES = {"g5.xlarge": {"cpu": "4", "memory": "16Gi"}, "m5.large": {"cpu": "2", "memory": "8Gi"}}
HOW_LONG_SECONDS = 90.0  # after the API restarted, its own controllers ask again with growing pauses


def rules_of_the_docs() -> dict[str, list[Thing]]:
    """What docs/operations.md says that the services need, by the kind of the role."""
    section = DOCS.read_text().split("\n## Kubernetes\n")[1]
    text = re.search(r"```yaml\n(.*?)```", section, re.DOTALL)
    assert text is not None, "docs/operations.md has the rights of the services in a block of YAML"
    return {role["kind"]: role["rules"] for role in yaml.safe_load_all(text[1])}


class Namespace:
    """Of its own for each test: Pod Security restricted, an account with the rights of the docs and no others."""

    def __init__(self, plane: Kubernetes) -> None:
        self.plane = plane
        self.name = new_id("jobs").replace("_", "-")
        self.account = f"services-{self.name}"
        self._numbers = itertools.count(1)
        self._nodes: dict[str, Mapping[str, str]] = {}  # with the labels that pods select them by
        self._holding: list[ssl.SSLSocket] = []
        account_of_home = f"/api/v1/namespaces/{HOME}/serviceaccounts"
        if plane.admin.get(f"/api/v1/namespaces/{HOME}").status_code == 404:
            plane.create("/api/v1/namespaces", {"metadata": {"name": HOME}})
        plane.create("/api/v1/namespaces", {"metadata": {"name": self.name, "labels": RESTRICTED}})
        plane.create(f"{self.path()}/serviceaccounts", {"metadata": {"name": "sskai-trainer"}})
        plane.create(account_of_home, {"metadata": {"name": self.account}})
        for kind, rules in rules_of_the_docs().items():
            self._bind(kind, rules)
        asked: Thing = {"spec": {"expirationSeconds": 7200}}
        self.token = plane.create(f"{account_of_home}/{self.account}/token", asked)["status"]["token"]

    def _bind(self, kind: str, rules: list[Thing]) -> None:
        where = "/apis/rbac.authorization.k8s.io/v1"
        if kind == "Role":
            where += f"/namespaces/{self.name}"
        subject = {"kind": "ServiceAccount", "name": self.account, "namespace": HOME}
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": self.name}
        self.plane.create(f"{where}/{kind.lower()}s", {"metadata": {"name": self.name}, "rules": rules})
        self.plane.create(
            f"{where}/{kind.lower()}bindings",
            {"metadata": {"name": self.name}, "roleRef": role, "subjects": [subject]},
        )

    def client(self, url: str = "") -> Any:
        """The official client, as this account; `url`: another way to the API."""
        configuration = k8s.client.Configuration(host=url or self.plane.url)
        configuration.ssl_ca_cert = str(self.plane.ca)
        configuration.api_key = {"authorization": self.token}
        configuration.api_key_prefix = {"authorization": "Bearer"}
        return k8s.client.ApiClient(configuration)

    def path(self, api: str = "/api/v1") -> str:
        return f"{api}/namespaces/{self.name}"

    # Nodes.

    def add_node(self, where: events.Placement) -> str:
        """A machine that Karpenter would have ordered for this placement."""
        spot = where.capacity_type == events.CAPACITY_TYPE_SPOT
        return self._add_node(
            {
                "node.kubernetes.io/instance-type": where.instance_type,
                "karpenter.sh/capacity-type": "spot" if spot else "on-demand",
                "topology.k8s.aws/zone-id": where.zone,
            }
        )

    def _add_node(self, selected_by: Mapping[str, str]) -> str:
        name = f"{self.name}-{next(self._numbers)}"
        zone_id = selected_by["topology.k8s.aws/zone-id"]
        labels = {
            "topology.kubernetes.io/zone": f"us-east-1-{zone_id[-1]}",
            "topology.kubernetes.io/region": "us-east-1",
            "kubernetes.io/arch": "amd64",
            "kubernetes.io/os": "linux",
        }
        has = {**TYPES[selected_by["node.kubernetes.io/instance-type"]], "ephemeral-storage": "100Gi", "pods": "58"}
        node = {
            "metadata": {"name": name, "labels": {**labels, **selected_by}},
            "status": {"allocatable": has, "capacity": has},
        }
        self.plane.create("/api/v1/nodes", node)
        self._nodes[name] = selected_by
        return name

    def add_nodes_for_waiting_pods(self) -> None:
        """As Karpenter does: a node for each pod that has none and that no free one is there for."""
        pods = [one for one in self.pods() if one["status"].get("phase") in ("Pending", "Running")]
        taken = {one["spec"].get("nodeName") for one in pods}
        free = [selected_by for name, selected_by in self._nodes.items() if name not in taken]
        for pod in pods:
            wanted = pod["spec"]["nodeSelector"]
            if pod["spec"].get("nodeName"):
                continue
            if wanted in free:
                free.remove(wanted)
            else:
                self._add_node(wanted)

    def taint(self, node: str, key: str, effect: str = "NoSchedule") -> None:
        self.plane.patch(f"/api/v1/nodes/{node}", {"spec": {"taints": [{"key": key, "effect": effect}]}})

    def remove_node(self, node: str) -> None:
        """The machine is no more, and its cloud says so."""
        self.plane.delete(f"/api/v1/nodes/{node}")
        self._nodes.pop(node, None)

    # Jobs and pods.

    def jobs(self) -> list[Thing]:
        return self.plane.items(f"{self.path('/apis/batch/v1')}/jobs")

    def pods(self, job: str = "") -> list[Thing]:
        """Of this Job, or all."""
        selector = {"labelSelector": f"{manifests.JOB_NAME}={job}"} if job else {}
        return self.plane.items(f"{self.path()}/pods", **selector)

    async def pod(self, job: str, rank: int = 0) -> Thing:
        """The member's pod, once there is one."""

        def there() -> Thing | None:
            return next((one for one in self.pods(job) if _rank(one) == rank), None)

        found: Thing | None = await wait_for(there, limit_seconds=HOW_LONG_SECONDS)
        assert found is not None
        return found

    async def running(self, job: str) -> list[Thing]:
        """The Job's pods, once each of them runs."""
        members = self.plane.get(f"{self.path('/apis/batch/v1')}/jobs/{job}")["spec"]["parallelism"]

        def run() -> list[Thing]:
            pods = [one for one in self.pods(job) if one["status"].get("phase") == "Running"]
            return pods if len(pods) == members else []

        return await wait_for(run, limit_seconds=HOW_LONG_SECONDS)

    def standing(self) -> int:
        """Pods that cost something now: on a machine that is there, or on their way to one."""
        nodes = {one["metadata"]["name"] for one in self.plane.items("/api/v1/nodes")}
        alive = [one for one in self.pods() if one["status"].get("phase") in ("Pending", "Running")]
        return len([one for one in alive if one["spec"].get("nodeName") in {None, *nodes}])

    def end(self, pod: Thing, code: int, *, reason: str = "") -> None:
        """As its kubelet tells it: the container exited; a pod that was deleted is now gone."""
        at = f"{self.path()}/pods/{pod['metadata']['name']}"
        [container] = pod["spec"]["containers"]
        ended = {"exitCode": code, "reason": reason or ("Error" if code else "Completed"), "finishedAt": _now()}
        told = {
            "name": container["name"],
            "image": container["image"],
            "imageID": "",
            "ready": False,
            "restartCount": 0,
        }
        status: Thing = {
            "phase": "Failed" if code else "Succeeded",
            "containerStatuses": [told | {"state": {"terminated": ended, "running": None}}],
        }
        self.plane.patch(f"{at}/status", {"status": status})
        if self.plane.get(at)["metadata"].get("deletionTimestamp"):
            self.plane.delete(at, grace_seconds=0)

    def evict(self, pod: Thing) -> None:
        """By the eviction API, as whoever drains a node does it."""
        name = pod["metadata"]["name"]
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": self.name}}
        self.plane.create(f"{self.path()}/pods/{name}/eviction", eviction)

    def limit_jobs(self, count: int) -> None:
        """A quota: so many Jobs and no more."""
        quota = {"metadata": {"name": "team-a"}, "spec": {"hard": {"count/jobs.batch": str(count)}}}
        self.plane.create(f"{self.path()}/resourcequotas", quota)
        at = f"{self.path()}/resourcequotas/team-a"
        assert wait_until(lambda: "hard" in self.plane.get(at).get("status", {}), HOW_LONG_SECONDS)

    def throttle(self) -> None:
        """By priority and fairness: the account has a level of its own, and its only seat is taken for up to a minute
        by a request whose body does not come. Everything else that the account asks is answered with 429."""
        limited = {
            "nominalConcurrencyShares": 0,
            "lendablePercent": 0,
            "borrowingLimitPercent": 0,
            "limitResponse": {"type": "Reject"},
        }
        account = {"kind": "ServiceAccount", "serviceAccount": {"name": self.account, "namespace": HOME}}
        everything = {
            "verbs": ["*"],
            "apiGroups": ["*"],
            "resources": ["*"],
            "namespaces": ["*"],
            "clusterScope": True,
        }
        schema = {
            "matchingPrecedence": 100,
            "priorityLevelConfiguration": {"name": self.name},
            "rules": [{"subjects": [account], "resourceRules": [everything]}],
        }
        level = {"type": "Limited", "limited": limited}
        for kind, spec in (("prioritylevelconfigurations", level), ("flowschemas", schema)):
            self.plane.create(f"{FAIRNESS}/{kind}", {"metadata": {"name": self.name}, "spec": spec})
        with self.plane.client(self.token) as client:
            pods = f"{self.path()}/pods"
            assert wait_until(lambda: self._takes_the_seat() and client.get(pods).status_code == 429, HOW_LONG_SECONDS)

    def _takes_the_seat(self) -> bool:
        connection = ssl.create_default_context(cafile=str(self.plane.ca)).wrap_socket(
            socket.create_connection(("127.0.0.1", self.plane.port)), server_hostname="127.0.0.1"
        )
        self._holding.append(connection)
        head = (
            f"POST {self.path('/apis/batch/v1')}/jobs HTTP/1.1",
            "Host: 127.0.0.1",
            f"Authorization: Bearer {self.token}",
            "Content-Type: application/json",
            "Content-Length: 1000",
        )
        connection.sendall(("\r\n".join(head) + "\r\n\r\n").encode())
        return True

    def throttle_no_more(self) -> None:
        while self._holding:
            self._holding.pop().close()
        for kind in ("flowschemas", "prioritylevelconfigurations"):
            self.plane.delete(f"{FAIRNESS}/{kind}/{self.name}")

    def remove(self) -> None:
        """Everything, without waiting for graces."""
        self.plane.delete(f"{self.path('/apis/batch/v1')}/jobs")
        self.plane.delete(f"{self.path()}/pods", grace_seconds=0)
        self.plane.delete(f"/api/v1/namespaces/{self.name}")
        for node in [*self._nodes]:
            self.remove_node(node)
        self.throttle_no_more()
        for kind in ("clusterroles", "clusterrolebindings"):
            self.plane.delete(f"/apis/rbac.authorization.k8s.io/v1/{kind}/{self.name}")


def _rank(pod: Thing) -> int:
    return int((pod["metadata"].get("annotations") or {}).get(manifests.COMPLETION_INDEX, 0))


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
