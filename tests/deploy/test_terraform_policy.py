"""S19, and what else an account would not forgive: deploy/terraform as it is written, without Terraform."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from sskai.database import SERVICES
from tests.deploy import hcl
from tests.deploy.hcl import Resource

DOCS = Path(__file__).parents[2] / "docs"

# Actions for which AWS knows no resource, or none that could be named before it is there.
WITHOUT_RESOURCE = {
    "ec2:CreateLaunchTemplate", "ec2:RunInstances", "ec2:DescribeAvailabilityZones", "ec2:DescribeCapacityReservations",
    "ec2:DescribeImages", "ec2:DescribeInstanceStatus", "ec2:DescribeInstanceTypeOfferings",
    "ec2:DescribeInstanceTypes", "ec2:DescribeInstances", "ec2:DescribeLaunchTemplates", "ec2:DescribePlacementGroups",
    "ec2:DescribeSecurityGroups", "ec2:DescribeSpotPriceHistory", "ec2:DescribeSubnets", "ec2:GetSpotPlacementScores",
    "iam:ListInstanceProfiles", "pricing:GetProducts",
}  # fmt: skip

# Who may connect from an address rather than from a group: the VPC to AWS's endpoints, and whom `console_cidrs` names.
FROM_ADDRESSES = {"modules/network/endpoints.tf": "${var.cidr}", "modules/console/main.tf": "${each.value}"}


def only(kind: str) -> Resource:
    found = hcl.resources(kind)
    assert len(found) == 1, f"{kind}: {[str(one) for one in found]}"
    return found[0]


def test_every_statement_was_found() -> None:
    written = sum(len(re.findall(r"\bEffect\s*=", path.read_text())) for path in hcl.files())
    found = list(hcl.statements())
    assert len(found) == written > 40
    for statement in found:
        assert statement.actions, statement
        assert statement.resources or "AssumeRole" in statement.actions[0], statement


def test_no_action_is_a_pattern_and_everything_names_its_resource() -> None:
    for statement in hcl.statements():
        if statement.effect == "Deny":
            continue
        assert not [action for action in statement.actions if "*" in action or ":" not in action], statement
        if "*" in statement.resources:
            assert set(statement.actions) <= WITHOUT_RESOURCE, statement
        # A pattern for the whole service is as good as `*`.
        assert not [one for one in statement.resources if re.fullmatch(r"arn:[^/]*:\*", one)], statement


def test_what_is_dangerous_has_its_condition() -> None:
    asked = {
        "ec2:TerminateInstances": r"aws:ResourceTag/sskai:managed-by|local\.owned",
        "iam:PassRole": r"iam:PassedToService",
        "ec2:CreateTags": r"ec2:CreateAction|aws:ResourceTag/sskai:managed-by|local\.owned|aws:TagKeys",
        "sts:AssumeRoleWithWebIdentity": r":sub\"\s*=\s*\"system:serviceaccount:",
        "sqs:SendMessage": r"aws:SourceArn",
        "iam:CreateInstanceProfile": r"local\.to_own",
        "iam:DeleteInstanceProfile": r"local\.owned",
    }
    for action, condition in asked.items():
        with_it = [statement for statement in hcl.statements() if action in statement.actions]
        assert with_it, action
        for statement in with_it:
            assert re.search(condition, statement.text), f"{action}: {statement}"


def test_every_service_account_has_a_role_of_its_own() -> None:
    accounts = hcl.parsed()["modules/identity/main.tf"]["locals"][0]["accounts"]
    assert set(SERVICES) | {"trainer-pods", "replica-pods", "external-secrets"} == accounts.keys()
    assert len(set(accounts.values())) == len(accounts)


def documented(chapter: str) -> list[set[str]]:
    """The actions of each policy in that chapter of docs/operations.md."""
    text = (DOCS / "operations.md").read_text().split(f"\n## {chapter}\n")[1].split("\n## ")[0]
    policies = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", text, re.DOTALL)]
    return [{action for one in policy["Statement"] for action in _list(one["Action"])} for policy in policies]


def _list(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]


def test_roles_allow_what_the_documents_say() -> None:
    cloud = [one for one in hcl.statements() if one.file == "modules/identity/cloud.tf"]
    actions = {action for statement in cloud for action in statement.actions}
    (prices,) = documented("Live prices")
    starting, machine = documented("EC2, without a cluster")
    queue = {"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility"}
    others = {
        "sts:AssumeRole", "s3:GetObject", "s3:PutObject",  # the machines' trust, and what they boot from
        "secretsmanager:GetSecretValue", "secretsmanager:DescribeSecret", "kms:Decrypt",  # External Secrets
    }  # fmt: skip
    assert actions == prices | starting | machine | queue | others
    for action in queue:
        assert f"`{action}`" in (DOCS / "operations.md").read_text()


def test_interruptions_are_those_of_the_documents() -> None:
    chapter = (DOCS / "operations.md").read_text().split("\n## Interruptions from AWS\n")[1].split("\n## ")[0]
    rules = hcl.parsed()["modules/interruptions/main.tf"]["locals"][0]["rules"]
    kinds = {rule["detail-type"][0] for rule in rules.values()}
    assert kinds == set(re.findall(r"`((?:EC2|AWS) [A-Z][^`]+)`", chapter))
    assert rules["state"]["detail"]["state"] == ["stopping", "stopped", "shutting-down", "terminated"]
    assert rules["health"]["source"] == ["aws.health"]
    assert rules["health"]["detail"] == {"service": ["EC2"], "eventTypeCategory": ["scheduledChange"]}
    queue = only("aws_sqs_queue").body
    assert queue["message_retention_seconds"] == 3600
    assert queue["sqs_managed_sse_enabled"] is True


def test_nobody_comes_in_from_everywhere() -> None:
    assert not hcl.resources("aws_security_group_rule"), "write aws_vpc_security_group_ingress_rule"
    for group in hcl.resources("aws_security_group") + hcl.resources("aws_default_security_group"):
        assert not group.blocks("ingress"), group
        assert not group.blocks("egress"), group
    for rule in hcl.resources("aws_vpc_security_group_ingress_rule"):
        assert "cidr_ipv6" not in rule.body, rule
        assert rule.body["from_port"] == rule.body["to_port"], rule
        assert "referenced_security_group_id" in rule.body or rule.body["cidr_ipv4"] == FROM_ADDRESSES[rule.file], rule
    for path in hcl.files():
        for line in path.read_text().splitlines():
            if "0.0.0.0/0" in line:
                assert "destination_cidr_block" in line or "description" in line, f"{path}: {line}"


def test_the_api_is_never_for_everybody() -> None:
    network = only("aws_eks_cluster").blocks("vpc_config")[0]
    assert network["endpoint_private_access"] is True
    assert network["endpoint_public_access"] == "${length(var.api_cidrs) > 0}"
    for name in ("minimal", "production"):
        text = (hcl.ROOT / "examples" / f"{name}.tfvars").read_text()
        assert "0.0.0.0/0" not in text


def test_buckets_are_private_encrypted_and_spoken_to_by_tls() -> None:
    buckets = hcl.resources("aws_s3_bucket")
    for bucket in buckets:
        for companion in (
            "aws_s3_bucket_public_access_block",
            "aws_s3_bucket_ownership_controls",
            "aws_s3_bucket_server_side_encryption_configuration",
            "aws_s3_bucket_versioning",
            "aws_s3_bucket_policy",
        ):
            found = [one for one in hcl.resources(companion) if one.file == bucket.file]
            assert [one.body.get("for_each") for one in found] == [bucket.body.get("for_each")], (
                f"{bucket}: {companion}"
            )
    for block in hcl.resources("aws_s3_bucket_public_access_block"):
        switches = ("block_public_acls", "block_public_policy", "ignore_public_acls", "restrict_public_buckets")
        assert all(block.body[switch] is True for switch in switches), block
    denied = [one for one in hcl.statements() if one.file == "modules/objects/main.tf" and one.effect == "Deny"]
    assert any('"aws:SecureTransport" = "false"' in one.text for one in denied)
    assert any("s3:TlsVersion" in one.text for one in denied)


# Of each kind that keeps or carries data: what makes it unreadable to others. A kind that is not here keeps none.
ENCRYPTED: dict[str, dict[str, Any]] = {
    "aws_kms_key": {"enable_key_rotation": True},
    "aws_sqs_queue": {"sqs_managed_sse_enabled": True},
    "aws_db_instance": {
        "storage_encrypted": True, "kms_key_id": "${aws_kms_key.this.arn}", "publicly_accessible": False,
        "performance_insights_kms_key_id": "${aws_kms_key.this.arn}", "manage_master_user_password": True,
    },
    "aws_secretsmanager_secret": {"kms_key_id": "${aws_kms_key.this.arn}"},
}  # fmt: skip
KEEPS_NOTHING = {
    "aws_acm_certificate", "aws_acm_certificate_validation", "aws_autoscaling_attachment", "aws_budgets_budget",
    "aws_ce_cost_allocation_tag", "aws_cloudwatch_event_rule", "aws_cloudwatch_event_target", "aws_db_parameter_group",
    "aws_db_subnet_group", "aws_default_security_group", "aws_ec2_tag", "aws_ecr_lifecycle_policy", "aws_eip",
    "aws_eks_access_entry", "aws_eks_access_policy_association", "aws_eks_addon", "aws_eks_node_group", "aws_flow_log",
    "aws_iam_instance_profile", "aws_iam_openid_connect_provider", "aws_iam_role", "aws_iam_role_policy",
    "aws_iam_role_policy_attachment", "aws_iam_service_linked_role", "aws_internet_gateway", "aws_kms_alias", "aws_lb",
    "aws_lb_target_group", "aws_msk_configuration", "aws_msk_scram_secret_association", "aws_nat_gateway", "aws_route",
    "aws_route53_record", "aws_route_table", "aws_route_table_association", "aws_s3_bucket_lifecycle_configuration",
    "aws_s3_bucket_logging", "aws_s3_bucket_ownership_controls", "aws_s3_bucket_policy",
    "aws_s3_bucket_public_access_block", "aws_s3_bucket_server_side_encryption_configuration",
    "aws_s3_bucket_versioning", "aws_secretsmanager_secret_policy", "aws_secretsmanager_secret_version",
    "aws_security_group", "aws_sqs_queue_policy", "aws_subnet", "aws_vpc", "aws_vpc_endpoint",
    "aws_vpc_security_group_egress_rule", "aws_vpc_security_group_ingress_rule",
}  # fmt: skip
# Looked at one by one below; CloudWatch encrypts log groups by itself.
BY_HAND = {"aws_s3_bucket", "aws_eks_cluster", "aws_msk_cluster", "aws_launch_template", "aws_ecr_repository",
           "aws_lb_listener", "aws_cloudwatch_log_group"}  # fmt: skip


def test_everything_is_encrypted() -> None:
    unknown = {one.kind for one in hcl.resources()} - KEEPS_NOTHING - ENCRYPTED.keys() - BY_HAND
    assert not unknown, f"say in this test how these keep data: {sorted(unknown)}"
    for kind, asked in ENCRYPTED.items():
        for one in hcl.resources(kind):
            assert {key: one.body.get(key) for key in asked} == asked, one
    assert only("aws_eks_cluster").blocks("encryption_config")[0]["resources"] == ["secrets"]
    kafka = only("aws_msk_cluster").blocks("encryption_info")[0]
    assert kafka["encryption_at_rest_kms_key_arn"] == "${aws_kms_key.this.arn}"
    assert kafka["encryption_in_transit"][0]["client_broker"] == "TLS"
    assert kafka["encryption_in_transit"][0]["in_cluster"] is True
    assert only("aws_msk_cluster").blocks("client_authentication")[0]["unauthenticated"] is False
    assert only("aws_ecr_repository").blocks("encryption_configuration")
    forced = [one for one in only("aws_db_parameter_group").blocks("parameter") if one["name"] == "rds.force_ssl"]
    assert [one["value"] for one in forced] == ["1"]
    assert [one.body["protocol"] for one in hcl.resources("aws_lb_listener")] == ["HTTPS"]


def test_nodes_keep_their_keys_to_themselves() -> None:
    template = only("aws_launch_template")
    assert template.blocks("metadata_options") == [
        {"http_endpoint": "enabled", "http_tokens": "required", "http_put_response_hop_limit": 1}
    ]
    for disk in template.blocks("block_device_mappings"):
        assert disk["ebs"][0]["encrypted"] is True
    assert "map_public_ip_on_launch" not in str([one for one in hcl.resources("aws_subnet") if one.name != "public"])
    assert all(one.body.get("map_public_ip_on_launch", False) is False for one in hcl.resources("aws_subnet"))


def test_everything_carries_our_tags() -> None:
    providers = {file: content["provider"] for file, content in hcl.parsed().items() if "provider" in content}
    assert providers.keys() == {"main.tf"}, "a module with a provider of its own escapes the default tags"
    default, passwords = (block["aws"] for block in providers["main.tf"])
    assert default["default_tags"] == [{"tags": "${local.tags}"}]
    assert passwords["alias"] == "passwords"
    # What the second one makes is ephemeral, and nothing that is there carries no tag.
    assert not [one for one in hcl.resources() if "provider" in one.body]
    template = only("aws_launch_template")
    assert "var.tags" in template.blocks("tag_specifications")[0]["tags"]
    for one in hcl.resources():
        assert "sskai:installation" not in str(one.body.get("tags", "")), f"{one}: the default tag is overwritten"


def test_nothing_is_left_when_it_is_destroyed() -> None:
    assert only("aws_s3_bucket").body["force_destroy"] == "${var.force_destroy}"
    assert only("aws_ecr_repository").body["force_delete"] == "${var.force_delete}"
    database = only("aws_db_instance").body
    assert database["skip_final_snapshot"] == "${!var.protected}"
    assert database["deletion_protection"] == "${var.protected}"
    assert database["delete_automated_backups"] is True
    assert not [one for one in hcl.resources() if one.body.get("skip_destroy")]
    for group in hcl.resources("aws_cloudwatch_log_group"):
        assert "retention_in_days" in group.body, group
    # Log groups that AWS would make itself are ours from the start, and nobody may make them again.
    names = " ".join(str(one.body["name"]) for one in hcl.resources("aws_cloudwatch_log_group"))
    assert "/aws/eks/${var.name}/cluster" in names
    assert "/aws/rds/instance/${var.name}/" in names
    allowed = {action for one in hcl.statements() if one.effect == "Allow" for action in one.actions}
    assert "logs:CreateLogGroup" not in allowed


@pytest.mark.parametrize("name", ["minimal", "production"])
def test_examples_set_only_what_there_is(name: str) -> None:
    variables = {key for block in hcl.parsed()["variables.tf"]["variable"] for key in block}
    written = re.findall(r"^(\w+)\s*=", (hcl.ROOT / "examples" / f"{name}.tfvars").read_text(), re.MULTILINE)
    assert set(written) <= variables
    assert "region" in written


def test_every_variable_and_output_says_what_it_is() -> None:
    for file, content in hcl.parsed().items():
        for kind in ("variable", "output"):
            for block in content.get(kind, []):
                for name, body in block.items():
                    assert body.get("description"), f"{file}: {kind} {name}"
                    assert kind == "output" or "type" in body, f"{file}: {kind} {name}"


def test_no_folder_of_this_machine_is_written_down() -> None:
    for path in hcl.ROOT.rglob("*"):
        if path.is_file() and ".terraform" not in path.parts:
            assert not re.search(r"(?<![\w.])/(opt|root|home|work)/", path.read_text()), path
