"""Three of every service in one consumer group each, on 12 partitions; a third of them is killed while jobs run."""

from __future__ import annotations

import json
import os
import re
import signal
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest

from sskai import contract
from sskai.broker_admin import connected
from sskai.client import Client
from sskai.database import SERVICES, plain_url
from sskai.local import parts, stack
from sskai.local.layout import Layout
from sskai.local.processes import Child, free_ports
from sskai.testing import wait_for
from tests import tiny_model
from tests.journeys.conftest import Stack, tiny_model_rows

pytestmark = [pytest.mark.journey, pytest.mark.heavy, pytest.mark.timeout(1200)]

PARTITIONS, REPLICAS, JOBS = 12, 3, 9
START_SECONDS = 240.0
CHANGES = {"SSKAI_TOPIC_PARTITIONS": str(PARTITIONS), "SSKAI_PATIENCE_SECONDS": "5", "SSKAI_TRAINER_THREADS": "1"}


class Replicated(Stack):
    """The embedded stack, whose supervisor runs the first of each service, and the two others of each."""

    others: dict[tuple[str, int], tuple[Child, int]]

    def ports(self, service: str) -> list[int]:
        first = self.state.parts[service].port
        assert first is not None
        return [first, *(port for (name, _), (_, port) in self.others.items() if name == service)]

    def handled(self, service: str) -> list[int]:
        """Events that each replica that lives has handled."""
        return [_handled(port) for port in self.ports(service)]


def _handled(port: int) -> int:
    text = httpx2.get(f"http://127.0.0.1:{port}/metrics", timeout=10).text
    return sum(
        int(float(one)) for one in re.findall(r'^sskai_events_handled_total\{.*"handled".*\} (\S+)$', text, re.M)
    )


@pytest.fixture(scope="module")
def replicated() -> Iterator[Replicated]:
    with tempfile.TemporaryDirectory(prefix="sskai-replicas-") as folder, pytest.MonkeyPatch.context() as patched:
        Path(folder).chmod(0o755)  # the database runs as a user of its own
        home = Path(folder) / "home"
        for name, value in CHANGES.items():
            patched.setenv(name, value)
        found = Replicated(home, stack.up(home))
        found.others = {}
        try:
            _start_others(found)
            yield found
        finally:
            for child, _ in found.others.values():
                child.stop()
            stack.down(home)


def _start_others(found: Replicated) -> None:
    makers = parts.services(Layout.read(found.home))
    wanted = [(service, number) for service in SERVICES for number in range(1, REPLICAS)]
    for (service, number), port in zip(wanted, free_ports(len(wanted)), strict=True):
        program = makers[service]()
        own = {"SSKAI_PORT": str(port), "SSKAI_INSTANCE": str(number)}
        program = replace(
            program,
            name=f"{service}-{number}",
            log=parts.log(found.home, f"{service}-{number}"),
            ready=partial(parts.answers_ok, f"http://127.0.0.1:{port}/readyz"),
            environment={**program.environment, **own},
        )
        child = Child.spawn(program)
        found.others[service, number] = (child, port)
        child.wait_ready(START_SECONDS)


async def _members(found: Replicated) -> dict[str, int]:
    async with connected(found.state.environment["SSKAI_KAFKA_BOOTSTRAP"]) as admin:
        groups = await admin.groups(SERVICES)
    return {name: group.members for name, group in groups.items()}


async def _lag(found: Replicated) -> int:
    async with connected(found.state.environment["SSKAI_KAFKA_BOOTSTRAP"]) as admin:
        groups, ends = await admin.groups(SERVICES), await admin.ends([*contract.TOPICS, contract.OTLP_TOPIC])
    return sum(ends[at] - offset for group in groups.values() for at, offset in group.committed.items())


async def test_jobs_are_done_once_by_three_of_each_though_one_of_each_dies(
    replicated: Replicated, tmp_path: Path
) -> None:
    await _has_members(replicated, REPLICAS)
    async with connected(replicated.state.environment["SSKAI_KAFKA_BOOTSTRAP"]) as admin:
        topics = await admin.topics(contract.TOPICS)
    assert {topic.partitions for topic in topics.values()} == {PARTITIONS}

    doors = [Client(f"http://127.0.0.1:{port}", replicated.key) for port in replicated.ports("gateway")]
    model = doors[0].models.upload(tiny_model.build(tmp_path / "tiny"), name="tiny-llama")["id"]
    rows = tmp_path / "chats.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in tiny_model_rows()))
    doors[1].datasets.upload(rows, name="chats")
    jobs = [doors[number % REPLICAS].jobs.create(_job(str(model), number))["id"] for number in range(JOBS)]

    await wait_for(lambda: _running(doors[0], jobs) > 0, limit_seconds=180)
    before = {service: replicated.handled(service) for service in SERVICES}
    for service in SERVICES:
        child, _ = replicated.others.pop((service, 1))
        os.kill(child.identity.pid, signal.SIGKILL)
        child.stop()

    left = [doors[0], doors[2]]
    ended = [left[number % 2].jobs.wait(job, limit_seconds=600, poll_seconds=1) for number, job in enumerate(jobs)]
    assert {job["state"] for job in ended} == {"succeeded"}, ended
    for number, job in enumerate(jobs):
        assert int(left[number % 2].receipts.wait(job)["paid_nano_usd"]) > 0
        versions = left[number % 2].models.get(f"bot-{number}@1")
        assert versions["job_id"] == job

    await _has_members(replicated, REPLICAS - 1)
    await _is_quiet(replicated)
    machines = Counter(one["tags"]["sskai-job"] for one in replicated.cloud.machines())
    assert set(machines.values()) == {1}, machines
    once = ("AttemptStarted", "AttemptFinished", "JobSucceeded", "ModelVersionReady", "ReceiptIssued")
    assert _logged(replicated, once) == dict.fromkeys(once, JOBS)
    # The work was shared. Of the few keys of so few jobs a third replica may get none at first; of two each has some.
    for service in ("gateway", "scheduler", "monitor", "optimizer"):
        assert sum(map(bool, before[service])) >= 2, before
        assert all(replicated.handled(service)), service


async def _has_members(found: Replicated, count: int) -> None:
    async def reached() -> bool:
        return await _members(found) == dict.fromkeys(SERVICES, count)

    await wait_for(reached, limit_seconds=60)


async def _is_quiet(found: Replicated) -> None:
    async def reached() -> bool:
        return await _lag(found) == 0 and all(one["state"] == "gone" for one in found.cloud.machines())

    await wait_for(reached, limit_seconds=60)


def _logged(found: Replicated, names: tuple[str, ...]) -> dict[str, int]:
    """How many events of each type the gateway has logged."""
    with psycopg.connect(plain_url(found.state.environment["SSKAI_DATABASE_URL"])) as connection:
        rows = connection.execute(
            "SELECT split_part(type, '.', 4), count(*) FROM gateway.events WHERE split_part(type, '.', 4) = ANY(%s) "
            "GROUP BY 1",
            [list(names)],
        ).fetchall()
    return {str(name): int(count) for name, count in rows}


def _running(door: Client, jobs: list[str]) -> int:
    return sum(door.jobs.get(job)["state"] == "running" for job in jobs)


def _job(model: str, number: int) -> dict[str, Any]:
    return {
        "kind": "finetune",
        "name": f"bot-{number}",
        "model": {"base": model, "method": "lora", "rank": 4},
        "dataset": {"uri": "dataset://chats/1", "eval_fraction": 0.2},
        "hyperparameters": {"max_steps": 40, "learning_rate": 2e-3},
        "budget": {"total_usd": 1},
    }
