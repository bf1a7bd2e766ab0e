"""The real scheduler on the real Kubernetes: its processes, and a world around them that submits jobs and plans them.

`JobLog` writes down which Jobs Kubernetes ever had, and when: it hears of each from the API itself, not from us.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx2
from google.protobuf.message import Message

from services.scheduler import loops
from sskai import bus, contract
from sskai.cluster import kubernetes_manifests as manifests
from sskai.events import v1 as events
from sskai.testing import envelope, fresh_database, wait_for
from tests.real.namespace import Namespace
from tests.scheduler.chaos_parts import Replica, wait_ready

TENANT = "tenant_real"
KARPENTER_SECONDS = 0.2
SILENCE_SECONDS = 5.0  # of a watch, which then goes on where it was: so soon does it notice that it is closed
STEPS, STEP_SECONDS = 1000, 36.0
ZONES = ("use1-az1", "use1-az2", "use1-az4")


@dataclass(frozen=True, slots=True)
class Created:
    """One Job that Kubernetes had."""

    job_id: str
    attempt: int
    name: str
    uid: str
    at: float  # monotonic, when we heard of it


class JobLog:
    """All Jobs that were made in a namespace since then."""

    def __init__(self, namespace: Namespace) -> None:
        self.created: list[Created] = []
        self._client = namespace.plane.client("token-of-admin")
        self._path = f"{namespace.path('/apis/batch/v1')}/jobs"
        self._stopping = False
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def of(self, job_id: str) -> list[Created]:
        return [one for one in list(self.created) if one.job_id == job_id]

    def close(self) -> None:
        self._stopping = True
        self._client.close()
        self._thread.join(10)

    def _read(self) -> None:
        version = ""
        with suppress(httpx2.HTTPError, RuntimeError):  # closed
            version = self._client.get(self._path).json()["metadata"]["resourceVersion"]
        while not self._stopping:
            query = {"watch": "true", "resourceVersion": version}
            with (
                suppress(httpx2.HTTPError, RuntimeError),
                self._client.stream("GET", self._path, params=query, timeout=SILENCE_SECONDS) as lines,
            ):
                for line in lines.iter_lines():
                    version = self._take(json.loads(line))

    def _take(self, event: dict[str, object]) -> str:
        metadata = event["object"]["metadata"]  # type: ignore[index]
        if event["type"] == "ADDED":
            labels = metadata["labels"]
            self.created.append(
                Created(
                    labels[manifests.JOB_ID],
                    int(labels[manifests.ATTEMPT]),
                    metadata["name"],
                    metadata["uid"],
                    time.monotonic(),
                )
            )
        return str(metadata["resourceVersion"])


class Scheduling:
    """Use `scheduling()`."""

    def __init__(self, folder: Path, bootstrap: str, database_url: str, namespace: Namespace, replicas: int) -> None:
        self.namespace = namespace
        self.told: list[Message] = []
        self.jobs = JobLog(namespace)
        self._ids: set[str] = set()
        self._publisher = bus.Publisher(bootstrap, "world")
        topics = {contract.topic_of(kind) for kind in (events.JobSucceeded, events.AttemptStarted, events.MachineLost)}
        self._consumer = bus.Consumer(bootstrap, "world", topics, self._take, self._publisher)
        self._stopping = asyncio.Event()
        kubeconfig = namespace.plane.kubeconfig(folder / "kubeconfig", namespace.token)
        environment = {
            "SSKAI_KAFKA_BOOTSTRAP": bootstrap,
            "SSKAI_DATABASE_URL": database_url,
            "SSKAI_CLUSTER": "kubernetes",
            "SSKAI_NAMESPACE": namespace.name,
            "SSKAI_MAX_RUNNING_JOBS_PER_TENANT": "10000",
            "KUBECONFIG": str(kubeconfig),
        }
        self.replicas = [Replica(number, folder, environment, loops.LEASE_SECONDS) for number in range(replicas)]
        self._tasks = [
            asyncio.create_task(self._consumer.run(self._stopping)),
            asyncio.create_task(self._provide_nodes()),
        ]

    async def begin(self) -> None:
        await asyncio.to_thread(wait_ready, self.replicas)
        await asyncio.wait_for(self._consumer.ready.wait(), 60)

    async def submit(self) -> str:
        """A job of ten hours, and its plan."""
        job_id = contract.new_id("job")
        spec = events.JobSpec(kind="finetune", name="real", model=events.ModelRef(model_id="tiny", method="lora"))
        spec.spot_policy = events.SPOT_POLICY_SPOT
        submitted = events.JobSubmitted(job_id=job_id, tenant_id=TENANT, spec=spec, submitted_at=datetime.now(UTC))
        await self.publish(submitted, plan(job_id, 0))
        return job_id

    async def publish(self, *messages: Message) -> None:
        await self._publisher.publish_all([envelope(message, source="world") for message in messages])

    async def at_work(self) -> list[Replica]:
        """The replicas that serve, as soon as one does."""

        async def look() -> list[Replica]:
            serves = await asyncio.gather(*(asyncio.to_thread(one.ready) for one in self.replicas))
            return [one for one, ready in zip(self.replicas, serves, strict=True) if ready]

        return await wait_for(look, limit_seconds=60, pause_seconds=0.1)

    async def node_of(self, job_name: str) -> str:
        [pod] = await asyncio.to_thread(self.namespace.pods, job_name)
        return str(pod["spec"]["nodeName"])

    async def end(self) -> None:
        for replica in self.replicas:
            replica.end()
        self._stopping.set()
        self._tasks[1].cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._publisher.stop()
        self.jobs.close()

    async def _provide_nodes(self) -> None:
        while True:
            await asyncio.to_thread(self.namespace.add_nodes_for_waiting_pods)
            await asyncio.sleep(KARPENTER_SECONDS)

    async def _take(self, incoming: bus.Incoming) -> None:
        """The optimizer's part: a plan for who was requeued."""
        told = contract.decode(incoming.value, incoming.headers)
        if told.id in self._ids:
            return
        self._ids.add(told.id)
        self.told.append(told.message)
        if isinstance(told.message, events.JobRequeued):
            await self.publish(plan(told.message.job_id, told.message.attempt))


def plan(job_id: str, after_attempt: int) -> events.PlanProposed:
    """Three spot zones, the same price."""
    return events.PlanProposed(
        job_id=job_id,
        tenant_id=TENANT,
        plan_id=f"plan_{job_id}_{after_attempt}",
        after_attempt=after_attempt,
        profile=events.WorkProfile(total_steps=STEPS, batch_size=8, sequence_length=128),
        candidates=[_candidate(zone) for zone in ZONES],
        checkpoint_interval_steps=10,
        proposed_at=datetime.now(UTC),
    )


def _candidate(zone: str) -> events.Candidate:
    hours = STEPS * STEP_SECONDS / 3600
    return events.Candidate(
        placement=events.Placement(
            cloud="aws",
            region="us-east-1",
            zone=zone,
            instance_type="m5.large",
            capacity_type=events.CAPACITY_TYPE_SPOT,
            price_usd_per_hour=0.04,
            on_demand_price_usd_per_hour=0.1,
            vcpus=2,
            memory_gib=8,
        ),
        step_seconds=events.Estimate(expected=STEP_SECONDS),
        hours=events.Estimate(expected=hours),
        total_usd=events.Estimate(expected=hours * 0.04),
        micro_batch_size=4,
    )


@asynccontextmanager
async def scheduling(
    folder: Path, bootstrap: str, postgres: str, namespace: Namespace, *, replicas: int = 1
) -> AsyncIterator[Scheduling]:
    """Up and ready; nothing of it is left afterwards but the namespace."""
    async with fresh_database(postgres, "scheduler") as database:
        world = Scheduling(folder, bootstrap, database.url, namespace, replicas)
        try:
            await world.begin()
            yield world
        finally:
            await world.end()
