"""The cluster as the doctor sees it: rights on Kubernetes' API, dry runs of EC2, the simulated cloud."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import boto3
import pytest
import yaml
from botocore.exceptions import ClientError
from fastapi import FastAPI, Request
from kubernetes import aio as k8s
from moto import mock_aws

from sskai.doctor import Findings, cluster, ec2, kubernetes
from sskai.doctor.settings import Settings
from sskai.local.layout import SOURCE_FOLDER
from sskai.local.processes import free_ports
from sskai.testing import served
from tests.doctor.found import states

EC2 = {
    "cluster": "ec2", "ec2_regions": "us-east-1", "ec2_instance_profile": "sskai-pod",
    "kafka_bootstrap": "b-1.example:9092", "objects_url": "https://s3.us-east-1.amazonaws.com",
    "ec2_image": "ami-12c6146b",
}  # fmt: skip


def rights(*refused: tuple[str, str]) -> set[tuple[str, str]]:
    """All of the doctor's, as resource and verb, but for some."""
    every = {(right.resource, verb) for right in kubernetes.RIGHTS for verb in right.verbs}
    return every - set(refused)


@asynccontextmanager
async def api(
    allowed: set[tuple[str, str]], *, minor: str = "33", quotas: list[Mapping[str, Any]] | None = None
) -> AsyncIterator[Any]:
    """A Kubernetes API that knows its version, what one account may do, and its quotas."""
    app = FastAPI()

    @app.get("/version/")
    async def version() -> dict[str, str]:
        names = ("gitCommit", "gitTreeState", "buildDate", "goVersion", "compiler", "platform")
        return {"major": "1", "minor": minor, "gitVersion": f"v1.{minor}.0"} | dict.fromkeys(names, "x")

    @app.post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", status_code=201)
    async def review(request: Request) -> dict[str, Any]:
        asked = (await request.json())["spec"]
        what = asked["resourceAttributes"]
        name = "/".join(one for one in (what["resource"], what.get("subresource")) if one)
        return {"spec": asked, "status": {"allowed": (name, what["verb"]) in allowed}}

    @app.get("/api/v1/namespaces/sskai-jobs/resourcequotas")
    async def list_quotas() -> dict[str, Any]:
        return {"items": quotas or []}

    async with served(app) as url:
        configuration = k8s.client.Configuration(host=url)
        async with k8s.client.ApiClient(configuration) as client:
            yield client


async def test_every_right_of_the_role_is_asked_for() -> None:
    async with api(rights()) as client:
        found = await kubernetes.look_by(client, Settings())
    assert set(states(found).values()) == {"ok"}
    assert len(found) == 2 + len(kubernetes.RIGHTS)


@pytest.mark.parametrize(
    ("refused", "check", "state"),
    [
        (("jobs", "create"), "jobs.batch", "fail"),
        (("pods", "watch"), "pods", "fail"),
        (("nodes", "list"), "nodes", "warn"),
        (("pods/log", "get"), "pods/log", "warn"),
        (("poddisruptionbudgets", "patch"), "poddisruptionbudgets.policy", "warn"),
    ],
)
async def test_a_right_that_is_missing_is_named(refused: tuple[str, str], check: str, state: str) -> None:
    async with api(rights(refused)) as client:
        found = {one.check: one for one in await kubernetes.look_by(client, Settings())}
    assert found[check].state == state
    assert refused[1] in found[check].says


async def test_an_old_api_an_administrators_account_and_a_quota_that_is_used_up_are_said() -> None:
    quota = {
        "metadata": {"name": "gpus"},
        "status": {"hard": {"pods": "10", "limits.cpu": "4"}, "used": {"pods": "10", "limits.cpu": "500m"}},
    }
    async with api({*rights(), ("*", "*")}, minor="29+", quotas=[quota]) as client:
        found = {one.check: one for one in await kubernetes.look_by(client, Settings())}
    assert found["kubernetes"].state == "fail"
    assert found["rights"].state == "warn"
    assert (found["quotas"].state, found["quotas"].says) == ("warn", "gpus: pods 10 of 10")


async def test_an_api_that_is_away_is_one_finding() -> None:
    (nobody,) = free_ports(1)
    async with k8s.client.ApiClient(k8s.client.Configuration(host=f"http://127.0.0.1:{nobody}")) as client:
        found = await kubernetes.look_by(client, Settings())
    assert states(found) == {"kubernetes": "fail"}


def test_the_rights_are_those_of_the_docs() -> None:
    text = (SOURCE_FOLDER / "docs" / "operations.md").read_text()
    block = next(one for one in text.split("```yaml")[1:] if "kind: Role" in one).split("```")[0]
    rules = [rule for document in yaml.safe_load_all(block) for rule in document["rules"]]
    written = {(rule["apiGroups"][0], name): set(rule["verbs"]) for rule in rules for name in rule["resources"]}
    assert written == {(one.group, one.resource): set(one.verbs) for one in kubernetes.RIGHTS}


def test_quantities_are_numbers() -> None:
    assert [kubernetes.amount(one) for one in ("500m", "2", "3Gi", "1k")] == [0.5, 2.0, 3 * 2.0**30, 1000.0]


class Refusing:
    """A client of moto's one of whose calls is not allowed."""

    def __init__(self, client: Any, refused: str) -> None:
        self._client = client
        self._refused = refused

    def __getattr__(self, name: str) -> Any:
        if name != self._refused:
            return getattr(self._client, name)

        def refuse(**_asked: Any) -> None:
            raise ClientError({"Error": {"Code": "UnauthorizedOperation", "Message": "no"}}, name)

        return refuse


def clients(refused: str = "") -> Any:
    make: Any = boto3.client
    keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
    return lambda service, region: Refusing(make(service, region_name=region, **keys), refused)


async def test_ec2_is_asked_by_dry_runs_and_launches_nothing() -> None:
    with mock_aws():
        clients()("iam", "us-east-1").create_instance_profile(InstanceProfileName="sskai-pod")
        found = {one.check: one for one in await ec2.look(Settings.model_validate(EC2), clients())}
        assert clients()("ec2", "us-east-1").describe_instances()["Reservations"] == []
    for action in ("DescribeInstances", "DescribeAvailabilityZones", "CreateLaunchTemplate", "RunInstances"):
        assert found[f"us-east-1 {action}"].state == "ok", found[f"us-east-1 {action}"]
    assert found["machines' own rights"].state == "skipped"


async def test_an_action_that_is_not_allowed_is_named() -> None:
    with mock_aws():
        found = {one.check: one for one in await ec2.look(Settings.model_validate(EC2), clients("run_instances"))}
    assert (found["us-east-1 RunInstances"].state, found["us-east-1 RunInstances"].mend) == ("fail", ec2.POLICY)
    assert found["us-east-1 DescribeInstances"].state == "ok"


async def test_what_ec2_cannot_do_without_is_named_before_anything_is_asked() -> None:
    found = await cluster.look(Settings(cluster="ec2"))
    assert states(found) == {"settings": "fail"}
    assert "SSKAI_EC2_REGIONS" in found[0].says


def test_a_quota_of_nothing_is_said_and_one_that_cannot_be_read_is_skipped() -> None:
    class Quotas:
        def get_service_quota(self, **asked: str) -> Any:
            if asked["QuotaCode"] == "L-3819A6DF":
                return {"Quota": {"Value": 0.0}}
            raise ClientError({"Error": {"Code": "AccessDeniedException"}}, "GetServiceQuota")

    said = Findings("cluster")
    for code, what in ec2.QUOTAS.items():
        ec2._quota(said, lambda _service, _region: Quotas(), "us-east-1", code, what)
    assert [one.state for one in said.found] == ["skipped", "warn"]
    assert json.dumps([one.says for one in said.found]).count("vCPUs") == 2


async def test_a_local_cluster_without_its_cloud_is_said() -> None:
    (nobody,) = free_ports(1)
    assert "SSKAI_CLOUD_URL is not set" in (await cluster.look(Settings(cloud_url=None)))[0].says
    away = await cluster.look(Settings(cloud_url=f"http://127.0.0.1:{nobody}"))
    assert states(away) == {"local": "fail", "quotas": "skipped"}
