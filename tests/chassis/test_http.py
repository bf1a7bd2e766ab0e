"""Spans of requests: one for each, in the trace that the client sent, and none for probes and streams."""

from __future__ import annotations

import httpx2
import pytest
from fastapi import Depends, FastAPI
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from sskai import telemetry
from sskai.http import spans_of_requests

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def told() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def app(told: InMemorySpanExporter) -> FastAPI:
    provider = TracerProvider(id_generator=telemetry.OwnIds())
    provider.add_span_processor(SimpleSpanProcessor(told))
    app = FastAPI(telemetry={**spans_of_requests(but="/v1/events|/v1/jobs/[^/]+/logs"), "tracer_provider": provider})

    async def who() -> str:
        return "ann"

    @app.get("/v1/jobs/{job_id}")
    async def job(job_id: str, name: str = Depends(who)) -> dict[str, str | None]:
        trace.get_current_span().set_attribute("sskai.tenant", name)
        return {"traceparent": telemetry.current_traceparent(), "trace_id": telemetry.current_trace_id()}

    for path in ("/healthz", "/v1/events", "/v1/jobs/{job_id}/logs"):
        app.get(path)(who)
    return app


async def test_a_request_is_one_span_of_the_clients_trace(app: FastAPI, told: InMemorySpanExporter) -> None:
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://test") as client:
        answer = (await client.get("/v1/jobs/job_1", headers={"traceparent": PARENT})).json()
    (span,) = told.get_finished_spans()
    assert span.name == "GET /v1/jobs/{job_id}"
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == PARENT.split("-")[2]
    assert span.attributes is not None
    assert (span.attributes["sskai.tenant"], span.attributes["http.response.status_code"]) == ("ann", 200)
    assert answer["traceparent"] == f"{PARENT[:36]}{span.get_span_context().span_id:016x}-01"
    assert answer["trace_id"] == PARENT.split("-")[1]


async def test_probes_and_streams_have_none(app: FastAPI, told: InMemorySpanExporter) -> None:
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://test") as client:
        for path in ("/healthz", "/v1/events", "/v1/jobs/job_1/logs"):
            assert (await client.get(path)).status_code == 200
    assert told.get_finished_spans() == ()
