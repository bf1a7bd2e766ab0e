"""The EC2 cluster against moto, and a thin double for what moto lacks."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from moto import mock_aws

from services.scheduler.settings import Settings
from sskai.cluster import (
    ClusterUnavailableError,
    NoCapacityError,
    PodState,
    RefusedError,
    ec2_cluster,
    telling,
)
from sskai.cluster.choosing import cluster_of
from sskai.cluster.ec2_cluster import Ec2Cluster
from sskai.cluster.ec2_requests import image_name, tags_of, user_data
from sskai.objects import Objects
from tests.scheduler.cluster_contract import POD, ClusterContract, observed, reaches
from tests.scheduler.ec2_double import PARAMETER, Ec2Double, client, error
from tests.scheduler.examples import placement

GANG = replace(POD, machines=3)
TOLD = {
    "cluster": "ec2",
    "kafka_bootstrap": "kafka.example.com:9092",
    "objects_url": "https://s3.us-east-1.amazonaws.com",
    "ec2_regions": "us-east-1, eu-west-1",
    "ec2_instance_profile": "sskai-pod",
    "ec2_image": "ami-12345678",
}


class Site:
    def __init__(self, **settings: Any) -> None:
        self.double = Ec2Double()
        self.settings = Settings(**(TOLD | settings))
        self.cluster = Ec2Cluster(self.settings, self.double.clients)

    def _members(self, machine_id: str) -> list[str]:
        return [
            one["InstanceId"]
            for one in self.double.instances()
            if machine_id in (one["InstanceId"], tags_of(one)["sskai:pod"])
        ]

    def running(self) -> int:
        return len(self.double.alive())

    def signals(self) -> int:
        return len([one for one in self.double.instances() if "sskai:drain" in tags_of(one)])

    def deny(self) -> None:
        self.double.fail("run_instances", error("InsufficientInstanceCapacity"))

    async def start(self, machine_id: str) -> None:
        pass

    async def exit(self, machine_id: str, code: int, rank: int = 0) -> None:
        member = self._members(machine_id)[rank]
        self.double.tag(member, exit_code=str(code), ended_at=datetime.now(UTC).isoformat())

    async def lose(self, machine_id: str, rank: int = 0) -> None:
        self.double.reclaim(self._members(machine_id)[rank])

    async def cut_off(self) -> None:
        self.double.away = True


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(ec2_cluster, "OBSERVE_SECONDS", 0.0)
    monkeypatch.setattr(ec2_cluster, "FOUND_SECONDS", 0.6)
    monkeypatch.setenv("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")  # thousands of them, anew for each test
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws():
        yield Site()


class TestContract(ClusterContract):
    """What every cluster promises."""


# Launching.


async def test_an_instance_is_asked_for_as_the_plan_says(site: Site) -> None:
    names = {one["ZoneId"]: one["ZoneName"] for one in client("ec2").describe_availability_zones()["AvailabilityZones"]}
    machine = await site.cluster.launch(replace(POD, lifetime_seconds=3600))
    (instance,) = site.double.instances()
    assert machine.machine_id == instance["InstanceId"]
    assert machine.member_ids == ()
    assert instance["InstanceType"] == "g5.xlarge"
    assert instance["InstanceLifecycle"] == "spot"
    assert instance["Placement"]["AvailabilityZone"] == names["use1-az1"]
    told = tags_of(instance)
    assert {name: told[name] for name in ("sskai:job-id", "sskai:attempt", "sskai:tenant", "sskai:managed-by")} == {
        "sskai:job-id": "job_1",
        "sskai:attempt": "1",
        "sskai:tenant": "tenant_a",
        "sskai:managed-by": "sskai-scheduler",
    }
    left = datetime.fromisoformat(told["sskai:expires-at"]) - datetime.now(UTC)
    assert timedelta(minutes=59) < left <= timedelta(hours=1)
    (request,) = site.double.requests
    assert request["ClientToken"] == POD.name
    assert [one["ResourceType"] for one in request["TagSpecifications"]] == ["instance", "volume"]
    await site.cluster.launch(replace(POD, attempt=2, placement=placement(spot=False, zone="*")))
    assert "InstanceMarketOptions" not in site.double.requests[1]
    assert "Placement" not in site.double.requests[1]


async def test_what_machines_share_is_a_template_made_once(site: Site) -> None:
    await site.cluster.launch(POD)
    await site.cluster.launch(replace(POD, attempt=2))
    other = Ec2Cluster(site.settings, site.double.clients)  # a scheduler that starts anew
    await other.launch(replace(POD, attempt=3))
    ec2 = client("ec2")
    (template,) = ec2.describe_launch_templates()["LaunchTemplates"]
    versions = ec2.describe_launch_template_versions(LaunchTemplateId=template["LaunchTemplateId"])
    (version,) = versions["LaunchTemplateVersions"]
    content = version["LaunchTemplateData"]
    assert content["InstanceInitiatedShutdownBehavior"] == "terminate"
    assert content["MetadataOptions"] == {
        "HttpTokens": "required",
        "HttpPutResponseHopLimit": 1,
        "InstanceMetadataTags": "enabled",
    }
    assert content["IamInstanceProfile"] == {"Name": "sskai-pod"}
    changed = Site(ec2_disk_gib=500)
    await changed.cluster.launch(replace(POD, attempt=4))
    assert len(ec2.describe_launch_templates()["LaunchTemplates"]) == 2


async def test_a_lost_reply_costs_no_second_machine(site: Site) -> None:
    site.double.loses_replies.add("run_instances")
    with pytest.raises(ClusterUnavailableError):
        await site.cluster.launch(POD)
    machine = await site.cluster.launch(POD)
    assert [one["InstanceId"] for one in site.double.instances()] == [machine.machine_id]


async def test_a_lost_reply_whose_machine_is_not_listed_yet_costs_no_second_one(site: Site) -> None:
    site.double.loses_replies.add("run_instances")
    with pytest.raises(ClusterUnavailableError):
        await site.cluster.launch(POD)
    (instance,) = site.double.instances()
    site.double.hidden.add(instance["InstanceId"])
    # Told a little differently this time, as a retry is (a trace): EC2 refuses the token.
    again = replace(POD, env=dict(POD.env) | {"TRACEPARENT": "00-1-2-01"})
    with pytest.raises(ClusterUnavailableError, match="not listed yet"):
        await site.cluster.launch(again)
    site.double.hidden.clear()
    assert (await site.cluster.launch(again)).machine_id == instance["InstanceId"]
    assert site.running() == 1


async def test_a_machine_that_is_not_listed_yet_runs_all_the_same(site: Site) -> None:
    machine = await site.cluster.launch(POD)
    site.double.hidden.add(machine.machine_id)
    seen = await observed(site, machine.machine_id)
    assert seen is not None
    assert seen.state is PodState.RUNNING


@pytest.mark.parametrize(
    ("code", "status", "expected", "says"),
    [
        ("InsufficientInstanceCapacity", 500, NoCapacityError, "Insufficient"),
        ("SpotMaxPriceTooLow", 400, NoCapacityError, "EC2 in us-east-1"),
        ("MaxSpotInstanceCountExceeded", 400, NoCapacityError, "EC2 in us-east-1"),
        ("VcpuLimitExceeded", 400, NoCapacityError, "EC2 in us-east-1"),
        ("Unsupported", 400, NoCapacityError, "EC2 in us-east-1"),
        ("UnauthorizedOperation", 403, RefusedError, "give the scheduler the permissions"),
        ("InvalidParameterValue", 400, RefusedError, "SSKAI_EC2_"),
        ("RequestLimitExceeded", 503, ClusterUnavailableError, "EC2 in us-east-1"),
        ("InternalError", 500, ClusterUnavailableError, "EC2 in us-east-1"),
        ("ExpiredToken", 400, ClusterUnavailableError, "EC2 in us-east-1"),
    ],
)
async def test_what_a_refused_launch_means(
    site: Site, code: str, status: int, expected: type[Exception], says: str
) -> None:
    site.double.fail("run_instances", error(code, status=status))
    with pytest.raises(expected, match=says):
        await site.cluster.launch(POD)
    assert site.running() == 0


async def test_places_that_are_not_there_are_refused_with_what_to_do(site: Site) -> None:
    where = placement(zone="use1-az9")
    with pytest.raises(RefusedError, match="use1-az9 is not one of us-east-1's"):
        await site.cluster.launch(replace(POD, placement=where))
    where.region, where.zone = "ap-south-1", "*"
    with pytest.raises(RefusedError, match="SSKAI_EC2_REGIONS"):
        await site.cluster.launch(replace(POD, placement=where))


async def test_an_image_may_be_named_by_a_public_parameter(site: Site) -> None:
    named = Site(ec2_image=PARAMETER)
    await named.cluster.launch(POD)
    await named.cluster.launch(replace(POD, attempt=2))
    (image,) = {one["ImageId"] for one in named.double.instances()}
    assert image == client("ssm").get_parameter(Name=PARAMETER.format(architecture="x86_64"))["Parameter"]["Value"]
    assert named.double.calls.count(("get_parameter", "us-east-1")) == 1


async def test_a_named_subnet_is_used_for_its_zone(site: Site) -> None:
    ec2 = client("ec2")
    names = {one["ZoneId"]: one["ZoneName"] for one in ec2.describe_availability_zones()["AvailabilityZones"]}
    (subnet,) = ec2.describe_subnets(Filters=[{"Name": "availability-zone", "Values": [names["use1-az1"]]}])["Subnets"]
    named = Site(ec2_subnets={"use1-az1": subnet["SubnetId"]})
    await named.cluster.launch(POD)
    await named.cluster.launch(replace(POD, attempt=2, placement=placement(zone="*")))
    assert {one["SubnetId"] for one in named.double.instances()} == {subnet["SubnetId"]}
    with pytest.raises(RefusedError, match="SSKAI_EC2_SUBNETS"):
        await named.cluster.launch(replace(POD, attempt=3, placement=placement(zone="use1-az2")))


async def test_secrets_are_looked_for_before_a_machine_is_paid(site: Site) -> None:
    pod = replace(POD, secrets=("HF_TOKEN",), env={"SSKAI_OBJECTS_SECRET_KEY": "s3cret"})
    with pytest.raises(RefusedError, match="/sskai/SSKAI_OBJECTS_SECRET_KEY, /sskai/tenant_a/HF_TOKEN into SSM"):
        await site.cluster.launch(pod)
    assert site.running() == 0
    ssm = client("ssm")
    for name in ("/sskai/SSKAI_OBJECTS_SECRET_KEY", "/sskai/tenant_a/HF_TOKEN"):
        ssm.put_parameter(Name=name, Value="hidden", Type="SecureString")
    await site.cluster.launch(pod)
    told = gzip.decompress(site.double.requests[-1]["UserData"])
    assert b"s3cret" not in told
    assert b"hidden" not in told
    assert b"HF_TOKEN=/sskai/tenant_a/HF_TOKEN" in told


async def test_an_environment_that_does_not_fit_waits_in_the_object_store(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3 = client("s3")
    s3.create_bucket(Bucket="sskai")
    from random import Random

    noise = Random(1).randbytes(20_000).hex()  # compresses to half: more than EC2 takes
    await site.cluster.launch(replace(POD, env={"LONG": noise, "SSKAI_ATTEMPT": "1"}))
    told = gzip.decompress(site.double.requests[-1]["UserData"]).decode()
    assert noise not in told
    assert "ENV_URL='https://s3.us-east-1.amazonaws.com/sskai/jobs/job_1/boot/job-1-1.sh?" in told
    objects = Objects.from_settings(site.settings)
    assert (
        objects.get_bytes("jobs/job_1/boot/job-1-1.sh")
        .decode()
        .startswith(f"POD_ENV=(LD_PRELOAD=libtcmalloc_minimal.so.4 LONG={noise}")
    )


def test_a_variable_that_no_shell_takes_is_refused() -> None:
    with pytest.raises(RefusedError, match=r"env\.two words"):
        user_data(replace(POD, env={"two words": "1"}), Settings(), "us-east-1")


@pytest.mark.parametrize(
    ("instance_type", "architecture"),
    [
        ("g5.xlarge", "x86_64"),
        ("g5g.xlarge", "arm64"),
        ("m7g.large", "arm64"),
        ("c6gn.large", "arm64"),
        ("p4d.24xlarge", "x86_64"),
    ],
)
def test_the_image_is_of_the_machines_architecture(instance_type: str, architecture: str) -> None:
    assert image_name(Settings(ec2_image="{architecture}"), instance_type) == architecture


# Gangs.


async def test_a_gangs_members_are_told_where_rank_0_is(site: Site) -> None:
    gang = await site.cluster.launch(GANG)
    instances = sorted(site.double.instances(), key=lambda one: one["AmiLaunchIndex"])
    assert gang.machine_id == POD.name
    assert gang.member_ids == tuple(one["InstanceId"] for one in instances)
    assert {tags_of(one)["sskai:master"] for one in instances} == {instances[0]["PrivateIpAddress"]}
    (request,) = site.double.requests
    assert (request["MinCount"], request["MaxCount"]) == (3, 3), "EC2 itself launches all or none"


async def test_a_gang_that_could_not_be_introduced_is_at_the_next_launch(site: Site) -> None:
    site.double.fail("create_tags", error("InvalidInstanceID.NotFound"))
    with pytest.raises(ClusterUnavailableError):
        await site.cluster.launch(GANG)
    await site.cluster.launch(GANG)
    assert all("sskai:master" in tags_of(one) for one in site.double.instances())
    assert site.running() == 3


async def test_a_gang_that_came_in_part_is_given_back(site: Site) -> None:
    await site.cluster.launch(GANG)
    site.double.hidden.add(site.double.instances()[0]["InstanceId"])
    with pytest.raises(NoCapacityError, match="2 of 3"):
        await Ec2Cluster(site.settings, site.double.clients).launch(GANG)
    assert site.running() == 1


# What is observed.


async def test_a_spot_machine_that_was_taken_is_gone(site: Site) -> None:
    machine = await site.cluster.launch(POD)
    site.double.reclaim(machine.machine_id)
    seen = await reaches(site, machine.machine_id, PodState.GONE)
    assert seen.exit_code is None
    assert telling.loss(seen, datetime.now(UTC))[0].reason


async def test_a_machine_that_told_its_end_and_terminated_has_exited(site: Site) -> None:
    machine = await site.cluster.launch(POD)
    await site.exit(machine.machine_id, 75)
    client("ec2").terminate_instances(InstanceIds=[machine.machine_id])
    assert (await reaches(site, machine.machine_id, PodState.EXITED)).exit_code == 75
    await site.cluster.delete(machine.machine_id)
    assert await site.cluster.observe() == [], "a terminated machine is listed for an hour; nobody needs it"


async def test_a_notice_that_the_machine_tells_is_passed_on(site: Site) -> None:
    machine = await site.cluster.launch(POD)
    site.double.tag(machine.machine_id, terminates_at="2026-11-25T22:00:00Z")
    seen = await observed(site, machine.machine_id)
    assert seen is not None
    assert seen.terminates_at == datetime(2026, 11, 25, 22, tzinfo=UTC)
    assert (seen.source, seen.why) == ("imds", "spot-interruption")
    site.double.tag(machine.machine_id, terminates_at="soon", exit_code="many")
    seen = await observed(site, machine.machine_id)
    assert seen is not None
    assert (seen.state, seen.terminates_at) == (PodState.RUNNING, None), "what a pod's machine writes is not trusted"


async def test_a_hint_that_the_machine_tells_is_passed_on_until_its_notice(site: Site) -> None:
    machine = await site.cluster.launch(POD)
    site.double.tag(machine.machine_id, rebalance_at="2026-11-25T21:50:00Z")
    seen = await observed(site, machine.machine_id)
    assert seen is not None
    assert (seen.terminates_at, seen.recommended, seen.why) == (None, True, "rebalance-recommendation")
    site.double.tag(machine.machine_id, terminates_at="2026-11-25T22:00:00Z")
    seen = await observed(site, machine.machine_id)
    assert seen is not None
    assert (seen.recommended, seen.why) == (False, "spot-interruption")


async def test_every_region_is_looked_at_and_one_that_is_silent_silences_all(site: Site) -> None:
    where = placement(zone="*")
    where.region = "eu-west-1"
    machine = await site.cluster.launch(replace(POD, placement=where))
    await site.cluster.launch(replace(POD, attempt=2))
    assert len(await site.cluster.observe()) == 2
    site.double.fail("describe_instances", error("RequestLimitExceeded"))
    with pytest.raises(ClusterUnavailableError):
        await site.cluster.observe()
    await site.cluster.delete(machine.machine_id)
    assert site.double.alive("eu-west-1") == []


async def test_other_installations_machines_are_left_alone(site: Site) -> None:
    machine = await site.cluster.launch(POD)
    other = Site(ec2_owner="another")
    assert await other.cluster.observe() == []
    await other.cluster.delete(machine.machine_id)
    assert site.running() == 1


async def test_a_missing_permission_is_no_verdict_on_pods(site: Site) -> None:
    machine = await site.cluster.launch(POD)
    site.double.fail("describe_instances", *[error("UnauthorizedOperation", status=403)] * 4)
    with pytest.raises(ClusterUnavailableError, match="UnauthorizedOperation"):
        await site.cluster.observe()
    with pytest.raises(ClusterUnavailableError):
        await site.cluster.delete(machine.machine_id)


async def test_looking_often_asks_ec2_rarely(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ec2_cluster, "OBSERVE_SECONDS", 60.0)
    for _ in range(5):
        await site.cluster.observe()
    assert site.double.calls.count(("describe_instances", "us-east-1")) == 1


# Settings.


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"ec2_regions": ""}, "SSKAI_EC2_REGIONS"),
        ({"ec2_instance_profile": ""}, "SSKAI_EC2_INSTANCE_PROFILE"),
        ({"trainer_image": ""}, "SSKAI_EC2_COMMAND"),
        ({"kafka_bootstrap": "127.0.0.1:9092"}, "SSKAI_KAFKA_BOOTSTRAP"),
        ({"objects_url": "http://localhost:8333"}, "SSKAI_OBJECTS_URL"),
    ],
)
def test_what_is_missing_is_said_at_the_start(settings: dict[str, str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        cluster_of(Settings(**(TOLD | settings)))


def test_the_settings_choose_the_cluster() -> None:
    assert isinstance(cluster_of(Settings(**TOLD)), Ec2Cluster)


async def test_the_documented_policy_allows_all_that_is_asked_and_nothing_more(site: Site) -> None:
    client("ssm").put_parameter(Name="/sskai/tenant_a/HF_TOKEN", Value="hidden", Type="SecureString")
    named = Site(ec2_image=PARAMETER)
    gang = await named.cluster.launch(replace(GANG, secrets=("HF_TOKEN",)))
    await named.cluster.observe()
    named.double.consoles[gang.member_ids[0]] = "started\n"
    await named.cluster.log(gang.machine_id, tail=1)
    await named.cluster.drain(gang.machine_id)
    await named.cluster.delete(gang.machine_id)
    services = {"get_parameter": "ssm", "get_parameters": "ssm"}
    asked = {
        f"{services.get(method, 'ec2')}:{''.join(word.title() for word in method.split('_'))}"
        for method, _ in named.double.calls
    }
    page = (Path(__file__).parents[2] / "docs/operations.md").read_text().partition("## EC2, without a cluster")[2]
    scheduler, machine = [json.loads(block.partition("```")[0]) for block in page.split("```json")[1:3]]
    allowed = [one["Action"] for one in scheduler["Statement"]]
    flat = {action for some in allowed for action in ([some] if isinstance(some, str) else some)}
    assert flat == asked | {"iam:PassRole"}
    assert machine["Statement"][0]["Condition"]["ForAllValues:StringEquals"]["aws:TagKeys"] == [
        "sskai:exit-code",
        "sskai:ended-at",
        "sskai:terminates-at",
        "sskai:rebalance-at",
    ]
