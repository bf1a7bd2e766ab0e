"""S18: who may speak to whom, as the chart's NetworkPolicies let them, is the table in the chart's README."""

from __future__ import annotations

import ipaddress
import json
import re
from typing import Any

import pytest
import yaml

from sskai.database import SERVICES
from tests.real import charts
from tests.real.charts import CHART, NAMESPACE, VALUES

pytestmark = pytest.mark.real

Edge = tuple[str, str, str]  # from, to, port
METADATA = ipaddress.ip_address("169.254.169.254")
JOBS = "sskai-jobs"
OURS: dict[str, tuple[str, dict[str, str]]] = {
    service: (
        NAMESPACE,
        {
            "app.kubernetes.io/name": "sskai",
            "app.kubernetes.io/instance": "sskai",
            "app.kubernetes.io/component": service,
        },
    )
    for service in (*SERVICES, "migrations", "topics")
}
OURS["trainer pods"] = (JOBS, {"app.kubernetes.io/name": "sskai-trainer"})
OURS["replicas"] = (JOBS, {"app.kubernetes.io/name": "sskai-replica"})


def key(peer: dict[str, Any]) -> str:
    return json.dumps(peer, sort_keys=True)


def matches(selector: dict[str, Any] | None, labels: dict[str, str]) -> bool:
    assert not (selector or {}).get("matchExpressions"), "this test reads matchLabels alone"
    wanted: dict[str, str] = (selector or {}).get("matchLabels", {})
    return wanted.items() <= labels.items()


def selected(policy: dict[str, Any], pod: str) -> bool:
    namespace, labels = OURS[pod]
    return policy["metadata"]["namespace"] == namespace and matches(policy["spec"]["podSelector"], labels)


def peers(peer: dict[str, Any], own_namespace: str, parts: dict[str, str]) -> set[str]:
    """Names of what a peer means: pods of ours, or a part around."""
    if (part := parts.get(key(peer))) is not None:
        return {part}
    assert "ipBlock" not in peer, f"a block of addresses that values do not name: {peer}"
    found = set()
    for name, (namespace, labels) in OURS.items():
        there = namespace == own_namespace
        if "namespaceSelector" in peer:
            there = matches(peer["namespaceSelector"], {"kubernetes.io/metadata.name": namespace})
        if there and matches(peer.get("podSelector"), labels):
            found.add(name)
    return found


def one_way(name: str, direction: str, parts: dict[str, str]) -> set[Edge]:
    edges = set()
    for policy in charts.objects(name, "NetworkPolicy"):
        for pod in (one for one in OURS if selected(policy, one)):
            for rule in policy["spec"].get(direction, []):
                others = [
                    peers(one, OURS[pod][0], parts) for one in rule.get("from" if direction == "ingress" else "to", [])
                ]
                named = set().union(*others) if others else {"everybody"}
                for port in rule.get("ports", [{"port": "all"}]):
                    for other in named:
                        ends = (other, pod) if direction == "ingress" else (pod, other)
                        edges.add((*ends, str(port["port"])))
    return edges


def edges(name: str) -> set[Edge]:
    """What is let out and, where it goes to a pod of ours, let in there."""
    values = yaml.safe_load((CHART / "values.yaml").read_text())["networkPolicy"]
    parts = {
        key(peer): part for part in ("kafka", "database", "objects", "kubernetesApi") for peer in values[part]["to"]
    }
    parts[key(values["kubernetesApi"]["to"][0])] = "Kubernetes API"
    parts |= {key(peer): "DNS" for peer in values["dns"]} | {key(peer): "Prometheus" for peer in values["metricsFrom"]}
    for policy in charts.objects(name, "NetworkPolicy"):
        for rule in policy["spec"].get("egress", []):
            for peer in rule.get("to", []):
                if len(peer.get("ipBlock", {}).get("except", [])) > 1:
                    parts[key(peer)] = "internet"
    out, into = one_way(name, "egress", parts), one_way(name, "ingress", parts)
    inside = {edge for edge in out if edge[1] in OURS}
    assert inside == {edge for edge in into if edge[0] in OURS}, (
        "each way out of ours is a way in, and the other way round"
    )
    return (out - inside) | into


def documented() -> set[Edge]:
    text = (CHART / "README.md").read_text().split("## Who may speak to whom")[1].split("\n## ")[0]
    found = set()
    for row in re.findall(r"^\| (.+) \|$", text, re.MULTILINE)[1:]:  # less the heading
        sources, targets, ports, _why = (cell.strip() for cell in row.split(" | "))
        for source in expanded(sources):
            for target in expanded(targets):
                found |= {(source, target, port.strip()) for port in ports.split(",")}
    return found


def expanded(cell: str) -> list[str]:
    names = [name.strip() for name in cell.split(",")]
    return [one for name in names for one in (SERVICES if name == "every service" else [name])]


def test_who_may_speak_to_whom_is_what_the_guide_says() -> None:
    assert edges("default") == documented()


@pytest.mark.parametrize("name", VALUES)
def test_every_pod_is_shut_in_both_ways(name: str) -> None:
    policies = charts.objects(name, "NetworkPolicy")
    for namespace in (NAMESPACE, JOBS):
        closed = [
            one for one in policies if one["metadata"]["namespace"] == namespace and one["spec"]["podSelector"] == {}
        ]
        assert [one["spec"] for one in closed] == [{"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}]
    # And nobody lives elsewhere.
    workloads = [one for one in charts.objects(name) if "template" in one.get("spec", {}) and one["kind"] != "NodePool"]
    workloads = [one for one in workloads if one["kind"] in ("StatefulSet", "Deployment", "Job", "DaemonSet")]
    assert {one["metadata"]["namespace"] for one in workloads} == {NAMESPACE}


@pytest.mark.parametrize("name", VALUES)
def test_nobody_reaches_a_machines_metadata(name: str) -> None:
    blocks = [
        peer["ipBlock"]
        for policy in charts.objects(name, "NetworkPolicy")
        for rule in policy["spec"].get("egress", [])
        for peer in rule.get("to", [{"ipBlock": {"cidr": "0.0.0.0/0"}}])
        if "ipBlock" in peer
    ]
    assert blocks
    for block in blocks:
        excepted = [ipaddress.ip_network(one) for one in block.get("except", [])]
        reached = METADATA in ipaddress.ip_network(block["cidr"]) and not any(METADATA in one for one in excepted)
        assert not reached, block
