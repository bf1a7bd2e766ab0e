"""deploy/terraform by Terraform itself: its format, its types, plans against a mock of AWS, and what the rendered
policies allow. The provider comes from SSKAI_TERRAFORM_PLUGINS (a filesystem mirror), else from its registry."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.real import iam

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]

SOURCE = Path(__file__).parents[2] / "deploy" / "terraform"
ACCOUNT = "123456789012"
BUCKET = f"arn:aws:s3:::sskai-trial-{ACCOUNT}-us-east-1"
INSTANCE = f"arn:aws:ec2:us-east-1:{ACCOUNT}:instance/i-0123456789abcdef0"


class Terraform:
    """The program, in a copy of the configuration."""

    def __init__(self, folder: Path, settings: Path) -> None:
        self.folder = folder
        self.env = {
            **os.environ,
            "TF_CLI_CONFIG_FILE": str(settings),
            "TF_IN_AUTOMATION": "1",
            "CHECKPOINT_DISABLE": "1",
        }

    def __call__(self, *arguments: str, seconds: float = 600) -> subprocess.CompletedProcess[str]:
        command = ["terraform", *arguments]
        return subprocess.run(
            command, cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=seconds, check=False
        )


@pytest.fixture(scope="module")
def terraform(tmp_path_factory: pytest.TempPathFactory) -> Terraform:
    if shutil.which("terraform") is None:
        pytest.skip("there is no terraform on the PATH")
    base = tmp_path_factory.mktemp("terraform")
    settings = base / "settings.tfrc"
    plugins = os.environ.get("SSKAI_TERRAFORM_PLUGINS", "")
    mirror = f'provider_installation {{\n  filesystem_mirror {{\n    path = "{plugins}"\n  }}\n}}\n'
    settings.write_text(mirror if plugins else "")
    shutil.copytree(SOURCE, base / "root", ignore=shutil.ignore_patterns(".terraform*", "backend.tf"))
    program = Terraform(base / "root", settings)
    try:
        made = program("init", "-backend=false", "-input=false", "-no-color", seconds=300)
    except subprocess.TimeoutExpired:
        pytest.skip("Terraform's registry does not answer; name a mirror in SSKAI_TERRAFORM_PLUGINS")
    if made.returncode and ("registry" in made.stderr or "query available provider" in made.stderr):
        pytest.skip(f"the provider cannot be had; name a mirror in SSKAI_TERRAFORM_PLUGINS: {made.stderr[-300:]}")
    assert made.returncode == 0, made.stderr
    return program


def test_it_is_formatted(terraform: Terraform) -> None:
    checked = terraform("fmt", "-check", "-recursive", "-diff")
    assert checked.returncode == 0, checked.stdout


def test_it_is_valid(terraform: Terraform) -> None:
    answer = json.loads(terraform("validate", "-json").stdout)
    assert (answer["valid"], answer["diagnostics"]) == (True, []), answer["diagnostics"]


@pytest.mark.parametrize("name", ["production", "refusals"])
def test_it_plans_and_applies_against_a_mock(terraform: Terraform, name: str) -> None:
    example = [f"-var-file=examples/{name}.tfvars"] if (SOURCE / "examples" / f"{name}.tfvars").is_file() else []
    tested = terraform("test", "-no-color", *example, f"-filter=tests/{name}.tftest.hcl")
    assert tested.returncode == 0, tested.stdout + tested.stderr


@pytest.fixture(scope="module")
def applied(terraform: Terraform) -> dict[str, dict[str, Any]]:
    """The state after each applied run of the minimal example."""
    file = "-filter=tests/minimal.tftest.hcl"
    tested = terraform("test", "-json", "-verbose", "-var-file=examples/minimal.tfvars", file)
    messages = [json.loads(line) for line in tested.stdout.splitlines() if line.startswith("{")]
    assert tested.returncode == 0, [one for one in messages if one["type"] in ("diagnostic", "test_summary")]
    return {one["@testrun"]: one["test_state"] for one in messages if one["type"] == "test_state"}


def resources(state: dict[str, Any]) -> Iterator[dict[str, Any]]:
    modules = [state["root_module"]]
    while modules:
        module = modules.pop()
        yield from module.get("resources", [])
        modules += module.get("child_modules", [])


def policies(state: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Rendered policies of roles: by service account, else by the resource's name."""
    found = [one for one in resources(state) if one["type"] == "aws_iam_role_policy"]
    return {
        str(one["index"] if one.get("index") else one["name"]): json.loads(one["values"]["policy"]) for one in found
    }


def test_nothing_secret_is_in_the_state(applied: dict[str, dict[str, Any]]) -> None:
    for state in applied.values():
        for one in resources(state):
            for key, value in one["values"].items():
                secret = ("password" in key and "manage" not in key) or key.startswith("secret_string")
                assert not secret or not value or key.endswith("_version"), f"{one['address']}.{key}"


def test_names_are_short_enough_for_aws(applied: dict[str, dict[str, Any]]) -> None:
    most = {"aws_iam_role": 64, "aws_s3_bucket": 63, "aws_lb": 32, "aws_lb_target_group": 32, "aws_sqs_queue": 80}
    for one in resources(applied["apply"]):
        name = one["values"].get("name") or one["values"].get("bucket") or ""
        assert len(str(name)) <= most.get(one["type"], 255), one["address"]


def test_subnets_do_not_overlap(applied: dict[str, dict[str, Any]]) -> None:
    from ipaddress import ip_network

    subnets = [one for one in resources(applied["apply"]) if one["type"] == "aws_subnet"]
    networks = [ip_network(one["values"]["cidr_block"]) for one in subnets]
    assert len(networks) == 9
    assert all(one.subnet_of(ip_network("10.42.0.0/16")) for one in networks)
    assert not [(a, b) for a in networks for b in networks if a is not b and a.overlaps(b)]


def test_helm_values_are_plain_values(applied: dict[str, dict[str, Any]]) -> None:
    values = applied["apply"]["outputs"]["helm_values"]["value"]
    names = [one["name"] for one in values["externalSecrets"]["secrets"]]
    assert sorted(names) == ["sskai-database", "sskai-kafka", "sskai-kafka-pods"]
    assert values["jobs"]["trainerAccount"]["annotations"]["eks.amazonaws.com/role-arn"].startswith("arn:aws:iam::")
    database = next(one for one in values["externalSecrets"]["secrets"] if one["name"] == "sskai-database")
    assert "sslmode=verify-full" in database["template"]["SSKAI_DATABASE_URL"]


def test_the_chart_takes_the_values(applied: dict[str, dict[str, Any]]) -> None:
    chart = SOURCE.parent / "helm" / "sskai"
    values = yaml.safe_load((chart / "values.yaml").read_text())
    for more in (
        yaml.safe_load((chart / "values-aws.yaml").read_text()),
        applied["apply"]["outputs"]["helm_values"]["value"],
    ):
        values = merged(values, more)
    jsonschema.Draft7Validator(json.loads((chart / "values.schema.json").read_text())).validate(values)


def merged(values: Any, more: Any) -> Any:
    """As Helm puts one values file over another."""
    if not (isinstance(values, dict) and isinstance(more, dict)):
        return more
    return values | {key: merged(values.get(key), value) for key, value in more.items()}


# Who asks, for what, of what, with what; and whether they may. Keys as docs/architecture.md and sskai/objects.py say.
JOB = f"{BUCKET}/jobs/job_1"
CALLS: list[tuple[str, str, str, dict[str, Any], bool]] = [
    ("gateway", "s3:PutObject", f"{BUCKET}/tenants/tenant_a/datasets/d/raw.jsonl", {}, True),
    ("gateway", "s3:PutObject", f"{BUCKET}/models/model_1/model.safetensors", {}, True),
    ("gateway", "s3:PutObject", f"{JOB}/artifact/attempt-00001/model.safetensors", {}, False),
    ("gateway", "s3:DeleteBucket", BUCKET, {}, False),
    ("optimizer", "s3:GetObject", f"{BUCKET}/tenants/tenant_a/code/abc.zip", {}, True),
    ("optimizer", "s3:GetObject", f"{BUCKET}/tenants/tenant_a/datasets/d/raw.jsonl", {}, False),
    ("optimizer", "ec2:DescribeSpotPriceHistory", "*", {}, True),
    ("optimizer", "ec2:RunInstances", INSTANCE, {}, False),
    ("scheduler", "s3:PutObject", f"{JOB}/logs/attempt-00001.jsonl", {}, True),
    ("scheduler", "s3:PutObject", f"{JOB}/artifact/attempt-00001/MANIFEST.json", {}, False),
    ("scheduler", "ec2:TerminateInstances", INSTANCE, {"aws:ResourceTag/sskai:managed-by": "sskai-scheduler"}, False),
    ("trainer", "s3:DeleteObject", f"{JOB}/checkpoints/attempt-00001/checkpoint-1/model.safetensors", {}, True),
    ("trainer", "s3:DeleteObject", f"{JOB}/artifact/attempt-00001/MANIFEST.json", {}, False),
    ("trainer", "s3:PutObject", f"{JOB}/artifact/attempt-00001/MANIFEST.json", {}, False),
    ("inference", "s3:GetObject", f"{JOB}/artifact/attempt-00001/model.safetensors", {}, True),
    ("inference", "s3:GetObject", f"{JOB}/checkpoints/attempt-00001/checkpoint-1/model.safetensors", {}, False),
    ("inference", "s3:PutObject", f"{BUCKET}/models/model_1/model.safetensors", {}, False),
    ("monitor", "s3:GetObject", f"{BUCKET}/tenants/tenant_a/datasets/d/rows.jsonl", {}, True),
    ("monitor", "s3:GetObject", f"{BUCKET}/models/model_1/model.safetensors", {}, False),
    ("monitor", "sqs:ReceiveMessage", f"arn:aws:sqs:us-east-1:{ACCOUNT}:sskai-trial-karpenter", {}, False),
    ("trainer-pods", "s3:GetObject", f"{BUCKET}/tenants/tenant_a/datasets/d/rows.jsonl", {}, True),
    ("trainer-pods", "s3:PutObject", f"{JOB}/checkpoints/attempt-00001/checkpoint-1/model.safetensors", {}, True),
    ("trainer-pods", "s3:PutObject", f"{JOB}/fences/00002.json", {}, True),
    ("trainer-pods", "s3:DeleteObject", f"{JOB}/checkpoints/attempt-00001/checkpoint-1/model.safetensors", {}, True),
    ("trainer-pods", "s3:DeleteObject", f"{JOB}/fences/00002.json", {}, False),
    ("trainer-pods", "s3:DeleteObject", f"{JOB}/artifact/attempt-00001/MANIFEST.json", {}, False),
    ("trainer-pods", "s3:GetObject", f"{JOB}/logs/attempt-00001.jsonl", {}, False),
    ("trainer-pods", "s3:PutObject", f"{BUCKET}/tenants/tenant_a/datasets/d/rows.jsonl", {}, False),
    ("trainer-pods", "s3:PutObject", f"{BUCKET}/models/model_1/model.safetensors", {}, False),
    ("trainer-pods", "s3:ListBucket", BUCKET, {"s3:prefix": "jobs/job_1/fences/"}, True),
    ("trainer-pods", "s3:ListBucket", BUCKET, {"s3:prefix": "tenants/"}, False),
    ("trainer-pods", "s3:ListBucket", BUCKET, {}, False),
    ("trainer-pods", "s3:GetObject", "arn:aws:s3:::somebody-elses/jobs/job_1/artifact/x", {}, False),
    ("trainer-pods", "sts:AssumeRole", f"arn:aws:iam::{ACCOUNT}:role/sskai-trial-gateway", {}, False),
    (
        "trainer-pods",
        "secretsmanager:GetSecretValue",
        f"arn:aws:secretsmanager:us-east-1:{ACCOUNT}:secret:x",
        {},
        False,
    ),
    ("replica-pods", "s3:GetObject", f"{BUCKET}/models/model_1/model.safetensors", {}, True),
    ("replica-pods", "s3:GetObject", f"{BUCKET}/tenants/tenant_a/datasets/d/rows.jsonl", {}, False),
    ("replica-pods", "s3:PutObject", f"{JOB}/artifact/attempt-00001/MANIFEST.json", {}, False),
    ("external-secrets", "s3:GetObject", f"{BUCKET}/models/model_1/model.safetensors", {}, False),
]

OWNED = {"aws:ResourceTag/kubernetes.io/cluster/sskai-trial": "owned", "aws:ResourceTag/karpenter.sh/nodepool": "spot"}
FOREIGN = {**OWNED, "aws:ResourceTag/kubernetes.io/cluster/sskai-trial": "shared"}
TO_EC2 = {"iam:PassedToService": "ec2.amazonaws.com"}
NODES = f"arn:aws:iam::{ACCOUNT}:role/sskai-trial-karpenter-nodes"
CALLS += [
    ("controller", "ec2:TerminateInstances", INSTANCE, OWNED, True),
    ("controller", "ec2:TerminateInstances", INSTANCE, FOREIGN, False),
    ("controller", "ec2:TerminateInstances", INSTANCE, {}, False),
    ("controller", "ec2:RunInstances", INSTANCE, {}, False),
    ("controller", "ec2:DescribeInstances", "*", {"aws:RequestedRegion": "us-east-1"}, True),
    ("controller", "ec2:DescribeInstances", "*", {"aws:RequestedRegion": "eu-west-1"}, False),
    ("controller", "iam:PassRole", NODES, {"iam:PassedToService": "ec2.amazonaws.com"}, True),
    ("controller", "iam:PassRole", NODES, {"iam:PassedToService": "lambda.amazonaws.com"}, False),
    ("controller", "iam:PassRole", f"arn:aws:iam::{ACCOUNT}:role/admin", TO_EC2, False),
    ("controller", "iam:CreateRole", NODES, {}, False),
    ("controller", "sqs:DeleteMessage", f"arn:aws:sqs:us-east-1:{ACCOUNT}:sskai-trial-karpenter", {}, True),
    ("controller", "sqs:DeleteMessage", f"arn:aws:sqs:us-east-1:{ACCOUNT}:sskai-trial-interruptions", {}, False),
]  # fmt: skip


@pytest.mark.parametrize(("who", "action", "resource", "context", "allowed"), CALLS, ids=lambda value: str(value)[-60:])
def test_who_may_do_what(
    applied: dict[str, dict[str, Any]], who: str, action: str, resource: str, context: dict[str, Any], allowed: bool
) -> None:
    assert iam.allows(policies(applied["apply"])[who], action, resource, context) is allowed


def test_machines_without_a_cluster_are_ended_by_their_own_service_alone(applied: dict[str, dict[str, Any]]) -> None:
    found = policies(applied["direct_ec2"])
    for who, other in (("scheduler", "inference"), ("inference", "scheduler")):
        ours, theirs = ({"aws:ResourceTag/sskai:managed-by": f"sskai-{one}"} for one in (who, other))
        assert iam.allows(found[who], "ec2:TerminateInstances", INSTANCE, ours)
        assert not iam.allows(found[who], "ec2:TerminateInstances", INSTANCE, theirs)
        assert not iam.allows(found[who], "ec2:TerminateInstances", INSTANCE, {})
    queue = f"arn:aws:sqs:us-east-1:{ACCOUNT}:sskai-trial-interruptions"
    assert iam.allows(found["monitor"], "sqs:ReceiveMessage", queue, {})
    assert not iam.allows(found["monitor"], "sqs:SendMessage", queue, {})


def test_only_our_rules_may_send_to_the_queues(applied: dict[str, dict[str, Any]]) -> None:
    rendered = [one for one in resources(applied["direct_ec2"]) if one["type"] == "aws_sqs_queue_policy"]
    assert len(rendered) == 2
    for one in rendered:
        policy = json.loads(one["values"]["policy"])
        queue = policy["Statement"][0]["Resource"]
        rule = {"aws:SourceArn": f"arn:aws:events:us-east-1:{ACCOUNT}:rule/mock", "aws:SecureTransport": "true"}
        assert iam.allows(policy, "sqs:SendMessage", queue, rule)
        assert not iam.allows(policy, "sqs:SendMessage", queue, {**rule, "aws:SourceArn": "arn:aws:events:x:1:rule/y"})
        assert not iam.allows(policy, "sqs:SendMessage", queue, {**rule, "aws:SecureTransport": "false"})


def test_service_accounts_are_trusted_one_by_one(applied: dict[str, dict[str, Any]]) -> None:
    roles = [
        one for one in resources(applied["apply"]) if one["address"].startswith("module.identity.aws_iam_role.this")
    ]
    assert len(roles) == 9
    for role in roles:
        (statement,) = json.loads(role["values"]["assume_role_policy"])["Statement"]
        asked = statement["Condition"]["StringEquals"]
        (subject,) = [value for key, value in asked.items() if key.endswith(":sub")]
        assert "*" not in subject
        assert [value for key, value in asked.items() if key.endswith(":aud")] == ["sts.amazonaws.com"]
