"""The monitor as a process on a real broker: facts in, receipt out, spans by both doors, a clean stop."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from sskai import broker_admin, bus, contract
from sskai.database import Database
from sskai.events import v1 as events
from sskai.testing import envelope, heard, wait_for
from tests.monitor.test_life_of_a_job import STORY
from tests.monitor.test_otlp import PROTOBUF, TOKEN, gateway, request, span

SERVICE = "monitor"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def process(kafka: str, database: Database) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A running monitor and its URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {
        "SSKAI_KAFKA_BOOTSTRAP": kafka,
        "SSKAI_DATABASE_URL": database.url,
        "SSKAI_INTERNAL_TOKEN": TOKEN,
        "SSKAI_PORT": str(port),
    }
    command = [sys.executable, "-m", "services", "monitor"]
    with subprocess.Popen(command, cwd=ROOT, env=os.environ | settings, stdout=subprocess.DEVNULL) as running:
        yield running, f"http://127.0.0.1:{port}"
        running.kill()


async def test_a_monitor_hears_counts_tells_and_stops(kafka: str, process: tuple[subprocess.Popen[bytes], str]) -> None:
    running, url = process
    publisher = bus.Publisher(kafka, "test")
    async with httpx2.AsyncClient(base_url=url, timeout=10) as client:

        async def ready() -> bool:
            try:
                return (await client.get("/readyz")).status_code == 200
            except httpx2.TransportError:
                return False

        await wait_for(ready, limit_seconds=30)
        producer = await publisher.start()
        twice = span(2, parent=1)
        await producer.send_and_wait(contract.OTLP_TOPIC, request(span(1), twice).SerializeToString())
        await producer.send_and_wait(contract.OTLP_TOPIC, b"\xffno spans")
        await client.post("/v1/traces", content=request(twice, span(3, parent=2)).SerializeToString(), headers=PROTOBUF)
        await publisher.publish_all(envelope(message) for message in STORY)

        async def receipt() -> bool:
            response = await client.get("/v1/receipts/job_1", headers=gateway())
            return response.status_code == 200 and response.json()["receipt"] is not None

        await wait_for(receipt, limit_seconds=30)

        async def depths() -> list[int]:
            response = await client.get(f"/v1/traces/{1:032x}", headers=gateway())
            return [one["depth"] for one in response.json()["spans"]] if response.status_code == 200 else []

        async def whole_trace() -> bool:
            return await depths() == [0, 1, 2]

        await wait_for(whole_trace, limit_seconds=20)
        [figure] = (await client.get("/v1/figures?whole=true&name=work", headers=gateway())).json()["figures"]
        assert figure["spans"] == 3
        metrics = (await client.get("/metrics")).text
        assert 'sskai_spans_total{outcome="kept"} 3.0' in metrics

    async def told() -> list[contract.Envelope]:
        found = await heard(kafka, contract.topic_of(events.ReceiptIssued), seconds=2)
        return [one for one in found if isinstance(one.message, events.ReceiptIssued) and one.message.job_id == "job_1"]

    async def set_aside() -> list[bus.Incoming]:
        return await broker_admin.read_dead_letters(kafka, contract.OTLP_TOPIC, seconds=2)

    await wait_for(told, limit_seconds=20)
    [issued] = await told()
    assert (issued.source, issued.message.paid_nano_usd) == ("monitor", 7_300_000)  # type: ignore[attr-defined]
    await wait_for(set_aside, limit_seconds=20)
    [letter] = await set_aside()
    assert dict(letter.headers)["dlq_reason"] == b"undecodable"
    await publisher.stop()

    running.send_signal(signal.SIGTERM)
    await wait_for(lambda: running.poll() is not None, limit_seconds=15)
    assert running.returncode == 0
