"""OTLP/HTTP on a running server and a real database: the OpenTelemetry SDK's own exporter, and what it never sends."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
import uvicorn
from google.protobuf import json_format
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span
from opentelemetry.proto.trace.v1.trace_pb2 import Status as SpanStatus
from opentelemetry.sdk.resources import Resource as SdkResource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import StatusCode, format_trace_id
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from services.monitor import api, exposition, housekeeping
from services.monitor.counting import RETENTION
from services.monitor.ingest import Ingest
from services.monitor.span_store import SpanStore
from services.monitor.spans import MAX_SPANS_PER_NAME
from sskai.database import Database
from sskai.failpoints import Action
from sskai.http import PROBLEM_JSON
from sskai.testing import wait_for
from tests.reliability.strikes import SAYS_NO, each, struck

SERVICE = "monitor"
TOKEN = "internal-token"
PROTOBUF = {"content-type": "application/x-protobuf"}


@pytest.fixture
async def monitor(database: Database) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of the monitor's app, served by uvicorn on a free port."""
    app = api.build(database, Ingest(database), TOKEN)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", lifespan="off"))
    serving = asyncio.create_task(server.serve())
    await wait_for(lambda: server.started)
    port = server.servers[0].sockets[0].getsockname()[1]
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
        yield client
    server.should_exit = True
    with suppress(asyncio.CancelledError):
        await serving


def gateway(tenant: str = "A") -> dict[str, str]:
    return {"X-SSKAI-Tenant": tenant, "X-SSKAI-Internal": TOKEN}


def attribute(key: str, value: str | float) -> KeyValue:
    if isinstance(value, str):
        return KeyValue(key=key, value=AnyValue(string_value=value))
    return KeyValue(key=key, value=AnyValue(double_value=value))


def span(
    number: int,
    *,
    trace: int = 1,
    parent: int = 0,
    name: str = "work",
    seconds: float = 0.1,
    failed: bool = False,
    skew_seconds: float = 0.0,
    attributes: Mapping[str, str | float] | None = None,
) -> Span:
    end = time.time_ns() + int(skew_seconds * 1e9)
    told = {"sskai.tenant": "A", **(attributes or {})}
    return Span(
        trace_id=trace.to_bytes(16, "big"),
        span_id=number.to_bytes(8, "big"),
        parent_span_id=parent.to_bytes(8, "big") if parent else b"",
        name=name,
        kind=Span.SPAN_KIND_SERVER,
        start_time_unix_nano=end - int(seconds * 1e9),
        end_time_unix_nano=end,
        attributes=[attribute(key, value) for key, value in told.items()],
        status=SpanStatus(code=SpanStatus.STATUS_CODE_ERROR if failed else SpanStatus.STATUS_CODE_UNSET),
    )


def request(*spans: Span, service: str = "gateway") -> ExportTraceServiceRequest:
    resource = Resource(attributes=[attribute("service.name", service)])
    return ExportTraceServiceRequest(
        resource_spans=[ResourceSpans(resource=resource, scope_spans=[ScopeSpans(spans=spans)])]
    )


async def send(monitor: httpx2.AsyncClient, *spans: Span) -> ExportTraceServiceResponse:
    response = await monitor.post("/v1/traces", content=request(*spans).SerializeToString(), headers=PROTOBUF)
    assert response.status_code == 200, response.text
    return ExportTraceServiceResponse.FromString(response.content)


async def figures(monitor: httpx2.AsyncClient, **query: Any) -> list[dict[str, Any]]:
    response = await monitor.get("/v1/figures", params={"whole": True} | query, headers=gateway())
    assert response.status_code == 200, response.text
    rows: list[dict[str, Any]] = response.json()["figures"]
    return rows


@pytest.mark.parametrize("action", each(*SAYS_NO))
@pytest.mark.parametrize("point", ["database.snapshot.begin", "database.snapshot.commit"])
async def test_figures_are_told_whole_or_refused(
    database: Database, monitor: httpx2.AsyncClient, point: str, action: Action
) -> None:
    await send(monitor, span(1))
    with struck(point, action):
        refused = await monitor.get("/v1/figures", params={"whole": True}, headers=gateway())
    assert (refused.status_code, refused.headers["content-type"]) == (503, PROBLEM_JSON)
    assert int(refused.headers["retry-after"]) > 0
    [row] = await figures(monitor)
    assert row["spans"] == 1
    await exposition.look(database)
    shown = exposition.SHOWN.samples
    with struck(point, action), pytest.raises(OperationalError):
        await exposition.look(database)
    assert exposition.SHOWN.samples is shown, "what was counted last is shown on"


@pytest.mark.parametrize("compression", [Compression.NoCompression, Compression.Gzip])
async def test_the_sdks_exporter_is_understood(monitor: httpx2.AsyncClient, compression: Compression) -> None:
    exporter = OTLPSpanExporter(endpoint=str(monitor.base_url.join("/v1/traces")), compression=compression)
    provider = TracerProvider(resource=SdkResource.create({"service.name": "trainer"}))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("test")

    def trace_a_job() -> str:
        with tracer.start_as_current_span(
            "job", attributes={"sskai.tenant": "A", "steps": 3, "parts": ["x", "y"]}
        ) as job:
            with tracer.start_as_current_span("step") as step:
                step.record_exception(ValueError("loss is nan"))
                step.set_status(StatusCode.ERROR, "failed")
            return format_trace_id(job.get_span_context().trace_id)

    trace_id = await asyncio.to_thread(trace_a_job)
    response = await monitor.get(f"/v1/traces/{trace_id}", headers=gateway())
    assert response.status_code == 200
    told = response.json()
    job, step = told["spans"]
    assert told["services"] == ["trainer"]
    assert (job["name"], job["depth"], job["start_offset_seconds"]) == ("job", 0, 0)
    assert job["attributes"] == {"sskai.tenant": "A", "steps": 3, "parts": ["x", "y"]}
    assert (step["name"], step["depth"], step["parent_span_id"]) == ("step", 1, job["span_id"])
    assert (step["failed"], step["status_message"]) == (True, "failed")
    assert step["events"][0]["attributes"]["exception.message"] == "loss is nan"
    assert 0 < step["duration_seconds"] <= job["duration_seconds"] <= told["duration_seconds"]


async def test_json_says_the_same_with_ids_in_hex(monitor: httpx2.AsyncClient) -> None:
    document = json_format.MessageToDict(request(span(1), span(2, parent=1)), use_integers_for_enums=True)
    for one in document["resourceSpans"][0]["scopeSpans"][0]["spans"]:
        one["traceId"] = "00" * 15 + "01"
        one["spanId"] = "00" * 7 + ("02" if "parentSpanId" in one else "01")
        if "parentSpanId" in one:
            one["parentSpanId"] = "00" * 7 + "01"
    document["aFieldOfALaterVersion"] = 1
    body = gzip.compress(json.dumps(document).encode())
    headers = {"content-type": "application/json; charset=utf-8", "content-encoding": "gzip"}
    response = await monitor.post("/v1/traces", content=body, headers=headers)
    assert (response.status_code, response.json()) == (200, {})
    told = (await monitor.get("/v1/traces/" + "00" * 15 + "01", headers=gateway())).json()
    assert [(one["depth"], one["kind"]) for one in told["spans"]] == [(0, "server"), (1, "server")]


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (b"\xff\xff\xff", PROTOBUF, 400),
        (b"{", {"content-type": "application/json"}, 400),
        (b'{"resourceSpans": 3}', {"content-type": "application/json"}, 400),
        (
            b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"xyz"}]}]}]}',
            {"content-type": "application/json"},
            400,
        ),
        (b"", {"content-type": "text/plain"}, 415),
        (b"no gzip", PROTOBUF | {"content-encoding": "gzip"}, 400),
        (gzip.compress(b"whole", mtime=0)[:-3], PROTOBUF | {"content-encoding": "gzip"}, 400),
        (gzip.compress(bytes(50_000_000), mtime=0), PROTOBUF | {"content-encoding": "gzip"}, 413),
        (bytes(api.MAX_REQUEST_BYTES + 1), PROTOBUF, 413),
        (b"", PROTOBUF | {"content-encoding": "br"}, 400),
    ],
)
async def test_what_is_no_trace_data_is_refused_with_a_reason(
    monitor: httpx2.AsyncClient, content: bytes, headers: dict[str, str], status: int
) -> None:
    response = await monitor.post("/v1/traces", content=content, headers=headers)
    assert response.status_code == status
    if headers["content-type"] == "application/json":
        assert response.json()["message"]
    else:
        assert Status.FromString(response.content).message


async def test_good_spans_are_taken_and_bad_ones_counted_as_rejected(monitor: httpx2.AsyncClient) -> None:
    no_id, ancient = span(2), span(3)
    no_id.span_id = b""
    ancient.end_time_unix_nano = 1
    answer = await send(monitor, span(1), no_id, ancient)
    assert answer.partial_success.rejected_spans == 2
    assert answer.partial_success.error_message
    assert [row["spans"] for row in await figures(monitor)] == [1]


async def test_a_span_sent_twice_is_counted_once(monitor: httpx2.AsyncClient) -> None:
    spans = [span(number, seconds=0.2, failed=number == 1) for number in range(1, 11)]
    await send(monitor, *spans, *spans[:3])
    await asyncio.gather(*(send(monitor, *spans[start:]) for start in range(5)))
    [row] = await figures(monitor)
    assert (row["spans"], row["errors"], row["service"], row["name"]) == (10, 1, "gateway", "work")
    assert row["p95_seconds"] == pytest.approx(0.2, rel=0.02)


async def test_many_senders_at_once_lose_nothing(monitor: httpx2.AsyncClient) -> None:
    batches = [[span(100 * sender + n + 1, trace=sender % 3 + 1) for n in range(50)] for sender in range(20)]
    await asyncio.gather(*(send(monitor, *batch) for batch in batches))
    assert [row["spans"] for row in await figures(monitor)] == [1000]
    by_minute = await figures(monitor, whole=False)
    assert sum(row["spans"] for row in by_minute) == 1000
    assert [row["spans"] for row in await figures(monitor, window="1h", group_by="service")] == [1000]


async def test_a_trace_keeps_some_of_each_kind_and_counts_all(monitor: httpx2.AsyncClient) -> None:
    extra = 50
    await send(
        monitor, *(span(n + 1, name="heartbeat") for n in range(MAX_SPANS_PER_NAME + extra)), span(9999, name="deploy")
    )
    told = (await monitor.get("/v1/traces/" + "00" * 15 + "01", headers=gateway())).json()
    assert told["spans_counted_only"] == extra
    assert len(told["spans"]) == MAX_SPANS_PER_NAME + 1
    assert [row["spans"] for row in await figures(monitor, name="heartbeat")] == [MAX_SPANS_PER_NAME + extra]


async def test_a_trace_is_shown_nested_too(monitor: httpx2.AsyncClient) -> None:
    await send(monitor, span(1), span(2, parent=1), span(3, parent=2))
    told = (await monitor.get("/v1/traces/" + "00" * 15 + "01?shape=tree", headers=gateway())).json()
    [root] = told["spans"]
    [child] = root["children"]
    [grandchild] = child["children"]
    assert [one["depth"] for one in (root, child, grandchild)] == [0, 1, 2]
    assert grandchild["children"] == []


async def test_an_answers_tokens_and_waits_are_told_beside_its_duration(monitor: httpx2.AsyncClient) -> None:
    def answer(number: int, first_token: float, tokens: float) -> Span:
        attributes: dict[str, str | float] = {
            "gen_ai.operation.name": "chat",
            "sskai.endpoint": "endpoint_1",
            "gen_ai.usage.output_tokens": tokens,
            "gen_ai.server.time_to_first_token": first_token,
        }
        return span(number, name="chat", seconds=1, attributes=attributes)

    await send(monitor, *(answer(number, number / 100, number) for number in range(1, 101)))
    [row] = await figures(monitor, group_by="endpoint_id", endpoint_id="endpoint_1")
    assert sorted(row["values"]) == ["output_tokens", "time_to_first_token_seconds"]
    assert (row["spans"], row["values"]["output_tokens"]["total"]) == (100, 5050)
    assert row["values"]["time_to_first_token_seconds"]["p95"] == pytest.approx(0.95, rel=0.02)


async def test_figures_of_an_attempt_are_counted_by_what_its_process_says_of_itself(
    monitor: httpx2.AsyncClient,
) -> None:
    told = request(span(1, name="train"), span(2, name="load"), service="trainer")
    told.resource_spans[0].resource.attributes.extend([attribute("sskai.job", "job_1"), attribute("sskai.attempt", 2)])
    await monitor.post("/v1/traces", content=told.SerializeToString(), headers=PROTOBUF)
    rows = await figures(monitor, group_by="job_id,attempt,name")
    assert [(row["job_id"], row["attempt"], row["name"], row["spans"]) for row in rows] == [
        ("job_1", "2.0", "load", 1),
        ("job_1", "2.0", "train", 1),
    ]
    assert [row["spans"] for row in await figures(monitor, group_by="service")] == [2]


async def test_the_slowest_span_leads_to_its_trace_as_long_as_that_is_kept(
    monitor: httpx2.AsyncClient, database: Database
) -> None:
    await send(monitor, *(span(1, trace=trace, seconds=trace) for trace in (1, 2, 3)))
    [row] = await figures(monitor)
    assert row["exemplar_trace_id"] == f"{3:032x}"
    async with database.transaction() as session:
        await session.execute(text("DELETE FROM monitor.traces WHERE trace_id = :id"), {"id": f"{3:032x}"})
    [row] = await figures(monitor)
    assert row["exemplar_trace_id"] is None  # a window remembers one of a batch: the next one has its own
    await send(monitor, span(2, trace=2, seconds=2.5))
    [row] = await figures(monitor)
    assert row["exemplar_trace_id"] == f"{2:032x}"


async def test_a_tenant_reads_only_what_is_its_own(monitor: httpx2.AsyncClient) -> None:
    await send(monitor, span(1))
    path = "/v1/traces/" + "00" * 15 + "01"
    assert (await monitor.get(path, headers=gateway("A"))).status_code == 200
    assert (await monitor.get(path, headers=gateway("B"))).status_code == 404
    assert (await monitor.get("/v1/figures", headers=gateway("B"))).json()["figures"] == []
    assert (await monitor.get(path)).status_code == 403
    assert (await monitor.get(path, headers=gateway("A") | {"X-SSKAI-Internal": "guess"})).status_code == 403
    assert (await monitor.get(path, headers=gateway(""))).status_code == 400


async def test_without_a_token_nobody_reads(database: Database) -> None:
    transport = httpx2.ASGITransport(app=api.build(database, Ingest(database), ""))
    async with httpx2.AsyncClient(transport=transport, base_url="http://monitor") as client:
        headers = {"X-SSKAI-Tenant": "A", "X-SSKAI-Internal": ""}
        assert (await client.get("/v1/figures", headers=headers)).status_code == 403


@pytest.mark.parametrize(
    "query",
    [
        {"since": "2020-01-01T00:00:00Z"},
        {"since": "2026-01-01T00:00:00"},
        {"until": "2020-01-01T00:00:00Z", "since": "2020-01-02T00:00:00Z"},
        {"group_by": "tenant_id"},
        {"window": "5m"},
        {"window": "10s", "since": "2026-01-01T00:00:00Z", "until": "2026-01-01T00:01:00Z"},
        {"unknown": "1"},
    ],
)
async def test_a_question_about_figures_that_makes_no_sense_is_refused(
    monitor: httpx2.AsyncClient, query: dict[str, str]
) -> None:
    response = await monitor.get("/v1/figures", params=query, headers=gateway())
    assert response.status_code == 422
    assert response.json()["title"]


async def test_old_and_surplus_traces_are_forgotten(monitor: httpx2.AsyncClient, database: Database) -> None:
    for trace in (1, 2, 3):
        await send(monitor, *(span(n + 1, trace=trace) for n in range(10)))

    async def left() -> list[int]:
        found = []
        async with database.transaction() as session:
            for trace in (1, 2, 3):
                spans, _ = await SpanStore(session).trace(trace.to_bytes(16, "big").hex())
                found.append(len(spans))
        return found

    await housekeeping.forget(database, 1, 25, RETENTION)
    assert await left() == [0, 10, 10]
    async with database.transaction() as session:
        assert await SpanStore(session).forget(datetime.now(UTC) + timedelta(days=2), timedelta(days=1), 10**9) == 2
    assert await left() == [0, 0, 0]
    # What was counted stays, for its own time.
    assert [row["spans"] for row in await figures(monitor, window="1h")] == [30]
