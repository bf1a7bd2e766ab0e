"""`deploy/helm/sskai`: what Helm makes of it is valid, shut in, and what the documents say."""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any

import pytest
import yaml

from services.gateway.settings import Settings as GatewaySettings
from services.inference.settings import Settings as InferenceSettings
from services.monitor.settings import Settings as MonitorSettings
from services.optimizer.settings import Settings as OptimizerSettings
from services.scheduler.settings import Settings as SchedulerSettings
from services.trainer.settings import Settings as TrainerSettings
from sskai.database import SERVICES
from sskai.local.prepare import PrepareSettings
from tests.real import charts
from tests.real.charts import CHART, NAMESPACE, ROOT, VALUES
from tools import karpenter_pools, kube_schemas

pytestmark = pytest.mark.real

SETTINGS = {
    "gateway": GatewaySettings,
    "optimizer": OptimizerSettings,
    "scheduler": SchedulerSettings,
    "trainer": TrainerSettings,
    "inference": InferenceSettings,
    "monitor": MonitorSettings,
}
EVERY = pytest.mark.parametrize("name", VALUES)


def test_the_linter_has_nothing_to_say() -> None:
    for values in VALUES.values():
        done = charts.helm("lint", "--strict", str(CHART), *values)
        assert done.returncode == 0, done.stdout + done.stderr


@EVERY
def test_every_object_is_valid_to_the_last_field(name: str) -> None:
    try:
        locations = kube_schemas.locations()
    except kube_schemas.SchemasError as problem:
        pytest.skip(str(problem))
    told = validate(charts.text(name), locations)
    assert told == {"valid": len(charts.objects(name)), "invalid": 0, "errors": 0, "skipped": 0}


def test_the_validator_refuses_what_it_should() -> None:
    """That the test above can fail: a misspelt field, in Kubernetes' own objects and in others'."""
    locations = kube_schemas.locations()
    for kind, path in (("StatefulSet", ["spec", "template", "spec"]), ("NodePool", ["spec", "template", "spec"])):
        document = charts.objects("everything", kind)[0]
        place: Any = document
        for step in path:
            place = place[step]
        place["mispelt"] = True
        assert validate(yaml.safe_dump(document), locations)["invalid"] == 1, kind


def validate(text: str, locations: list[str]) -> dict[str, int]:
    command = [str(charts.program("kubeconform")), "-strict", "-summary", "-output=json"]
    command += [word for location in locations for word in ("-schema-location", location)]
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=120, check=False)
    summary: dict[str, int] = json.loads(done.stdout)["summary"]
    return summary


@EVERY
def test_every_pod_fits_the_restricted_profile(name: str) -> None:
    found = list(charts.pods(name))
    assert {pod for pod, _, _ in found} >= {f"sskai-{service}" for service in SERVICES}
    for pod, _, spec in found:
        assert violations(spec) == [], pod


def violations(spec: dict[str, Any]) -> list[str]:
    """Of Pod Security `restricted`, and of our own rules: a root that cannot be written, and limits."""
    found = [f"{one} is set" for one in ("hostNetwork", "hostPID", "hostIPC") if spec.get(one)]
    context = spec.get("securityContext", {})
    if not context.get("runAsNonRoot") or context.get("runAsUser") == 0:
        found.append("runs as root")
    if context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        found.append("no seccomp profile")
    allowed = {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
    found += [f"volume {one['name']}" for one in spec.get("volumes", []) if not (one.keys() - {"name"}) <= allowed]
    for one in spec["containers"] + spec.get("initContainers", []):
        own = one.get("securityContext", {})
        if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
            found.append(f"{one['name']}: may get rights")
        if own.get("capabilities") != {"drop": ["ALL"]}:
            found.append(f"{one['name']}: capabilities")
        if own.get("readOnlyRootFilesystem") is not True:
            found.append(f"{one['name']}: writes its root")
        if not {"memory", "ephemeral-storage"} <= one["resources"]["limits"].keys():
            found.append(f"{one['name']}: no limits")
        if [port for port in one.get("ports", []) if port.get("hostPort")]:
            found.append(f"{one['name']}: a port of the host")
    return found


def test_the_rules_for_pods_can_be_broken() -> None:
    _, _, spec = next(charts.pods("default"))
    container = spec["containers"][0]
    container["securityContext"]["capabilities"]["add"] = ["NET_ADMIN"]
    spec["securityContext"]["runAsNonRoot"] = False
    spec["volumes"].append({"name": "host", "hostPath": {"path": "/"}})
    del container["resources"]["limits"]["memory"]
    assert len(violations(spec)) == 4


@EVERY
def test_namespaces_hold_their_pods_to_the_profile(name: str) -> None:
    (jobs,) = charts.objects(name, "Namespace")
    (ours,) = yaml.safe_load_all((ROOT / "deploy" / "helm" / "namespace.yaml").read_text())
    assert ours["metadata"]["name"] == NAMESPACE
    for one in (jobs, ours):
        assert one["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


@EVERY
def test_rights_are_those_of_the_guide_and_nobody_else_has_any(name: str) -> None:
    guide = (ROOT / "docs" / "operations.md").read_text()
    block = next(one for one in re.findall(r"```yaml\n(.*?)```", guide, re.DOTALL) if "kind: Role" in one)
    role, cluster_role = yaml.safe_load_all(block)
    only = {line.split("resources: [")[1].split("]")[0]: line for line in block.splitlines() if " only" in line}
    owners = {"scheduler", "inference"} if name != "minimal" else {"scheduler"}
    rendered = {one["metadata"]["name"]: one for one in charts.objects(name, "Role")}
    assert rendered.keys() == {f"sskai-{owner}" for owner in owners}
    for owner in owners:
        mine = [
            rule for rule in role["rules"]
            if rule["resources"][0] not in only or f"{owner} only" in only[rule["resources"][0]]
        ]  # fmt: skip
        assert rendered[f"sskai-{owner}"]["rules"] == mine
    assert [one["rules"] for one in charts.objects(name, "ClusterRole")] == [cluster_role["rules"]]
    assert '"*"' not in json.dumps([one["rules"] for one in rendered.values()] + [cluster_role["rules"]])
    bound = [
        one["subjects"] for one in charts.objects(name) if one["kind"].endswith("RoleBinding") or "subjects" in one
    ]
    assert {subject["name"] for subjects in bound for subject in subjects} == {f"sskai-{owner}" for owner in owners}
    with_token = {
        labels["app.kubernetes.io/component"]
        for _, labels, spec in charts.pods(name)
        if spec.get("automountServiceAccountToken") is not False
    }
    assert with_token == owners
    assert not [one for one in charts.objects(name, "ServiceAccount") if one["automountServiceAccountToken"]]


@EVERY
def test_secrets_are_named_and_never_written(name: str) -> None:
    assert not charts.objects(name, "Secret")
    for pod, _, spec in charts.pods(name):
        for variable in spec["containers"][0]["env"]:
            if re.search(
                r"PASSWORD|SECRET_KEY|TOKEN|ADMIN_KEY|ACCESS_KEY|DATABASE_URL|CLIENT_SECRET", variable["name"]
            ):
                assert "secretKeyRef" in variable.get("valueFrom", {}) or variable["value"] == "", (pod, variable)


@EVERY
def test_images_are_pinned(name: str) -> None:
    images = {one["image"] for _, _, spec in charts.pods(name) for one in spec["containers"]}
    images |= {
        variable["value"]
        for _, _, spec in charts.pods(name)
        for variable in spec["containers"][0]["env"]
        if variable["name"].endswith("_IMAGE")
    }
    for image in images:
        assert re.fullmatch(r"[^:@]+(:\d[\w.]*)?(@sha256:[0-9a-f]{64})?", image), image
        assert ":" in image
        assert not image.endswith(":latest")


# What is read beside the services' own settings: folders (sskai/local/paths.py).
ELSEWHERE = {"SSKAI_CACHE"}


@EVERY
def test_every_setting_is_one_that_its_service_has(name: str) -> None:
    for pod, labels, spec in charts.pods(name):
        component = labels["app.kubernetes.io/component"]
        known = SETTINGS.get(component, PrepareSettings).model_fields
        told = {variable["name"] for variable in spec["containers"][0]["env"]}
        if component in SETTINGS:
            unknown = {one for one in told if one.removeprefix("SSKAI_").lower() not in known} - ELSEWHERE
            # Shared by all; whoever does not read one is told it all the same.
            assert unknown <= {"SSKAI_CLUSTER", "SSKAI_OFFERED_INSTANCE_TYPES"}, pod
        everybodys = {
            f"SSKAI_{field.upper()}" for one in (*SETTINGS.values(), PrepareSettings) for field in one.model_fields
        }
        assert told <= everybodys | ELSEWHERE, pod


def environment(name: str, service: str) -> dict[str, str]:
    spec = next(spec for pod, _, spec in charts.pods(name) if pod == f"sskai-{service}")
    return {one["name"]: one.get("value", "(secret)") for one in spec["containers"][0]["env"]}


@EVERY
def test_every_image_is_a_stage_that_holds_what_it_runs(name: str) -> None:
    stages = set(re.findall(r"^FROM .* AS (\S+)$", (ROOT / "deploy/Dockerfile").read_text(), re.MULTILINE))
    for pod, _, spec in charts.pods(name):
        stage = spec["containers"][0]["image"].rpartition("/")[2].partition(":")[0]
        assert stage in stages
        service = pod.removeprefix("sskai-")
        assert stage == (service if service in SERVICES else "cloud"), "it holds every service's migrations"
    for service, variable, stage in (
        ("scheduler", "SSKAI_TRAINER_IMAGE", "trainer"),
        ("inference", "SSKAI_REPLICA_IMAGE", "inference"),
    ):
        assert f"/{stage}:" in str(environment(name, service)[variable])


def test_services_are_told_what_the_compose_file_tells_them_but_for_what_the_guide_lists() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["services"]
    guide = (CHART / "README.md").read_text().split("## Beside docker-compose.yaml")[1].split("\n## ")[0]
    listed = set(re.findall(r"SSKAI_[A-Z_]+|KUBECONFIG", "\n".join(re.findall(r"^\| (.*?) \|", guide, re.MULTILINE))))
    differing = set()
    for service in SERVICES:
        there, here = dict(compose[service]["environment"]), environment("minimal", service)
        for variable in there.keys() | here.keys():
            mine, other = here.get(variable), there.get(variable)
            secret = other is not None and "${" in str(other) and mine == "(secret)"
            # Both name the same service, in the words of their own network.
            same = re.sub(r"//sskai-(\w+)\.sskai\.svc:", r"//\1:", mine or "") == str(other)
            if not (secret or same):
                differing.add(variable)
        assert compose[service]["command"] == next(
            spec["containers"][0]["command"] for pod, _, spec in charts.pods("minimal") if pod == f"sskai-{service}"
        )
    assert differing == listed


def test_values_that_nobody_knows_are_refused() -> None:
    for path, wrong in (
        ("/services/gateway", "services.gateway.replcas=2"),
        ("/image/tag", "image.tag=latest"),
        ("/kafka/existingSecret", "kafka.securityProtocol=SASL_SSL"),
        ("FOO", "settings.FOO=1"),
    ):
        done = charts.helm("template", "sskai", str(CHART), f"--set={wrong}")
        assert done.returncode != 0, wrong
        assert path in done.stderr


def test_the_pools_are_of_what_is_offered() -> None:
    values = yaml.safe_load((CHART / "values-aws.yaml").read_text())
    offered = values["settings"]["SSKAI_OFFERED_INSTANCE_TYPES"].split(",")
    made = karpenter_pools.pools(karpenter_pools.of_catalogue(offered, ["us-east-1"]))
    assert values["karpenter"]["pools"] == made
    assert {one["metadata"]["name"] for one in charts.objects("aws", "NodePool")} == {one["name"] for one in made}


def test_alerts_and_dashboards_are_in_the_chart() -> None:
    (rules,) = charts.objects("aws", "PrometheusRule")
    assert rules["spec"] == yaml.safe_load((CHART / "alerts.yaml").read_text())
    shown = {key for one in charts.objects("aws", "ConfigMap") for key in one["data"]}
    assert shown == {file.name for file in (ROOT / "deploy" / "grafana").glob("*.json")}
