"""EC2 without a cluster: an attempt is an instance (a gang: several) that runs the pod and terminates itself.

Asked by boto3 in threads. The instances' tags are all the memory there is: what was launched is found again by them.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import boto3
import structlog
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from sskai import failpoints
from sskai.cluster import (
    Cluster,
    ClusterUnavailableError,
    LogPage,
    Machine,
    NoCapacityError,
    NoLogError,
    Observation,
    Pod,
    PodState,
    RefusedError,
)
from sskai.cluster import ec2_requests as requests
from sskai.cluster.settings import Settings
from sskai.objects import Objects, ObjectsUnavailableError

log = structlog.get_logger()

Thing = dict[str, Any]
Clients = Callable[[str, str], Any]  # a boto3 client for (service, region); may be called from any thread

OBSERVE_SECONDS = 2.0  # what was listed is good for so long: describing is rate-limited for the whole account
FACTS_SECONDS = 3600.0  # zones and images change rarely
ENV_URL_SECONDS = 3600
PARAMETERS_PER_QUESTION = 10
PAGE = 500
FOUND_SECONDS = 20.0  # how long to look for what a client token says was launched


def aws_clients(settings: Settings) -> Clients:
    """Clients with short timeouts and few tries: the loops try again."""
    lock = threading.Lock()  # making a client is not thread-safe; using one is
    known: dict[tuple[str, str], Any] = {}
    make: Any = boto3.client
    config = Config(
        connect_timeout=3,
        read_timeout=20,
        retries={"max_attempts": 3, "mode": "standard"},
        max_pool_connections=20,
        user_agent_extra="sskai",
    )

    def client(service: str, region: str) -> Any:
        with lock:
            if (service, region) not in known:
                url = settings.ec2_endpoint_url or None
                known[service, region] = make(service, region_name=region, endpoint_url=url, config=config)
            return known[service, region]

    return client


@failpoints.boundary("cluster", ClusterUnavailableError, of=Cluster)
class Ec2Cluster:
    """Raises ValueError when the settings leave out what it cannot do without."""

    def __init__(self, settings: Settings, clients: Clients | None = None) -> None:
        if missing := settings.missing_for_ec2():
            raise ValueError("SSKAI_CLUSTER=ec2: " + "; ".join(missing))
        self._settings = settings
        self._clients = clients or aws_clients(settings)
        self._facts: dict[tuple[str, str], tuple[float, Any]] = {}
        self._templates: set[tuple[str, str]] = set()
        # Launched by us and perhaps not listed yet: what is said of it until then.
        self._launched: dict[str, tuple[float, Observation]] = {}
        self._deleted: set[str] = set()
        self._seen: tuple[float, list[Observation]] | None = None
        self._looking = asyncio.Lock()

    async def launch(self, pod: Pod) -> Machine:
        region = pod.placement.region
        if region not in self._settings.ec2_regions:
            raise RefusedError(f"placement.region {region} is not in SSKAI_EC2_REGIONS")
        found = await self._of_pod(pod, region)
        if not found:
            found = await self._run(pod, region)
        alive = [one for one in found if requests.is_alive(one)]
        found = alive if pod.machines == 1 and alive else found
        if alive and len(found) < pod.machines:
            await self._terminate(region, alive)
            raise NoCapacityError(f"{len(found)} of {pod.machines} machines came; they were given back")
        if pod.machines > 1 and alive:
            await self._introduce(region, found)
        machine_id = found[0]["InstanceId"] if pod.machines == 1 else pod.name
        seen = Observation(machine_id, pod.job_id, pod.attempt, PodState.RUNNING)
        self._launched[machine_id] = (time.monotonic(), seen)
        self._seen = None
        members = tuple(one["InstanceId"] for one in found) if pod.machines > 1 else ()
        return Machine(machine_id, min(one["LaunchTime"] for one in found), members)

    async def _run(self, pod: Pod, region: str) -> list[Thing]:
        settings = self._settings
        await self._check_secrets(pod, region)
        image = await self._image(region, requests.image_name(settings, pod.placement.instance_type))
        template = await self._template(region, image)
        data = requests.user_data(pod, settings, region)
        if len(data) > requests.MAX_USER_DATA_BYTES:
            data = requests.user_data(pod, settings, region, await self._env_url(pod))
        where = await self._where(pod, region)
        request = requests.run_instances(
            pod, settings, template=template, data=data, where=where, now=datetime.now(UTC)
        )
        try:
            answer = await self._ask("ec2", region, "run_instances", **request)
        except _MismatchError as error:
            # The same attempt was launched before, and told a little differently (a trace, what is left of the budget).
            return await self._listed(pod, region, str(error))
        except ClusterUnavailableError:
            self._templates.discard((region, template))  # perhaps somebody deleted it
            raise
        return sorted(answer["Instances"], key=lambda one: int(one.get("AmiLaunchIndex", 0)))

    async def _listed(self, pod: Pod, region: str, why: str) -> list[Thing]:
        ends = time.monotonic() + FOUND_SECONDS
        while time.monotonic() < ends:
            if found := await self._of_pod(pod, region):
                return found
            await asyncio.sleep(0.5)
        raise ClusterUnavailableError(f"{pod.name} was launched, and is not listed yet: {why}")

    async def _of_pod(self, pod: Pod, region: str) -> list[Thing]:
        return await self._describe(region, {f"tag:{requests.POD}": pod.name})

    async def _introduce(self, region: str, members: list[Thing]) -> None:
        """Rank 0's address, where every member looks for it: its own tags."""
        tag = {"Key": requests.MASTER, "Value": members[0]["PrivateIpAddress"]}
        ids = [one["InstanceId"] for one in members]
        await self._ask("ec2", region, "create_tags", Resources=ids, Tags=[tag])

    async def _check_secrets(self, pod: Pod, region: str) -> None:
        """A machine that finds a secret missing has cost money already. Values are not read (nor decrypted) here."""
        names = sorted(requests.secret_parameters(pod, self._settings).values())
        for at in range(0, len(names), PARAMETERS_PER_QUESTION):
            some = names[at : at + PARAMETERS_PER_QUESTION]
            answer = await self._ask("ssm", region, "get_parameters", Names=some, WithDecryption=False)
            if missing := answer["InvalidParameters"]:
                raise RefusedError(f"secrets are missing: put {', '.join(missing)} into SSM's parameters of {region}")

    async def _env_url(self, pod: Pod) -> str:
        """The pod's environment as an object, for a machine whose user data it does not fit into."""

        def store() -> str:
            objects = Objects.from_settings(self._settings)
            key = f"jobs/{pod.job_id}/boot/{pod.name}.sh"
            objects.put_bytes(key, requests.environment(pod, self._settings).encode())
            return objects.presigned_get(key, ENV_URL_SECONDS)

        try:
            return await asyncio.to_thread(store)
        except ObjectsUnavailableError as error:
            raise ClusterUnavailableError(f"the object store did not take the pod's environment: {error}") from error

    async def _image(self, region: str, name: str) -> str:
        if name.startswith("ami-"):
            return name

        async def ask() -> str:
            answer = await self._ask("ssm", region, "get_parameter", Name=name)
            return str(answer["Parameter"]["Value"])

        return str(await self._fact(region, name, ask))

    async def _where(self, pod: Pod, region: str) -> dict[str, str]:
        """Of a zone's id the subnet that the settings name, else the name that this account has for it."""
        subnets, zone = self._settings.ec2_subnets, pod.placement.zone

        async def ask() -> dict[str, str]:
            answer = await self._ask("ec2", region, "describe_availability_zones")
            return {one["ZoneId"]: one["ZoneName"] for one in answer["AvailabilityZones"]}

        names: dict[str, str] = await self._fact(region, "zones", ask)
        if zone not in ("", "*") and zone not in names and zone not in names.values():
            raise RefusedError(f"placement.zone {zone} is not one of {region}'s: {', '.join(sorted(names))}")
        if subnets:
            usable = [name for name in sorted(names) if name in subnets and zone in ("", "*", name, names[name])]
            if not usable:
                raise RefusedError(f"SSKAI_EC2_SUBNETS has no subnet for the zone {zone} of {region}; add one")
            return {"SubnetId": subnets[usable[0]]}
        return {} if zone in ("", "*") else {"AvailabilityZone": names.get(zone, zone)}

    async def _fact(self, region: str, name: str, ask: Callable[[], Any]) -> Any:
        known = self._facts.get((region, name))
        if known is None or time.monotonic() - known[0] > FACTS_SECONDS:
            known = self._facts[region, name] = (time.monotonic(), await ask())
        return known[1]

    async def _template(self, region: str, image: str) -> str:
        name, content = requests.launch_template(self._settings, region, image)
        if (region, name) not in self._templates:
            try:
                await self._ask(
                    "ec2", region, "create_launch_template", LaunchTemplateName=name, LaunchTemplateData=content
                )
            except _ExistsError:
                log.debug("the launch template is there already", name=name, region=region)
            self._templates.add((region, name))
        return name

    async def observe(self) -> list[Observation]:
        async with self._looking, _without_verdict():
            if self._seen is None or time.monotonic() - self._seen[0] > OBSERVE_SECONDS:
                began = time.monotonic()
                self._seen = (began, await self._look(began))
            return self._seen[1]

    async def _look(self, began: float) -> list[Observation]:
        found: list[Observation] = []
        regions = self._settings.ec2_regions
        owner = {f"tag:{requests.OWNER}": self._settings.ec2_owner}
        listed = await asyncio.gather(*(self._describe(region, owner) for region in regions))
        for region, instances in zip(regions, listed, strict=True):
            for machine_id, members in requests.machines(instances, self._settings.program).items():
                self._launched.pop(machine_id, None)
                seen = requests.observe(machine_id, members, datetime.now(UTC))
                alive = [one for one in members if requests.is_alive(one)]
                if seen.state is PodState.GONE and alive:
                    # A gang that has lost a member is none; the rest would only cost.
                    await self._terminate(region, alive)
                if alive or machine_id not in self._deleted:
                    found.append(seen)
        known = {
            machine_id for instances in listed for machine_id in requests.machines(instances, self._settings.program)
        }
        self._deleted &= known
        recent = {name: one for name, one in self._launched.items() if began - one[0] < requests.LISTED_SECONDS}
        self._launched = recent
        return found + [seen for _, seen in recent.values()]

    async def drain(self, machine_id: str) -> None:
        """A tag that the machine itself looks for every 2 s (ec2_boot.sh), and answers with SIGTERM to the pod."""
        async with _without_verdict():
            for region, instances in (await self._find(machine_id)).items():
                alive = [one for one in instances if requests.is_alive(one)]
                asked = [one["InstanceId"] for one in alive if requests.DRAIN not in requests.tags_of(one)]
                if asked:
                    tag = {"Key": requests.DRAIN, "Value": datetime.now(UTC).isoformat(timespec="seconds")}
                    await self._ask("ec2", region, "create_tags", Resources=asked, Tags=[tag])

    async def delete(self, machine_id: str) -> None:
        async with _without_verdict():
            for region, instances in (await self._find(machine_id)).items():
                await self._terminate(region, [one for one in instances if requests.is_alive(one)])
                if instances:
                    self._deleted.add(machine_id)
        self._launched.pop(machine_id, None)
        self._seen = None

    async def log(self, machine_id: str, *, tail: int, after: str = "") -> LogPage:
        """The last 64 KiB of the machine's console, boot included: EC2 has no more. It comes up to a few minutes late
        where the machine is not of the Nitro system, and is kept for about an hour after the machine's end."""
        found = [(region, one) for region, group in (await self._find(machine_id)).items() for one in group]
        if not found:
            raise NoLogError(f"EC2 no longer knows {machine_id}, and keeps no log of it")
        region, first = found[0]
        async with _without_verdict():
            try:
                answer = await self._ask(
                    "ec2", region, "get_console_output", InstanceId=first["InstanceId"], Latest=True
                )
            except RefusedError:  # only the Nitro system tells the latest
                answer = await self._ask("ec2", region, "get_console_output", InstanceId=first["InstanceId"])
        return requests.console_page(answer.get("Output") or "", tail, after)

    async def _find(self, machine_id: str) -> dict[str, list[Thing]]:
        """A machine's instances, by region."""
        name = "instance-id" if machine_id.startswith("i-") else f"tag:{requests.POD}"
        regions = self._settings.ec2_regions
        found = await asyncio.gather(*(self._describe(region, {name: machine_id}) for region in regions))
        return dict(zip(regions, found, strict=True))

    async def _terminate(self, region: str, instances: list[Thing]) -> None:
        if instances:
            ids = [one["InstanceId"] for one in instances]
            await self._ask("ec2", region, "terminate_instances", InstanceIds=ids)

    async def _describe(self, region: str, having: dict[str, str]) -> list[Thing]:
        """Ours only, in all states: what is terminated is listed for about an hour more."""
        having = having | {f"tag:{requests.OWNER}": self._settings.ec2_owner}
        filters = [{"Name": name, "Values": [value]} for name, value in having.items()]

        def ask(client: Any) -> list[Thing]:
            pages = client.get_paginator("describe_instances").paginate(
                Filters=filters, PaginationConfig={"PageSize": PAGE}
            )
            found = [one for page in pages for group in page["Reservations"] for one in group["Instances"]]
            return sorted(found, key=lambda one: one.get("AmiLaunchIndex", 0))

        found: list[Thing] = await self._in_thread("ec2", region, ask)
        return found

    async def _ask(self, service: str, region: str, method: str, **arguments: Any) -> Any:
        return await self._in_thread(service, region, lambda client: getattr(client, method)(**arguments))

    async def _in_thread(self, service: str, region: str, ask: Callable[[Any], Any]) -> Any:
        """One question; AWS's words into ours."""
        try:
            return await asyncio.to_thread(lambda: ask(self._clients(service, region)))
        except ClientError as error:
            raise _translated(error, region) from error
        except (BotoCoreError, OSError) as error:
            raise ClusterUnavailableError(f"{service} in {region} did not answer: {error!r}") from error


@asynccontextmanager
async def _without_verdict() -> AsyncIterator[None]:
    """Only a launch can be refused: whatever else EC2 will not do (a permission is missing) says nothing about pods."""
    try:
        yield
    except (RefusedError, NoCapacityError) as error:
        raise ClusterUnavailableError(str(error)) from error


class _MismatchError(ClusterUnavailableError):
    """The client token was used for a request that differs."""


class _ExistsError(ClusterUnavailableError):
    """There is one of this name."""


def _translated(error: ClientError, region: str) -> Exception:
    code = str(error.response["Error"]["Code"])
    text = f"EC2 in {region}: {code}: {error.response['Error'].get('Message', '')}"
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") or 0)
    if code == "IdempotentParameterMismatch":
        return _MismatchError(text)
    if code == "InvalidLaunchTemplateName.AlreadyExistsException":
        return _ExistsError(text)
    if code in requests.NO_CAPACITY:
        return NoCapacityError(text)
    if code in requests.UNAVAILABLE or status >= 500:
        return ClusterUnavailableError(text)
    advice = requests.WHAT_TO_DO.get(code, "see the settings SSKAI_EC2_* in docs/operations.md")
    return RefusedError(f"{text}; {advice}")
