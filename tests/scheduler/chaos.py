"""Chaos on the scheduler's processes: kill -9 and SIGSTOP at random, while many short jobs run on a moving market.

Real PostgreSQL, Kafka and simulated cloud; two replicas of the scheduler, so that one that stands still finds on waking
that the other has done its work; pods are real processes (chaos_pod.py). The harness stands for everybody else: it
submits jobs, answers with plans, passes on what pods tell, and tells the cloud's notices. `chaos_checks.violations`
says what must never have happened. All draws come from one seed; the operating system's timing does not.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
from google.protobuf.message import Message

from sskai import broker_admin, bus, contract
from sskai.events import v1 as events
from sskai.local import parts
from sskai.local.kafka import Kafka
from sskai.local.layout import Layout
from sskai.local.postgres import Postgres
from sskai.local.processes import Child
from sskai.testing import envelope, fresh_database, wait_for
from tests.scheduler.chaos_checks import Record, false_recoveries, overlaps, violations
from tests.scheduler.chaos_parts import Door, Replica, wait_ready

TENANT = "tenant_chaos"
REPLICAS = 2
# Of 60 in production: so short that a replica stopped for longer wakes up as a zombie.
LEASE_SECONDS = 2.0
ENDS_LIMIT_SECONDS = 180.0  # after the last fault
ORPHANS_LIMIT_SECONDS = 60.0
TOLD = {
    "progressed": lambda it: events.AttemptProgressed(
        **_whose(it), phase="training", step=it["step"], total_steps=it["total_steps"], step_seconds=0.1
    ),
    "saved": lambda it: events.CheckpointCommitted(**_whose(it), step=it["step"], uri=f"s3://chaos/{it['step']}"),
    "drained": lambda it: events.AttemptDrained(**_whose(it), step=it["step"]),
    "finished": lambda it: events.AttemptFinished(
        **_whose(it), succeeded=True, artifact_uri="s3://chaos/artifact", steps=it["step"]
    ),
}


@dataclass(frozen=True, slots=True)
class Storm:
    """How hard it blows. Means are of exponential draws, in seconds."""

    faults: int
    seed: int = 1
    mean_between_faults: float = 1.0
    stop_seconds: tuple[float, float] = (1.0, 8.0)
    mean_between_interruptions: float = 1.5
    jobs_at_once: int = 6
    steps: tuple[int, int] = (20, 60)


@dataclass(frozen=True, slots=True)
class Report:
    """What was done, and what was found. `orphans_gone_seconds`: from the last job's end to no machine standing."""

    jobs: int
    attempts: int
    kills: int
    stops: int
    interruptions: int
    orphans_gone_seconds: float
    failed_status_calls: int
    relaunches_while_away: int
    violations: list[str]
    overlaps: list[str]  # of them: two attempts of one job at once
    false_recoveries: list[str]


class Chaos:
    """The world around the scheduler. Use `chaos()`."""

    def __init__(self, folder: Path, bootstrap: str, database_url: str, say: Callable[[str], None]) -> None:
        self.folder = folder
        self.record = Record()
        self._say = say
        (folder / "told").mkdir()
        (folder / "home").mkdir()
        layout = Layout.of(folder / "home")
        self._cloud = Child.spawn(parts.infrastructure(layout)["cloud"]())
        self._cloud.wait_ready()
        self.door = Door(layout.url("cloud"))
        self._http = httpx2.AsyncClient(
            base_url=layout.url("cloud"),
            headers={"Authorization": f"Bearer {layout.secrets.cloud_token}"},
            timeout=30,
            # A connection that idles may be closed by the cloud in the moment of the next question.
            limits=httpx2.Limits(max_keepalive_connections=0),
        )
        self._publisher = bus.Publisher(bootstrap, "chaos")
        topics = {
            contract.topic_of(kind) for kind in (events.JobSucceeded, events.AttemptStarted, events.SpendRecorded)
        }
        self._consumer = bus.Consumer(bootstrap, "chaos", topics, self._take, self._publisher)
        self._stopping = asyncio.Event()
        self._offsets: dict[Path, int] = {}
        environment = {
            "SSKAI_KAFKA_BOOTSTRAP": bootstrap,
            "SSKAI_DATABASE_URL": database_url,
            "SSKAI_CLOUD_URL": self.door.url,
            "SSKAI_CLOUD_TOKEN": layout.secrets.cloud_token,
            "SSKAI_METERING_SECONDS": "0.5",
            "SSKAI_PATIENCE_SECONDS": "1",
        }
        self.replicas = [Replica(number, folder, environment, LEASE_SECONDS) for number in range(REPLICAS)]
        self._tasks = [
            asyncio.create_task(self._consumer.run(self._stopping)),
            asyncio.create_task(self._pass_on_what_pods_tell()),
        ]

    async def begin(self) -> None:
        await asyncio.to_thread(wait_ready, self.replicas)
        await asyncio.wait_for(self._consumer.ready.wait(), 30)

    async def submit(self, steps: int) -> str:
        job_id = contract.new_id("job")
        spec = events.JobSpec(kind="finetune", name="chaos", model=events.ModelRef(model_id="tiny", method="lora"))
        spec.spot_policy = events.SPOT_POLICY_SPOT
        now = datetime.now(UTC)
        self.record.submitted[job_id] = steps
        await self._publish(
            events.JobSubmitted(job_id=job_id, tenant_id=TENANT, spec=spec, submitted_at=now), self._plan(job_id, 0)
        )
        return job_id

    async def blow(self, storm: Storm) -> Report:
        """Faults, jobs and interruptions until the faults are over; then everything must come to rest."""
        dice = random.Random(storm.seed)
        before = len(self.record.submitted)
        counts = {"kills": 0, "stops": 0}
        feeding = asyncio.create_task(self._feed(storm, random.Random(storm.seed + 1)))
        market = asyncio.create_task(self._take_machines(storm, random.Random(storm.seed + 2)))
        waking: set[asyncio.Task[None]] = set()
        for number in range(storm.faults):
            await asyncio.sleep(dice.expovariate(1 / storm.mean_between_faults))
            # Mostly a replica that works; now and then one that is only coming up, or that stands still.
            replica = dice.choice(self.replicas if dice.random() < 0.2 else await self._at_work())
            if dice.random() < 0.5 or replica.stopped:
                counts["kills"] += 1
                await asyncio.to_thread(replica.kill)
            else:
                counts["stops"] += 1
                replica.stand_still()
                waking.add(asyncio.create_task(_wake(replica, dice.uniform(*storm.stop_seconds))))
            if (number + 1) % 25 == 0:
                self._say(f"{number + 1}/{storm.faults} faults, {len(self.record.submitted)} jobs")
        feeding.cancel()
        interruptions = await _cancelled(market)
        await asyncio.gather(*waking)
        self._say("the faults are over")
        orphans_gone_seconds = await self._come_to_rest()
        return self._report(before, interruptions, orphans_gone_seconds, **counts)

    async def cloud_away(self, *, failed_calls: int, steps: int, jobs: int = 3) -> Report:
        """The cloud does not answer so many status calls while jobs run: nothing may be concluded from that.

        A job makes ten of its `steps` in a second.
        """
        before = len(self.record.submitted)
        mine = [await self.submit(steps) for _ in range(jobs)]
        await wait_for(lambda: all(self.record.attempts(job_id) for job_id in mine), limit_seconds=60)
        refused_before, self.door.away = self.door.refused, True
        await wait_for(lambda: self.door.refused - refused_before >= failed_calls, limit_seconds=600)
        self.door.away = False
        await wait_for(lambda: all(self.record.ends(job_id) for job_id in mine), limit_seconds=ENDS_LIMIT_SECONDS)
        relaunches = sum(len(self.record.attempts(job_id)) - 1 for job_id in mine)
        orphans_gone_seconds = await self._come_to_rest()
        return self._report(
            before, 0, orphans_gone_seconds, failed=self.door.refused - refused_before, relaunches=relaunches
        )

    async def end(self) -> None:
        """Leave nothing running."""
        for replica in self.replicas:
            replica.end()
        self._stopping.set()
        for machine in await self._machines():
            await self._http.delete(f"/machines/{machine['machine_id']}")
        self._tasks[1].cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._publisher.stop()
        await self._http.aclose()
        self.door.close()
        await asyncio.to_thread(self._cloud.stop)

    async def _at_work(self) -> list[Replica]:
        """The replicas that serve, as soon as one does."""

        async def look() -> list[Replica]:
            moving = [one for one in self.replicas if not one.stopped]
            serves = await asyncio.gather(*(asyncio.to_thread(one.ready) for one in moving))
            return [one for one, ready in zip(moving, serves, strict=True) if ready]

        return await wait_for(look, limit_seconds=60, pause_seconds=0.1)

    async def _feed(self, storm: Storm, dice: random.Random) -> None:
        while True:
            if len(self.record.unended()) < storm.jobs_at_once:
                await self.submit(dice.randint(*storm.steps))
            else:
                await asyncio.sleep(0.1)

    async def _take_machines(self, storm: Storm, dice: random.Random) -> int:
        """The market, until cancelled: how many machines it took. Half of them get a notice."""
        taken = 0
        with suppress(asyncio.CancelledError):
            while True:
                await asyncio.sleep(dice.expovariate(1 / storm.mean_between_interruptions))
                running = [one for one in await self._machines() if one["state"] == "running"]
                if not running:
                    continue
                machine, notice_seconds = dice.choice(running), dice.choice([0.0, dice.uniform(2, 5)])
                url = f"/machines/{machine['machine_id']}/interrupt"
                answer = await self._http.post(url, json={"notice_seconds": notice_seconds})
                if answer.status_code != 200:
                    continue  # gone meanwhile
                taken += 1
                if notice_seconds:
                    await self._publish(
                        events.InterruptionNoticed(
                            machine_id=machine["machine_id"],
                            action="terminate",
                            notice_seconds=notice_seconds,
                            terminates_at=datetime.now(UTC) + timedelta(seconds=notice_seconds),
                        )
                    )
        return taken

    async def _come_to_rest(self) -> float:
        """Every job ends, then every machine goes; seconds that the machines took."""
        with suppress(AssertionError):
            await wait_for(lambda: not self.record.unended(), limit_seconds=ENDS_LIMIT_SECONDS, pause_seconds=0.1)
        ended = time.monotonic()
        with suppress(AssertionError):
            await wait_for(self._nothing_stands, limit_seconds=ORPHANS_LIMIT_SECONDS, pause_seconds=0.1)
        seconds = time.monotonic() - ended
        self.record.standing = [
            f"{one['tags']['sskai-job']} attempt {one['tags']['sskai-attempt']} ({one['pod']['state']})"
            for one in await self._machines()
        ]
        logs = [line for replica in self.replicas for line in replica.log().splitlines()]
        self.record.set_aside = [line[:500] for line in logs if "record set aside" in line]
        # The relay may still have something to tell.
        with suppress(AssertionError):
            await wait_for(lambda: not violations(self.record, self.folder / "jobs"), limit_seconds=10)
        return seconds

    async def _nothing_stands(self) -> bool:
        return not await self._machines()

    async def _machines(self) -> list[dict[str, Any]]:
        machines = (await self._http.get("/machines")).raise_for_status().json()["machines"]
        return [one for one in machines if one["state"] != "gone"]

    def _report(
        self,
        before: int,
        interruptions: int,
        orphans_gone_seconds: float,
        *,
        kills: int = 0,
        stops: int = 0,
        failed: int = 0,
        relaunches: int = 0,
    ) -> Report:
        return Report(
            jobs=len(self.record.submitted) - before,
            attempts=sum(len(self.record.attempts(job_id)) for job_id in list(self.record.submitted)[before:]),
            kills=kills,
            stops=stops,
            interruptions=interruptions,
            orphans_gone_seconds=round(orphans_gone_seconds, 1),
            failed_status_calls=failed,
            relaunches_while_away=relaunches,
            violations=violations(self.record, self.folder / "jobs"),
            overlaps=overlaps(self.record, self.folder / "jobs"),
            false_recoveries=false_recoveries(self.record, self.folder / "jobs"),
        )

    async def _take(self, incoming: bus.Incoming) -> None:
        """The optimizer's part (a plan for who was requeued), and the record of what was told."""
        told = contract.decode(incoming.value, incoming.headers)
        if told.id in self.record.ids:
            return
        self.record.ids.add(told.id)
        message = told.message
        self.record.told.append(message)
        if isinstance(message, events.JobRequeued):
            await self._publish(self._plan(message.job_id, message.attempt))

    def _plan(self, job_id: str, after_attempt: int) -> events.PlanProposed:
        steps = self.record.submitted[job_id]
        return events.PlanProposed(
            job_id=job_id,
            tenant_id=TENANT,
            plan_id=f"plan_{job_id}_{after_attempt}",
            after_attempt=after_attempt,
            profile=events.WorkProfile(total_steps=steps, batch_size=8, sequence_length=128),
            candidates=[_candidate(zone, steps) for zone in ("use1-az1", "use1-az2", "use1-az4")],
            checkpoint_interval_steps=5,
        )

    async def _pass_on_what_pods_tell(self) -> None:
        """What a pod would tell over Kafka itself."""
        while True:
            for path in sorted((self.folder / "told").iterdir()):
                with path.open("rb") as lines:
                    lines.seek(self._offsets.get(path, 0))
                    text = lines.read()
                whole = text[: text.rfind(b"\n") + 1]
                if whole:
                    said = [json.loads(line) for line in whole.splitlines()]
                    await self._publish(*(TOLD[it["kind"]](it) for it in said))
                self._offsets[path] = self._offsets.get(path, 0) + len(whole)
            await asyncio.sleep(0.1)

    async def _publish(self, *messages: Message) -> None:
        await self._publisher.publish_all([envelope(message, source="chaos") for message in messages])


@asynccontextmanager
async def chaos(folder: Path, say: Callable[[str], None] = lambda _text: None) -> AsyncIterator[Chaos]:
    """The world, up and ready, with parts of its own; nothing of it is left afterwards."""
    with Kafka.start() as broker, Postgres.start() as server:
        await broker_admin.create_topics(broker.bootstrap, contract.TOPICS)
        async with fresh_database(server.url, "scheduler") as database:
            world = Chaos(folder, broker.bootstrap, database.url, say)
            try:
                await world.begin()
                yield world
            finally:
                await world.end()


async def _wake(replica: Replica, seconds: float) -> None:
    await asyncio.sleep(seconds)
    if replica.stopped:  # not killed meanwhile
        replica.go_on()


async def _cancelled(task: asyncio.Task[int]) -> int:
    task.cancel()
    return await task


def _whose(it: dict[str, Any]) -> dict[str, Any]:
    return {"job_id": it["job_id"], "tenant_id": TENANT, "attempt": it["attempt"], "at": datetime.now(UTC)}


def _candidate(zone: str, steps: int) -> events.Candidate:
    hours = steps * 0.1 / 3600
    return events.Candidate(
        placement=events.Placement(
            cloud="local",
            region="us-east-1",
            zone=zone,
            instance_type="m5.large",
            capacity_type=events.CAPACITY_TYPE_SPOT,
            price_usd_per_hour=0.04,
            on_demand_price_usd_per_hour=0.1,
            vcpus=2,
            memory_gib=8,
        ),
        step_seconds=events.Estimate(expected=0.1),
        hours=events.Estimate(expected=hours),
        total_usd=events.Estimate(expected=hours * 0.04),
        micro_batch_size=4,
    )
