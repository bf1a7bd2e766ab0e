"""What is asked of EC2 for one attempt, and what its answers mean. Values only; times and regions are arguments.

A pod's machines carry tags: whose they are, and, written by themselves at their end, how the pod ended.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import re
import shlex
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from sskai.cluster import Line, LogPage, Observation, Pod, PodState, Program, RefusedError
from sskai.cluster.pods import BROKER_SECRETS, OBJECTS_SECRETS, PRELOADED, Ending, gang_end, lost_members
from sskai.cluster.settings import Settings
from sskai.events import v1 as events

Thing = dict[str, Any]

POD, JOB_ID, ATTEMPT, TENANT = "sskai:pod", "sskai:job-id", "sskai:attempt", "sskai:tenant"
MACHINES, OWNER, EXPIRES_AT, PROGRAM = "sskai:machines", "sskai:managed-by", "sskai:expires-at", "sskai:program"
FIRST_PROGRAM = "trainer"  # of an instance without the tag: a release that had trainers only
# Written by a machine on itself (ec2_boot.sh), and read by it.
EXIT_CODE, ENDED_AT, TERMINATES_AT = "sskai:exit-code", "sskai:ended-at", "sskai:terminates-at"
REBALANCE_AT = "sskai:rebalance-at"
DRAIN, MASTER = "sskai:drain", "sskai:master"

MAX_USER_DATA_BYTES = 16 * 1024  # EC2's limit, before base64
POLL_SECONDS = 2  # a spot notice leaves two minutes; AWS advises to look every 5 s
# A machine that was launched may be missing from lists for a while: EC2 is consistent eventually.
LISTED_SECONDS = 120.0
CONSOLE_LINES = 5_000  # among which a position is looked for
MARKED_LINES = 5
ALIVE = ("pending", "running")
BOOT = Path(__file__).with_name("ec2_boot.sh")
ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
ARM = re.compile(r"(a1|[a-z]+\d+g[a-z]*(-\w+)?)\.")  # m7g, c6gn, g5g, ...: Graviton

NO_CAPACITY = {
    "InsufficientInstanceCapacity",
    "InsufficientHostCapacity",
    "InsufficientCapacityOnHost",
    "InsufficientFreeAddressesInSubnet",
    "InstanceLimitExceeded",
    "MaxSpotInstanceCountExceeded",
    "SpotMaxPriceTooLow",
    "UnfulfillableCapacity",
    "Unsupported",  # this type is not sold in this zone
    "VcpuLimitExceeded",
}
# What another try may mend: throttling, EC2's own trouble, and credentials that ran out or are not known yet.
UNAVAILABLE = {
    "AuthFailure",
    "EC2ThrottledException",
    "ExpiredToken",
    "InternalError",
    "InternalFailure",
    "InvalidInstanceID.NotFound",  # not known everywhere yet
    "InvalidLaunchTemplateName.NotFoundException",
    "RequestExpired",
    "RequestLimitExceeded",
    "ServiceUnavailable",
    "Throttling",
    "ThrottlingException",
    "Unavailable",
}
WHAT_TO_DO = {
    "UnauthorizedOperation": "give the scheduler the permissions of docs/operations.md (and iam:PassRole)",
    "OptInRequired": "subscribe to the image (SSKAI_EC2_IMAGE) or opt in to the region",
    "PendingVerification": "AWS still verifies this account for the region; try again later",
    "InvalidAMIID.NotFound": "set SSKAI_EC2_IMAGE to an image of this region",
}


def user_data(pod: Pod, settings: Settings, region: str, env_url: str = "") -> bytes:
    """The machine's boot script with what it is told, compressed; cloud-init unpacks it. No secret is in it.

    `env_url`: where the machine gets the pod's environment instead, because it does not fit. Raises RefusedError.
    """
    told = {
        "POD": pod.name,
        "REGION": region,
        "IMAGE": settings.image,
        "MODULE": settings.program.module,
        "PORT": settings.program.port or "",
        "VARIABLES": settings.program.variables,
        "COMMAND": "" if settings.image else settings.ec2_command,
        "ACCELERATORS": pod.placement.accelerator_count,
        "MACHINES": pod.machines,
        "LIFETIME_MINUTES": "" if pod.lifetime_seconds is None else max(1, math.ceil(pod.lifetime_seconds / 60)),
        "SHM_GIB": settings.shm_gib,
        "POLL_SECONDS": POLL_SECONDS,
        "ENV_URL": env_url,
    }
    lines = ["#!/bin/bash", *(f"{name}={shlex.quote(str(value))}" for name, value in told.items())]
    lines.append(_array("SECRETS", secret_parameters(pod, settings)))
    lines.append("POD_ENV=()" if env_url else environment(pod, settings))
    return gzip.compress("\n".join([*lines, BOOT.read_text()]).encode(), mtime=0)


def environment(pod: Pod, settings: Settings) -> str:
    """The pod's variables as a line of bash, POD_ENV=(...), less those that are secrets. Raises RefusedError."""
    values = (PRELOADED if settings.image else {}) | dict(pod.env)
    wrong = sorted(name for name in values if not ENV_NAME.fullmatch(name))
    if wrong:
        raise RefusedError(f"env.{wrong[0]}: a variable's name has letters, digits and _ only; rename it")
    secrets = (*OBJECTS_SECRETS, *BROKER_SECRETS)
    return _array("POD_ENV", {name: value for name, value in values.items() if name not in secrets})


def secret_parameters(pod: Pod, settings: Settings) -> dict[str, str]:
    """Variable to SSM parameter, for all that the machine reads by its instance profile."""
    prefix = settings.ec2_secrets_prefix.rstrip("/")
    ours = {name: f"{prefix}/{name}" for name in (*OBJECTS_SECRETS, *BROKER_SECRETS) if pod.env.get(name)}
    return ours | {name: f"{prefix}/{pod.tenant_id}/{name}" for name in pod.secrets}


def _array(name: str, values: Mapping[str, str]) -> str:
    return f"{name}=({' '.join(shlex.quote(f'{key}={value}') for key, value in sorted(values.items()))})"


def image_name(settings: Settings, instance_type: str) -> str:
    return settings.ec2_image.replace("{architecture}", "arm64" if ARM.match(instance_type) else "x86_64")


def launch_template(settings: Settings, region: str, image_id: str) -> tuple[str, Thing]:
    """Name and content of what all machines of a region share. The name is the content's hash: it never changes."""
    content: Thing = {
        "ImageId": image_id,
        "IamInstanceProfile": {"Name": settings.ec2_instance_profile},
        "InstanceInitiatedShutdownBehavior": "terminate",
        # Version 2 and one hop: a container on its own network cannot ask for the instance profile's keys.
        "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 1, "InstanceMetadataTags": "enabled"},
        "BlockDeviceMappings": [
            {
                "DeviceName": settings.ec2_root_device,
                "Ebs": {
                    "VolumeSize": settings.ec2_disk_gib,
                    "VolumeType": "gp3",
                    "Encrypted": True,
                    "DeleteOnTermination": True,
                },
            }
        ],
    }
    if groups := settings.ec2_security_groups.get(region):
        content["SecurityGroupIds"] = groups
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return f"{settings.ec2_owner}-{digest[:16]}", content


def run_instances(
    pod: Pod, settings: Settings, *, template: str, data: bytes, where: Mapping[str, str], now: datetime
) -> Thing:
    """The request. `where`: {"SubnetId": ...}, {"AvailabilityZone": ...}, or {}: any zone of the default VPC."""
    request: Thing = {
        "LaunchTemplate": {"LaunchTemplateName": template, "Version": "1"},
        "InstanceType": pod.placement.instance_type,
        # All or none: EC2 launches no machine when it cannot launch MinCount.
        "MinCount": pod.machines,
        "MaxCount": pod.machines,
        "ClientToken": pod.name,
        "UserData": data,
        "TagSpecifications": [
            {
                "ResourceType": kind,
                "Tags": [{"Key": key, "Value": value} for key, value in tags(pod, settings, now).items()],
            }
            for kind in ("instance", "volume")
        ],
    }
    if "SubnetId" in where:
        request["SubnetId"] = where["SubnetId"]
    elif where:
        request["Placement"] = dict(where)
    if pod.placement.capacity_type == events.CAPACITY_TYPE_SPOT:
        # No price limit of our own: EC2's is the on-demand price, and the scheduler keeps the budget.
        options = {"SpotInstanceType": "one-time", "InstanceInterruptionBehavior": "terminate"}
        request["InstanceMarketOptions"] = {"MarketType": "spot", "SpotOptions": options}
    return request


def tags(pod: Pod, settings: Settings, now: datetime) -> dict[str, str]:
    told = {
        "Name": pod.name,
        POD: pod.name,
        JOB_ID: pod.job_id,
        ATTEMPT: str(pod.attempt),
        TENANT: pod.tenant_id,
        MACHINES: str(pod.machines),
        OWNER: settings.ec2_owner,
        PROGRAM: settings.program.name,
    }
    if pod.lifetime_seconds is not None:
        told[EXPIRES_AT] = (now + timedelta(seconds=pod.lifetime_seconds)).isoformat(timespec="seconds")
    return told


def tags_of(instance: Thing) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in instance.get("Tags") or []}


def machine_id_of(instance: Thing) -> str:
    """A pod on one machine is named as a cloud's notice names it; a gang by its pod's name."""
    told = tags_of(instance)
    return str(instance["InstanceId"]) if told.get(MACHINES, "1") == "1" else told[POD]


def is_alive(instance: Thing) -> bool:
    return instance["State"]["Name"] in ALIVE


def machines(instances: Iterable[Thing], program: Program) -> dict[str, list[Thing]]:
    """Instances by the machine that they are, or are of, in the order of their ranks; others' are left out."""
    found: dict[str, list[Thing]] = {}
    for instance in sorted(instances, key=lambda one: (one.get("AmiLaunchIndex", 0), one["InstanceId"])):
        told = tags_of(instance)
        if {POD, JOB_ID, ATTEMPT} <= told.keys() and told.get(PROGRAM, FIRST_PROGRAM) == program.name:
            found.setdefault(machine_id_of(instance), []).append(instance)
    return found


def observe(machine_id: str, members: list[Thing], now: datetime) -> Observation:
    """The word on one machine, or on one gang."""
    told = tags_of(members[0])
    wanted = int(told.get(MACHINES, "1"))
    endings = [one for one in map(_ending, members) if one is not None]
    youngest = max(one["LaunchTime"] for one in members)
    if (now - youngest).total_seconds() > LISTED_SECONDS:
        # Terminated so long ago that EC2 lists them no more.
        missing = set(range(wanted)) - {_rank(one) for one in members}
        endings += [Ending(None, None, disrupted=True, first=rank == 0) for rank in sorted(missing)]
    word = partial(Observation, machine_id, told[JOB_ID], int(told[ATTEMPT]))
    over = gang_end(endings, wanted)
    if over is not None:
        state = PodState.GONE if over.exit_code is None else PodState.EXITED
        return word(state, over.exit_code, over.ended_at, source="ec2", why=over.why)
    alive = [tags_of(one) for one in members if is_alive(one)]
    notices = [_time(one.get(TERMINATES_AT)) for one in alive]
    lost, lost_at = lost_members(endings)
    first_notice = min((at for at in notices if at is not None), default=None)
    hinted = first_notice is None and any(REBALANCE_AT in one for one in alive)
    why = "rebalance-recommendation" if hinted else "spot-interruption" if first_notice is not None else ""
    word = partial(word, PodState.RUNNING, terminates_at=first_notice, recommended=hinted, source="imds", why=why)
    return word(lost=lost, lost_at=lost_at)


def _ending(instance: Thing) -> Ending | None:
    told = tags_of(instance)
    code = told.get(EXIT_CODE, "")
    first = _rank(instance) == 0
    if code.isdigit():
        return Ending(int(code), _time(told.get(ENDED_AT)), first=first)
    if is_alive(instance):
        return None
    # "User initiated (2026-11-25 21:58:54 GMT)", "Server.SpotInstanceTermination: ..."; the time is not always there.
    when = re.search(r"\((\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (?:GMT|UTC)\)", instance.get("StateTransitionReason") or "")
    # "Server.SpotInstanceTermination", "Client.UserInitiatedShutdown", ...
    why = str((instance.get("StateReason") or {}).get("Code") or instance["State"]["Name"])
    return Ending(None, _time(f"{when[1]}+00:00") if when else None, disrupted=True, first=first, why=why)


def _rank(instance: Thing) -> int:
    """By the order of one launch's machines; ec2_boot.sh tells the pod the same."""
    return int(instance.get("AmiLaunchIndex", 0))


def _time(text: str | None) -> datetime | None:
    """None too for what a machine wrote wrongly."""
    try:
        at = datetime.fromisoformat(text) if text else None
    except ValueError:
        return None
    return at if at is not None and at.tzinfo is not None else None


def console_page(text: str, tail: int, after: str) -> LogPage:
    """The last lines of a console, or those after a position: the hash of the lines before it, found again by them."""
    lines = [line.rstrip("\r") for line in text.split("\n")]
    lines = lines if lines[-1] else lines[:-1]
    ends = range(len(lines), max(0, len(lines) - CONSOLE_LINES), -1)
    begin = next((end for end in ends if after and _mark(lines, end) == after), None)
    shown = lines[-tail:] if begin is None else lines[begin:]
    position = _mark(lines, len(lines)) if lines else after
    cut = begin is None and (len(lines) > len(shown) or bool(after))
    return LogPage(tuple(map(Line, shown)), position, truncated=cut)


def _mark(lines: list[str], end: int) -> str:
    return hashlib.sha256("\n".join(lines[max(0, end - MARKED_LINES) : end]).encode()).hexdigest()
