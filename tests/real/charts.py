"""The chart as Helm renders it, for tests."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tools import goparts

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy" / "helm" / "sskai"
NAMESPACE = "sskai"
LIMIT_SECONDS = 120
# Everything that can be switched on beside what values-aws.yaml has.
ALL = (
    "--set=ingress.enabled=true,gatewayApi.enabled=true,gatewayApi.parents[0].name=public,kueue.enabled=true,"
    "services.monitor.autoscaling.kind=lag,kafka.existingSecret=sskai-kafka,kafka.caSecret=sskai-kafka-ca,"
    "kafka.securityProtocol=SASL_SSL,database.caConfigMap=database-ca,models.existingClaim=models,"
    "secrets.oidc=sskai-oidc,jobs.quota.pods=100",
)
VALUES = {
    "default": (),
    "minimal": (f"--values={CHART}/values-minimal.yaml",),
    "aws": (f"--values={CHART}/values-aws.yaml",),
    "everything": (f"--values={CHART}/values-aws.yaml", *ALL),
}


def program(name: str) -> Path:
    try:
        return goparts.program("helm", name)
    except goparts.GoPartError as problem:
        pytest.skip(str(problem))


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(program("helm")), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False)


@cache
def text(name: str) -> str:
    done = helm("template", "sskai", str(CHART), f"--namespace={NAMESPACE}", *VALUES[name])
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def objects(name: str, kind: str | None = None) -> list[dict[str, Any]]:
    found = [document for document in yaml.load_all(text(name), yaml.CSafeLoader) if document]
    return [one for one in found if kind in (None, one["kind"])]


def pods(name: str) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Name, labels and specification of what each workload's template makes."""
    for one in objects(name):
        template = one.get("spec", {}).get("template", {})
        if "containers" in template.get("spec", {}):
            yield one["metadata"]["name"], template["metadata"]["labels"], template["spec"]
