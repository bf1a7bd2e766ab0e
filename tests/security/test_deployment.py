"""S17 and S19, beside the scheduler's `test_kubernetes_manifests.py`: the compose file's containers, AWS's policies."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from sskai.database import SERVICES

ROOT = Path(__file__).parents[2]


def compose() -> dict[str, Any]:
    services: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["services"]
    return services


def test_our_containers_have_no_rights_and_write_nowhere() -> None:
    ours = {name: one for name, one in compose().items() if "sskai" in one["image"]}
    assert set(SERVICES) <= ours.keys()
    for name, service in ours.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not service.get("privileged"), name
        assert not [volume for volume in service.get("volumes", []) if "docker.sock" in str(volume)], name
    assert re.search(r"^USER 10001$", (ROOT / "deploy" / "Dockerfile").read_text(), re.MULTILINE)


def test_nothing_is_published_beyond_this_machine_and_no_secret_is_written_down() -> None:
    for name, service in compose().items():
        for port in service.get("ports", []):
            assert str(port).startswith("127.0.0.1:"), f"{name} publishes {port}"
        for variable, value in (service.get("environment") or {}).items():
            if re.search(r"PASSWORD|SECRET|TOKEN|ADMIN_KEY|ACCESS_KEY", variable):
                assert str(value).startswith("${"), f"{name}: {variable}"


def policies() -> list[dict[str, Any]]:
    """The statements that the guide gives an installation on EC2."""
    blocks = re.findall(r"```json\n(.*?)```", (ROOT / "docs" / "operations.md").read_text(), re.DOTALL)
    found = [json.loads(block) for block in blocks if '"Statement"' in block]
    return [statement for policy in found for statement in policy["Statement"]]


# What AWS takes no resource for, or what names the machine that is not there yet.
WITHOUT_RESOURCE = {
    "ec2:DescribeInstances", "ec2:DescribeAvailabilityZones", "ec2:CreateLaunchTemplate", "ec2:RunInstances",
    "ec2:DescribeSpotPriceHistory", "ec2:DescribeInstanceTypes", "ec2:DescribeInstanceTypeOfferings",
    "ec2:DescribeRegions", "ec2:DescribeImages", "ec2:GetSpotPlacementScores", "pricing:GetProducts",
}  # fmt: skip


def test_policies_allow_no_more_than_they_name() -> None:
    assert len(policies()) > 5
    for statement in policies():
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        assert not [action for action in actions if "*" in action], statement
        if statement["Resource"] == "*":
            assert set(actions) <= WITHOUT_RESOURCE, statement
        if "ec2:TerminateInstances" in actions:
            assert "aws:ResourceTag/sskai:managed-by" in statement["Condition"]["StringEquals"]
        if "iam:PassRole" in actions:
            assert statement["Condition"]["StringEquals"]["iam:PassedToService"] == "ec2.amazonaws.com"
