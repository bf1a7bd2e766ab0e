"""EC2 as moto plays it, and beside it what moto lacks: client tokens, all-or-none, denials, faults, late lists."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import boto3
from botocore.exceptions import ClientError, EndpointConnectionError
from moto.ec2.models import ec2_backends

Thing = dict[str, Any]
ACCOUNT = "123456789012"
PARAMETER = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-{architecture}"  # one that moto knows


@cache
def client(service: str, region: str = "us-east-1") -> Any:
    """Made once: reading EC2's description takes a good part of a second."""
    make: Any = boto3.client
    return make(service, region_name=region, aws_access_key_id="testing", aws_secret_access_key="testing")


def error(code: str, message: str = "", status: int = 400) -> ClientError:
    answer = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "Operation")


class Ec2Double:
    """Give `clients` to the cluster."""

    def __init__(self) -> None:
        self.fails: dict[str, list[Exception]] = {}  # by method: raised instead of the next calls
        self.loses_replies: set[str] = set()  # methods whose next call happens, and whose answer does not arrive
        self.away = False
        self.calls: list[tuple[str, str]] = []  # method and region
        self.requests: list[Thing] = []  # of run_instances
        self.hidden: set[str] = set()  # instances that lists do not show yet
        self.notices = 0
        self.consoles: dict[str, str] = {}  # what instances printed
        self._tokens: dict[str, tuple[Thing, Thing]] = {}

    def clients(self, service: str, region: str) -> Any:
        return _Client(self, client(service, region), region)

    def fail(self, method: str, *errors: Exception) -> None:
        self.fails.setdefault(method, []).extend(errors)

    def instances(self, region: str = "us-east-1") -> list[Thing]:
        groups = client("ec2", region).describe_instances()["Reservations"]
        return [one for group in groups for one in group["Instances"]]

    def alive(self, region: str = "us-east-1") -> list[Thing]:
        return [one for one in self.instances(region) if one["State"]["Name"] in ("pending", "running")]

    def tag(self, instance_id: str, region: str = "us-east-1", **tags: str) -> None:
        """As the machine itself does it: sskai:NAME, dashes for underscores."""
        told = [{"Key": f"sskai:{name.replace('_', '-')}", "Value": value} for name, value in tags.items()]
        client("ec2", region).create_tags(Resources=[instance_id], Tags=told)

    def reclaim(self, instance_id: str, region: str = "us-east-1") -> None:
        """The spot market takes the machine."""
        client("ec2", region).terminate_instances(InstanceIds=[instance_id])
        instance = ec2_backends[ACCOUNT][region].get_instance(instance_id)
        instance._reason = "Server.SpotInstanceTermination"

    def before(self, method: str, region: str) -> None:
        self.calls.append((method, region))
        if self.away:
            raise EndpointConnectionError(endpoint_url="https://ec2.amazonaws.com")
        if self.fails.get(method):
            raise self.fails[method].pop(0)

    def run_instances(self, really: Callable[..., Thing], arguments: Thing) -> Thing:
        self.requests.append(arguments)
        token = arguments["ClientToken"]
        if token in self._tokens:
            before, answer = self._tokens[token]
            if before != arguments:
                raise error("IdempotentParameterMismatch", "the token was used with other parameters")
            return answer
        answer = really(**arguments)
        self._tokens[token] = (arguments, answer)
        return answer


class _Client:
    def __init__(self, double: Ec2Double, really: Any, region: str) -> None:
        self._double, self._really, self._region = double, really, region

    def get_paginator(self, name: str) -> Any:
        self._double.before(name, self._region)
        pages = self._really.get_paginator(name)
        hidden = self._double.hidden

        class Paginator:
            def paginate(self, **arguments: Any) -> list[Thing]:
                found = list(pages.paginate(**arguments))
                for page in found:
                    for group in page["Reservations"]:
                        group["Instances"] = [one for one in group["Instances"] if one["InstanceId"] not in hidden]
                return found

        return Paginator()

    def __getattr__(self, name: str) -> Any:
        really = getattr(self._really, name)

        def call(**arguments: Any) -> Any:
            self._double.before(name, self._region)
            if name == "get_console_output":
                return {"Output": self._double.consoles[arguments["InstanceId"]]}
            answer = self._double.run_instances(really, arguments) if name == "run_instances" else really(**arguments)
            if name in self._double.loses_replies:
                self._double.loses_replies.remove(name)
                raise EndpointConnectionError(endpoint_url="https://ec2.amazonaws.com")
            return answer

        return call
