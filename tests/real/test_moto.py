"""AWS as moto's server plays it, over HTTP: EventBridge hands EC2's messages to the queue that the monitor reads, by
the rules that docs/operations.md asks for; the scheduler's EC2 cluster speaks to another endpoint than AWS's."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from services.monitor.aws_interruptions import parse
from services.monitor.sources import Queue
from services.scheduler.settings import Settings
from sskai.cluster import PodState
from sskai.cluster.ec2_cluster import Ec2Cluster
from sskai.cluster.ec2_requests import tags_of
from sskai.events import v1 as events
from sskai.testing import wait_for
from tests.monitor import messages
from tests.scheduler.cluster_contract import POD

pytestmark = pytest.mark.real

REGION = "us-east-1"
KEYS = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
# As in docs/operations.md, "Interruptions from AWS".
RULES: dict[str, dict[str, Any]] = {
    "sskai-ec2": {
        "source": ["aws.ec2"],
        "detail-type": [
            "EC2 Spot Instance Interruption Warning",
            "EC2 Instance Rebalance Recommendation",
            "EC2 Capacity Reservation Instance Interruption Warning",
        ],
    },
    "sskai-states": {
        "source": ["aws.ec2"],
        "detail-type": ["EC2 Instance State-change Notification"],
        "detail": {"state": ["stopping", "stopped", "shutting-down", "terminated"]},
    },
    "sskai-health": {
        "source": ["aws.health"],
        "detail-type": ["AWS Health Event"],
        "detail": {"service": ["EC2"], "eventTypeCategory": ["scheduledChange"]},
    },
}


@pytest.fixture(scope="module")
def aws() -> Iterator[Callable[[str], Any]]:
    """Clients of moto's server."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    make: Any = partial(boto3.client, region_name=REGION, endpoint_url=f"http://{host}:{port}", **KEYS)
    yield make
    server.stop()


@pytest.fixture
def queue(aws: Callable[[str], Any]) -> Iterator[Queue]:
    """The monitor's reader of a queue that the rules send to."""
    sqs, bridge = aws("sqs"), aws("events")
    url = sqs.create_queue(QueueName="sskai-interruptions")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    for name, pattern in RULES.items():
        bridge.put_rule(Name=name, EventPattern=json.dumps(pattern))
        bridge.put_targets(Rule=name, Targets=[{"Id": "monitor", "Arn": arn}])
    yield Queue(url, endpoint_url=sqs.meta.endpoint_url, region_name=REGION, **KEYS)
    for name in RULES:
        bridge.remove_targets(Rule=name, Ids=["monitor"])
        bridge.delete_rule(Name=name)
    sqs.delete_queue(QueueUrl=url)


def put(bridge: Any, message: dict[str, Any]) -> None:
    """As AWS's own services do, by the default bus."""
    entry = {
        "Source": message["source"],
        "DetailType": message["detail-type"],
        "Detail": json.dumps(message["detail"]),
        "Resources": message["resources"],
    }
    answer = bridge.put_events(Entries=[entry])
    assert answer["FailedEntryCount"] == 0


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("spot_interruption_warning", [events.InterruptionNoticed]),
        ("rebalance_recommendation", [events.InterruptionNoticed]),
        ("capacity_reservation_interruption_warning", [events.InterruptionNoticed]),
        ("instance_state_change", [events.MachineLost]),
        ("health_retirement", [events.InterruptionNoticed, events.InterruptionNoticed]),
    ],
)
async def test_a_message_goes_from_the_bus_by_a_rule_to_the_monitor(
    aws: Callable[[str], Any], queue: Queue, name: str, told: list[type]
) -> None:
    put(aws("events"), messages.message(name))
    [received] = await wait_for(lambda: queue.receive(wait_seconds=0), limit_seconds=20)
    notice = parse(received.raw.body, source="eventbridge")
    assert [type(fact) for fact in notice.facts] == told
    assert {fact.machine_id for fact in notice.facts} <= {"i-0b22a22eec53b9321", "i-0c33b33ffd64c0432"}
    assert queue.delete([received.handle]) == 0, "none is left"
    assert queue.receive(wait_seconds=0) == []


@pytest.mark.parametrize("name", ["spot_request_fulfillment", "health_issue"])
async def test_what_no_rule_wants_does_not_come(aws: Callable[[str], Any], queue: Queue, name: str) -> None:
    put(aws("events"), messages.message(name))
    put(aws("events"), messages.message("spot_interruption_warning"))
    [received] = await wait_for(lambda: queue.receive(wait_seconds=0), limit_seconds=20)
    assert "Interruption Warning" in str(received.raw.body)


async def test_an_attempt_lives_and_ends_on_ec2_over_http(
    aws: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    ec2 = aws("ec2")
    for name, value in (("AWS_ACCESS_KEY_ID", "testing"), ("AWS_SECRET_ACCESS_KEY", "testing")):
        monkeypatch.setenv(name, value)
    settings = Settings(
        cluster="ec2",
        kafka_bootstrap="kafka.example.com:9092",
        objects_url="https://s3.us-east-1.amazonaws.com",
        ec2_regions=REGION,
        ec2_instance_profile="sskai-pod",
        ec2_image=ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"],
        ec2_endpoint_url=ec2.meta.endpoint_url,
    )
    cluster = Ec2Cluster(settings)
    machine = await cluster.launch(POD)

    def instances() -> list[Any]:
        found = ec2.describe_instances()["Reservations"]
        return [one for group in found for one in group["Instances"]]

    [instance] = instances()
    assert instance["InstanceType"] == POD.placement.instance_type
    assert tags_of(instance)["sskai:job-id"] == POD.job_id
    [seen] = await cluster.observe()
    assert (seen.machine_id, seen.job_id, seen.state) == (machine.machine_id, POD.job_id, PodState.RUNNING)
    await cluster.drain(machine.machine_id)
    [instance] = instances()
    assert "sskai:drain" in tags_of(instance)
    await cluster.delete(machine.machine_id)
    assert {one["State"]["Name"] for one in instances()} <= {"shutting-down", "terminated"}
