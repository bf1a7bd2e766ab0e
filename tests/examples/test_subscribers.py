"""The examples of subscribers on the real broker: each event once, others' and unknown ones not, garbage set aside."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from sskai import contract
from sskai.contract import new_id
from sskai.events import v1 as events
from sskai.local.paths import cache_folder
from sskai.testing import envelope

pytestmark = pytest.mark.heavy  # a broker, and programs that start and join a group

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples/subscribers"
LIMIT_SECONDS = 60


async def publish(bootstrap: str, tenant_id: str) -> list[str]:
    """What a subscriber meets; the ids of the events that it must tell, of each job in their order."""
    first, second = (envelope(events.JobHeld(job_id="job_1", tenant_id=tenant_id, detail=word)) for word in "ab")
    other = envelope(events.JobHeld(job_id="job_1", tenant_id="tenant_other"))
    large = envelope(events.SpendRecorded(job_id="job_1", tenant_id=tenant_id, interval=1, amount_nano_usd=2**60 + 1))
    by_hand = new_id("evt")
    headers = {"ce_specversion": "1.0", "ce_source": "by-hand", "ce_type": "sskai.events.v1.JobCancelRequested"}
    strange = {
        b"\xff\xff\xff": {**headers, "ce_id": "garbage"},
        b"\n\x01j": {**headers, "ce_id": "of tomorrow", "ce_type": "sskai.events.v1.JobTeleported"},
        json.dumps({"job_id": "job_1", "tenant_id": tenant_id, "requested_by": "me"}).encode(): {
            **headers,
            "ce_id": by_hand,
            "content-type": "application/json",
        },
    }
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all")
    await producer.start()
    try:
        for one in (first, other, first):
            record = contract.encode(one)
            await producer.send_and_wait(record.topic, record.value, record.key, headers=record.headers)
        for value, named in strange.items():
            encoded = [(name, text.encode()) for name, text in named.items()]
            await producer.send_and_wait("sskai.jobs.v1", value, b"job_1", headers=encoded)
        for one in (second, large):
            record = contract.encode(one)
            await producer.send_and_wait(record.topic, record.value, record.key, headers=record.headers)
    finally:
        await producer.stop()
    return [first.id, by_hand, second.id, large.id]


@asynccontextmanager
async def running(command: list[str], folder: Path, **environment: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        process.kill()
        await process.communicate()


async def told(process: asyncio.subprocess.Process, count: int) -> list[dict[str, Any]]:
    """Its first lines."""
    assert process.stdout is not None
    lines: list[dict[str, Any]] = []
    async with asyncio.timeout(LIMIT_SECONDS):
        while len(lines) < count:
            line = await process.stdout.readline()
            if not line:
                assert process.stderr is not None
                pytest.fail(f"it ended: {(await process.stderr.read()).decode()}")
            lines.append(json.loads(line))
    return lines


def with_sskai(_folder: Path) -> tuple[list[str], dict[str, str]]:
    return [sys.executable, str(EXAMPLES / "with_sskai.py")], {"PYTHONPATH": str(ROOT)}


def with_protobuf(folder: Path) -> tuple[list[str], dict[str, str]]:
    shutil.copy(EXAMPLES / "with_protobuf/subscriber.py", folder)
    protos = sorted(str(path) for path in (ROOT / "proto/sskai/events/v1").glob("*.proto"))
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT / 'proto'}", f"--python_out={folder}", *protos]
    subprocess.run(command, check=True)
    return [sys.executable, "subscriber.py"], {"PYTHONPATH": ""}


def node(_folder: Path) -> tuple[list[str], dict[str, str]]:
    program, npm = shutil.which("node"), shutil.which("npm")
    if program is None or npm is None:
        pytest.skip("needs Node and npm")
    # Installed once, beside what else is fetched.
    installed = cache_folder() / "subscriber-node"
    installed.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "subscriber.mjs"):
        shutil.copy(EXAMPLES / "node" / name, installed)
    if not (installed / "node_modules/protobufjs").exists():
        done = subprocess.run([npm, "install", "--no-audit", "--no-fund"], cwd=installed, check=False, timeout=110)
        if done.returncode:
            pytest.skip("npm could not fetch kafkajs and protobufjs")
    return [program, str(installed / "subscriber.mjs")], {"SSKAI_PROTO": str(ROOT / "proto")}


@pytest.mark.parametrize("prepare", [with_sskai, with_protobuf, node])
async def test_a_subscriber_tells_each_event_of_its_tenant_once(kafka: str, tmp_path: Path, prepare: Any) -> None:
    command, environment = prepare(tmp_path)
    tenant_id = new_id("tenant")
    expected = await publish(kafka, tenant_id)
    arguments = [kafka, new_id("group"), tenant_id]
    async with running([*command, *arguments], tmp_path, **environment) as process:
        found = await told(process, len(expected))
        assert {event["id"] for event in found} == set(expected)
        of_jobs = [event["id"] for event in found if event["id"] != expected[-1]]
        assert of_jobs == expected[:-1], "all about one job is told in its order"
        (spend,) = (event for event in found if event["type"].endswith("SpendRecorded"))
        assert spend["data"]["amount_nano_usd"] == str(2**60 + 1), "a large integer keeps all its digits"
        assert process.stderr is not None
        async with asyncio.timeout(LIMIT_SECONDS):
            while b"set aside sskai.jobs.v1" not in await process.stderr.readline():
                pass
    # It goes on where it was; only what it was killed over may come again.
    more = await publish(kafka, tenant_id)
    async with running([*command, *arguments], tmp_path, **environment) as process:
        assert (await told(process, 1))[0]["id"] in {*more, *expected[-2:]}
