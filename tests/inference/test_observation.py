"""What one request leaves behind: a span by the GenAI conventions, in the caller's trace, and a sample in the same."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from sqlalchemy import text

from services.inference import api, loops
from services.inference.answering import Desk
from services.inference.artifacts import Artifacts
from services.inference.engine import EngineFailedError, Generation
from services.inference.handlers import HANDLERS
from services.inference.loops import World
from services.inference.replicas import Replicas
from services.inference.shadows import Shadows
from services.inference.store import Store
from services.inference.tally import Tally
from sskai import telemetry
from sskai.database import Database
from sskai.events import v1 as events
from sskai.objects import Objects
from sskai.testing import envelope, handle
from tests.inference.fake_engine import FakeEngine
from tests.inference.test_loops import new_world, requested, told

SERVICE = "inference"
TRACE_ID, PARENT_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(telemetry, "tracer", lambda: provider.get_tracer("test"))
    return exporter


@pytest.fixture
async def world(database: Database, objects: Objects, models_dir: Path, tmp_path: Path) -> World:
    world = new_world(database, FakeEngine(), Artifacts(objects, models_dir, tmp_path, 10**9))
    await handle(HANDLERS, database, Store, requested(sample_rate=1.0, model_id="model_1", version=3))
    await loops.settle_endpoints(world)
    return world


@pytest.fixture
async def client(world: World, database: Database) -> AsyncIterator[httpx2.AsyncClient]:
    tally = Tally(world.router.rollout_of, 100)
    shadows = Shadows(world.router, world.fleet, tally)
    desk = Desk(world.router, world.fleet, world.samples, 0.05, 8, tally=tally, shadows=shadows)
    app = api.build(desk, database, "secret", Replicas(database))
    headers = {
        "X-SSKAI-Internal": "secret",
        "X-SSKAI-Tenant": "tenant_a",
        "traceparent": f"00-{TRACE_ID}-{PARENT_ID}-01",
    }
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://inference", headers=headers) as client:
        yield client


async def chat(client: httpx2.AsyncClient, **changes: Any) -> httpx2.Response:
    body = {"model": "support", "messages": [{"role": "user", "content": "tell me"}], "max_tokens": 5, **changes}
    return await client.post("/v1/chat/completions", json=body)


def only(spans: InMemorySpanExporter) -> ReadableSpan:
    (span,) = (span for span in spans.get_finished_spans() if span.kind == SpanKind.SERVER)
    return span


async def test_the_span_leads_to_the_training_that_made_the_version(
    client: httpx2.AsyncClient, world: World, database: Database, spans: InMemorySpanExporter
) -> None:
    ready = events.ModelVersionReady(
        model_id="model_1", version=3, tenant_id="tenant_a", job_id="job_7", ready_at=datetime.now(UTC)
    )
    trained = "00-11111111111111111111111111111111-2222222222222222-01"
    await handle(HANDLERS, database, Store, envelope(ready, traceparent=trained))
    await loops.read_routes(world)
    assert (await chat(client)).status_code == 200
    span = only(spans)
    assert dict(span.attributes or {})["sskai.job"] == "job_7"
    [link] = span.links
    assert (f"{link.context.trace_id:032x}", link.attributes) == (trained.split("-")[1], {"sskai.link": "trained-in"})


@pytest.mark.parametrize("stream", [False, True])
async def test_the_span_continues_the_callers_trace(
    client: httpx2.AsyncClient, spans: InMemorySpanExporter, stream: bool
) -> None:
    assert (await chat(client, stream=stream, seed=4)).status_code == 200
    span = only(spans)
    assert span.name == "chat support"
    assert span.context is not None
    assert f"{span.context.trace_id:032x}" == TRACE_ID
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == PARENT_ID
    attributes = dict(span.attributes or {})
    assert attributes.pop("gen_ai.server.time_to_first_token") > 0  # type: ignore[operator]
    assert attributes.pop("gen_ai.server.time_per_output_token") >= 0  # type: ignore[operator]
    assert str(attributes.pop("gen_ai.response.id")).startswith("chatcmpl")
    assert attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "sskai",
        "gen_ai.request.model": "support",
        "gen_ai.request.max_tokens": 5,
        "gen_ai.request.temperature": 1.0,
        "gen_ai.request.top_p": 1.0,
        "gen_ai.request.seed": 4,
        "gen_ai.response.model": "support",
        "gen_ai.response.finish_reasons": ("length",),
        "gen_ai.usage.input_tokens": 2,
        "gen_ai.usage.output_tokens": 5,
        "gen_ai.usage.cache_read.input_tokens": 1,
        "sskai.queue_seconds": 0.25,
        "sskai.batch_size": 3.0,
        "sskai.tenant": "tenant_a",
        "sskai.endpoint": "end_support",
        "sskai.model": "model_1",
        "sskai.model.version": 3,
    }


async def test_a_refused_request_is_a_span_with_its_error(
    client: httpx2.AsyncClient, spans: InMemorySpanExporter
) -> None:
    assert (await chat(client, max_tokens=1000)).status_code == 400
    span = only(spans)
    assert span.status.status_code == StatusCode.ERROR
    assert (span.attributes or {})["error.type"] == "context_length_exceeded"


async def test_a_sample_is_told_in_the_trace_of_its_request(
    client: httpx2.AsyncClient, spans: InMemorySpanExporter, world: World, database: Database
) -> None:
    await chat(client)
    await loops.tell_samples(world)
    async with database.transaction() as session:
        traces = (
            await session.scalars(text("SELECT traceparent FROM inference.outbox WHERE type LIKE '%Sampled'"))
        ).all()
    span = only(spans).context
    assert span is not None
    assert traces == [f"00-{TRACE_ID}-{span.span_id:016x}-01"]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_failed_request_is_a_sample_with_its_error(
    client: httpx2.AsyncClient, world: World, database: Database, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    def failing(*_given: object, **_named: object) -> list[Generation]:
        generation = Generation()
        generation.feed(EngineFailedError("out of memory"))
        return [generation]

    monkeypatch.setattr(FakeEngine, "generate", failing)
    await chat(client, stream=stream)
    await chat(client, max_tokens=1000)  # refused before it was begun: the caller's fault is no failure of ours
    await loops.tell_samples(world)
    (sample,) = (fact for fact in await told(database) if isinstance(fact, events.InferenceSampled))
    assert sample.error == ("engine_error" if stream else "error")
    assert (sample.input_text, sample.output_text, sample.output_tokens) == ("tell me", "", 0)


async def test_an_endpoint_that_is_not_loaded_in_time_answers_503(
    client: httpx2.AsyncClient, database: Database, world: World
) -> None:
    await handle(HANDLERS, database, Store, requested("later"))
    await loops.read_routes(world)
    answer = await chat(client, model="later")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "2"
    assert answer.json()["error"]["code"] == "loading"


async def test_weights_that_leave_between_two_steps_are_waited_for_again(
    client: httpx2.AsyncClient, world: World
) -> None:
    world.fleet.engine.retain(set())  # behind the fleet's back
    answer = await chat(client)
    assert answer.status_code == 503
