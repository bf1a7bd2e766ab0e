"""How many spans a second the monitor takes in on one core, how exactly, and in how much memory.

The monitor runs as it is (`python -m services monitor`, its loops included) in a process that may use one core, with a
PostgreSQL of its own (durable settings) on the others; no broker is there, so spans come by OTLP/HTTP alone. Requests
of 500 spans in traces of 50 come as fast as they are taken, one in ten of them twice, one in ten from a clock that is
wrong by up to five minutes. Afterwards the figures must show every span once, and each series' p99 is held against the
exact one of all that was sent.
"""

from __future__ import annotations

import asyncio
import math
import os
import random
import signal
import subprocess
import sys
import time
from array import array
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import psutil
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from benchmarks.figures import Figure, figure
from sskai.local.postgres import Postgres
from sskai.local.processes import free_ports
from sskai.testing import fresh_database

SPANS_PER_REQUEST, SPANS_PER_TRACE = 500, 50
TENANT, TOKEN = "tenant_bench", "internal"
WINDOWS = ("10s", "1m", "1h", "1d")
SKEW_SECONDS = 300.0
SAMPLE_SECONDS = 0.5
MIB = 1024 * 1024


@dataclass(slots=True)
class Truth:
    """What was sent: exact durations by series, each span once."""

    seconds: list[array[float]]
    spans: int = 0
    failed: int = 0


@dataclass(slots=True)
class Sender:
    """Makes requests; durations are log-normal, each series around its own median."""

    truth: Truth
    dice: random.Random = field(default_factory=lambda: random.Random(20261129))

    def request(self) -> bytes:
        dice, truth = self.dice, self.truth
        now_ns = time.time_ns()
        if dice.random() < 0.1:
            now_ns += int(dice.uniform(-SKEW_SECONDS, SKEW_SECONDS) * 1e9)
        attributes = [KeyValue(key="sskai.tenant", value=AnyValue(string_value=TENANT))]
        spans = []
        for place in range(SPANS_PER_REQUEST):
            if place % SPANS_PER_TRACE == 0:
                trace_id, parent = dice.randbytes(16), b""
            series = dice.randrange(len(truth.seconds))
            nanoseconds = int(1e9 * dice.lognormvariate(math.log(0.01 * (1 + series % 50)), 0.8))
            truth.seconds[series].append(nanoseconds / 1e9)
            truth.spans += 1
            failed = dice.random() < 0.01
            truth.failed += failed
            span = Span(
                trace_id=trace_id,
                span_id=dice.randbytes(8),
                parent_span_id=parent,
                name=f"work {series}",
                kind=Span.SPAN_KIND_SERVER,
                start_time_unix_nano=now_ns - nanoseconds,
                end_time_unix_nano=now_ns,
                attributes=attributes,
            )
            if failed:
                span.status.code = Status.STATUS_CODE_ERROR
            parent = parent or span.span_id
            spans.append(span)
        resource = Resource(attributes=[KeyValue(key="service.name", value=AnyValue(string_value="bench"))])
        scope = [ScopeSpans(spans=spans)]
        return ExportTraceServiceRequest(
            resource_spans=[ResourceSpans(resource=resource, scope_spans=scope)]
        ).SerializeToString()


@contextmanager
def monitor(database_url: str, port: int) -> Iterator[psutil.Process]:
    """The monitor as a process that may use one core."""
    settings = {
        "SSKAI_DATABASE_URL": database_url,
        "SSKAI_KAFKA_BOOTSTRAP": "127.0.0.1:1",
        "SSKAI_INTERNAL_TOKEN": TOKEN,
        "SSKAI_PORT": str(port),
    }
    command = [sys.executable, "-m", "services", "monitor"]
    root = Path(__file__).parents[1]
    with subprocess.Popen(command, cwd=root, env=os.environ | settings, stdout=subprocess.DEVNULL) as running:
        os.sched_setaffinity(running.pid, {min(os.sched_getaffinity(0))})
        try:
            yield psutil.Process(running.pid)
        finally:
            running.send_signal(signal.SIGTERM)
            try:
                running.wait(15)
            except subprocess.TimeoutExpired:
                running.kill()


async def _alive(client: httpx2.AsyncClient) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with suppress(httpx2.TransportError):
            parts = (await client.get("/readyz")).json()
            if parts["database"] == parts["schema"] == "ok":
                return
        await asyncio.sleep(0.1)
    raise RuntimeError("the monitor does not answer")


async def _send(client: httpx2.AsyncClient, sender: Sender, senders: int, until: float) -> list[float]:
    """Requests from several senders until then; seconds of each."""
    took: list[float] = []

    async def one() -> None:
        number = 0
        while time.perf_counter() < until:
            body = sender.request()
            number += 1
            for _ in range(2 if number % 10 == 0 else 1):
                started = time.perf_counter()
                answer = await client.post(
                    "/v1/traces", content=body, headers={"content-type": "application/x-protobuf"}
                )
                answer.raise_for_status()
                took.append(time.perf_counter() - started)

    await asyncio.gather(*(one() for _ in range(senders)))
    return took


async def _watch(process: psutil.Process, peaks: list[int]) -> None:
    while process.is_running():
        peaks.append(process.memory_info().rss)
        await asyncio.sleep(SAMPLE_SECONDS)


async def _figures(client: httpx2.AsyncClient, started: datetime, window: str, group_by: str) -> list[dict[str, Any]]:
    query = {
        "window": window,
        "whole": "true",
        "group_by": group_by,
        "since": (started - timedelta(minutes=10)).isoformat(),
        "until": (datetime.now(UTC) + timedelta(minutes=10)).isoformat(),
    }
    headers = {"X-SSKAI-Tenant": TENANT, "X-SSKAI-Internal": TOKEN}
    answer = await client.get("/v1/figures", params=query, headers=headers)
    answer.raise_for_status()
    rows: list[dict[str, Any]] = answer.json()["figures"]
    return rows


def _worst_error(rows: list[dict[str, Any]], truth: Truth) -> float:
    """The largest relative error of p99 over all series, against the exact one by nearest rank."""
    told = {row["name"]: row["p99_seconds"] for row in rows}
    worst = 0.0
    for series, seconds in enumerate(truth.seconds):
        if seconds:
            exact = sorted(seconds)[max(1, math.ceil(0.99 * len(seconds))) - 1]
            worst = max(worst, abs(told[f"work {series}"] - exact) / exact)
    return worst


async def measure(
    server: Postgres, minutes: float, series: int = 1_000, senders: int = 4
) -> tuple[list[Figure], dict[str, Any]]:
    """The figures, and what was sent."""
    truth = Truth([array("d") for _ in range(series)])
    (port,) = free_ports(1)
    async with fresh_database(server.url, "monitor") as database:
        with monitor(database.url, port) as process:
            async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=120) as client:
                await _alive(client)
                sizes: list[int] = []
                watching = asyncio.create_task(_watch(process, sizes))
                started, begun, cpu = datetime.now(UTC), time.perf_counter(), sum(process.cpu_times()[:2])
                took = await _send(client, Sender(truth), senders, begun + 60 * minutes)
                wall, cpu = time.perf_counter() - begun, sum(process.cpu_times()[:2]) - cpu
                rows = {window: await _figures(client, started, window, "service") for window in WINDOWS}
                by_series = await _figures(client, started, "1m", "name")
                watching.cancel()
    wrong = sum((row["spans"], row["errors"]) != (truth.spans, truth.failed) for [row] in rows.values())
    sent = len(took) * SPANS_PER_REQUEST
    took.sort()
    how = f"{series} series, {minutes:g} min, {senders} senders"
    figures = [
        figure("spans_per_second", sent / wall, "1/s", 5_000, "higher", how=f"{how}; the process pinned to one core"),
        figure(
            "windows_with_wrong_counts",
            wrong,
            "windows",
            0,
            "equal",
            how=f"of {len(WINDOWS)} lengths; {truth.spans} spans",
        ),
        figure(
            "worst_p99_error", _worst_error(by_series, truth), "1", 0.02, "lower", how="over all series, against exact"
        ),
        figure("memory_peak", max(sizes) / MIB, "MiB", 300, "lower", how=f"RSS every {SAMPLE_SECONDS} s; {how}"),
        figure("cpu_per_1000_spans", cpu / sent * 1e6, "ms", None, "lower", how="of the monitor's process"),
        figure("request_p50", took[len(took) // 2], "s", None, "lower", how=f"{SPANS_PER_REQUEST} spans"),
        figure("request_p99", took[len(took) * 99 // 100], "s", None, "lower"),
    ]
    return figures, {"spans_sent": sent, "spans_counted": truth.spans, "memory_first_mib": round(sizes[0] / MIB)}
