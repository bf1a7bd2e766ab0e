"""EC2 without a cluster: each action of the scheduler's policy, asked as a dry run, and the account's spot quotas."""

from __future__ import annotations

import asyncio
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from sskai.cluster.ec2_cluster import Clients, aws_clients
from sskai.cluster.ec2_requests import image_name
from sskai.doctor import Finding, Findings
from sskai.doctor.settings import Settings

TRIED_TYPE = "m5.large"
# Vcpus of running spot machines (Service Quotas): standard families, and those with GPUs.
QUOTAS = {"L-34B43A08": "standard spot vCPUs", "L-3819A6DF": "GPU (G and VT) spot vCPUs"}
POLICY = "Give the role the scheduler's policy of docs/operations.md."


async def look(settings: Settings, clients: Clients | None = None) -> list[Finding]:
    said = Findings("cluster")
    if missing := settings.missing_for_ec2():
        said.fail("settings", "; ".join(missing), "Set what is named; docs/operations.md has each setting.")
        return said.found
    for region in settings.ec2_regions:
        await asyncio.to_thread(_region, said, clients or aws_clients(settings), settings, region)
    said.skip("machines' own rights", "ending a machine and reading its console cannot be tried without a machine")
    return said.found


def _region(said: Findings, clients: Clients, settings: Settings, region: str) -> None:
    ec2 = clients("ec2", region)
    image = _image(said, clients, settings, region)
    template = {"InstanceType": TRIED_TYPE}
    run: dict[str, Any] = {"ImageId": image, "InstanceType": TRIED_TYPE, "MinCount": 1, "MaxCount": 1}
    asked = {
        "DescribeInstances": lambda: ec2.describe_instances(DryRun=True),
        "DescribeAvailabilityZones": lambda: ec2.describe_availability_zones(DryRun=True),
        "CreateLaunchTemplate": lambda: ec2.create_launch_template(
            DryRun=True, LaunchTemplateName="sskai-doctor", LaunchTemplateData=template
        ),
    }
    if image:
        asked["RunInstances"] = lambda: ec2.run_instances(
            DryRun=True, IamInstanceProfile={"Name": settings.ec2_instance_profile}, **run
        )
    for action, ask in asked.items():
        _dry_run(said, f"{region} {action}", ask)
    for code, what in QUOTAS.items():
        _quota(said, clients, region, code, what)


def _image(said: Findings, clients: Clients, settings: Settings, region: str) -> str:
    name = image_name(settings, TRIED_TYPE)
    if name.startswith("ami-"):
        return name
    try:
        found: str = clients("ssm", region).get_parameter(Name=name)["Parameter"]["Value"]
    except (ClientError, BotoCoreError) as error:
        said.fail(
            f"{region} image",
            f"{name}: {error}",
            "Set SSKAI_EC2_IMAGE to an image or a public parameter of this region, and allow ssm:GetParameter.",
        )
        return ""
    said.ok(f"{region} image", found)
    return found


def _dry_run(said: Findings, check: str, ask: Any) -> None:
    """EC2 answers a dry run with an error in any case; its code says which."""
    try:
        ask()
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        if code == "DryRunOperation":
            said.ok(check, "allowed")
        elif code in ("UnauthorizedOperation", "AccessDenied", "AccessDeniedException"):
            said.fail(check, "not allowed", POLICY)
        else:
            said.fail(check, str(error), "Mend what EC2 names (credentials, region, instance profile).")
    except BotoCoreError as error:
        said.fail(check, str(error), "Give credentials as boto3 finds them, and a way to EC2's API.")
    else:
        said.ok(check, "answered")


def _quota(said: Findings, clients: Clients, region: str, code: str, what: str) -> None:
    try:
        quota = clients("service-quotas", region).get_service_quota(ServiceCode="ec2", QuotaCode=code)["Quota"]
    except (ClientError, BotoCoreError) as error:
        said.skip(f"{region} quota", f"{what} cannot be read (servicequotas:GetServiceQuota): {error}")
        return
    if quota["Value"] <= 0:
        said.warn(
            f"{region} quota",
            f"0 {what}",
            "Ask AWS for more (Service Quotas), or leave such types out of SSKAI_OFFERED_INSTANCE_TYPES.",
        )
    else:
        said.ok(f"{region} quota", f"{quota['Value']:g} {what}")
