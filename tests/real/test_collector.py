"""OpenTelemetry's Collector with deploy/otel's very file, between a service and the monitor, over real Kafka."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from sskai.database import Database
from sskai.local.processes import free_ports
from sskai.testing import wait_for
from tests.monitor.test_otlp import TOKEN, gateway
from tests.real.programs import built, serving
from tools.compose import ROOT

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]

SERVICE = "monitor"
CONFIGURATION = ROOT / "deploy" / "otel" / "collector.yaml"
# A process of ours: one span below another, told as services tell theirs.
TELLER = """
from sskai import telemetry
import os
import sys
telemetry.setup("teller", os.environ["SSKAI_OTLP_URL"])
with telemetry.tracer().start_as_current_span("outer", attributes={"sskai.tenant": "A"}):
    trace_id = telemetry.current_trace_id()
    with telemetry.tracer().start_as_current_span("inner", attributes={"sskai.tenant": "A"}):
        pass
telemetry.shutdown()
print(trace_id, flush=True, file=sys.__stdout__)
"""


@dataclass
class Collector:
    url: str
    metrics_url: str
    environment: dict[str, str]


@pytest.fixture
def collector(kafka: str, tmp_path: Path) -> Iterator[Collector]:
    http, grpc, health, metrics = free_ports(4)
    environment = {
        "SSKAI_KAFKA_BOOTSTRAP": kafka,
        "SSKAI_COLLECTOR_HTTP": f"127.0.0.1:{http}",
        "SSKAI_COLLECTOR_GRPC": f"127.0.0.1:{grpc}",
        "SSKAI_COLLECTOR_HEALTH": f"127.0.0.1:{health}",
        "SSKAI_COLLECTOR_METRICS_HOST": "127.0.0.1",
        "SSKAI_COLLECTOR_METRICS_PORT": str(metrics),
    }

    def healthy() -> bool:
        with urllib.request.urlopen(f"http://127.0.0.1:{health}", timeout=2) as answer:
            return bool(answer.status == 200)

    command = [str(built("collector", "collector")), f"--config={CONFIGURATION}"]
    with serving(command, tmp_path, healthy, environment):
        yield Collector(f"http://127.0.0.1:{http}", f"http://127.0.0.1:{metrics}/metrics", environment)


@contextmanager
def monitor(kafka: str, database: Database, folder: Path) -> Iterator[str]:
    """Its URL, from when it is ready."""
    [port] = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    environment = {
        "SSKAI_KAFKA_BOOTSTRAP": kafka,
        "SSKAI_DATABASE_URL": database.url,
        "SSKAI_INTERNAL_TOKEN": TOKEN,
        "SSKAI_PORT": str(port),
        "PYTHONPATH": str(ROOT),
    }

    def ready() -> bool:
        with urllib.request.urlopen(f"{url}/readyz", timeout=2) as answer:
            return bool(answer.status == 200)

    with serving([sys.executable, "-m", "services", "monitor"], folder, ready, environment):
        yield url


def tell(collector_url: str) -> str:
    """The trace's id."""
    environment = {**os.environ, "SSKAI_OTLP_URL": collector_url, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", TELLER]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=60)
    return done.stdout.split()[-1]


def spans_sent(collector: Collector) -> float:
    """Into Kafka, as the collector counts them."""
    with urllib.request.urlopen(collector.metrics_url, timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("otelcol_exporter_sent_spans"))


async def depths(url: str, trace_id: str) -> dict[str, int]:
    """Of the trace's spans; empty while there is none."""
    async with httpx2.AsyncClient(base_url=url, timeout=10, headers=gateway()) as client:
        answer = await client.get(f"/v1/traces/{trace_id}")
    return {one["name"]: one["depth"] for one in answer.json()["spans"]} if answer.status_code == 200 else {}


async def test_spans_go_through_it_to_the_monitor_and_wait_in_kafka_while_that_is_away(
    collector: Collector, kafka: str, database: Database, tmp_path: Path
) -> None:
    first = tell(collector.url)
    await wait_for(lambda: spans_sent(collector) == 2, limit_seconds=30)
    with monitor(kafka, database, tmp_path) as url:
        second = tell(collector.url)
        for trace_id in (first, second):

            async def whole(trace_id: str = trace_id) -> bool:
                return await depths(url, trace_id) == {"outer": 0, "inner": 1}

            await wait_for(whole, limit_seconds=30)


def test_its_configuration_is_valid_with_no_more_than_the_compose_file_gives_it() -> None:
    done = subprocess.run(
        [built("collector", "collector"), "validate", f"--config={CONFIGURATION}"],
        env={"SSKAI_KAFKA_BOOTSTRAP": "kafka:19092"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
