"""One trace from the request to the served token, on real databases and real OTLP: of a job whose first pod is killed
without notice, and whose second makes the version that answers. The market, the cluster and the training are stand-ins.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
import uvicorn
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

import services.inference.handlers
import services.inference.store
import services.monitor.api
import services.monitor.handlers
import services.monitor.store
import services.scheduler.handlers
import services.scheduler.store
from services.inference.engine import Piece
from services.inference.observation import Observation
from services.inference.samples import Samples
from services.inference.tally import Tally
from services.inference.traffic import Asker
from services.monitor.ingest import Ingest
from services.monitor.reading import Reader
from services.monitor.sources import Raw
from services.scheduler.loops import drive_jobs
from services.scheduler.machines_loop import watch_machines
from services.scheduler.settings import Settings
from services.scheduler.world import World
from sskai import telemetry
from sskai.database import Database
from sskai.events import v1 as events
from sskai.testing import InMemoryBus, envelope, wait_for
from tests.fake_cluster import FakeCluster
from tests.monitor.messages import message
from tests.scheduler.examples import proposed

IDS = {"job_id": "job_1", "tenant_id": "tenant_a"}
FIRST, SECOND = "m-job-1-1", "m-job-1-2"
TOKEN = "internal"

# A pod as far as its trace goes: it loads, saves once, and trains until somebody ends it or says so on its input.
POD = """
import os, sys
from opentelemetry import context
from sskai import telemetry

telemetry.setup("trainer", os.environ["SSKAI_OTLP_URL"])
context.attach(telemetry.context_from(os.environ["TRACEPARENT"]))
with telemetry.span_beside("pod", {"sskai.tenant": "tenant_a"}):
    with telemetry.tracer().start_as_current_span("load"):
        pass
    with telemetry.span_beside("train"):
        with telemetry.tracer().start_as_current_span("save checkpoint"):
            pass
        sys.stdin.readline()
telemetry.shutdown()
"""


class System:
    """Three services on databases of their own, joined by a bus, and a cluster whose pods are processes."""

    def __init__(self, scheduler: Database, monitor: Database, inference: Database, url: str) -> None:
        self.bus = InMemoryBus()
        self.cluster = FakeCluster(lambda: datetime.now(UTC))
        self.world = World(scheduler, self.cluster, Settings(otlp_url=url), clock=scheduler.clock.now)
        self.monitor, self.inference, self.url = monitor, inference, url
        self.pods: dict[str, asyncio.subprocess.Process] = {}
        self.bus.connect(scheduler, services.scheduler.handlers.HANDLERS, services.scheduler.store.Store)
        self.bus.connect(monitor, services.monitor.handlers.HANDLERS, services.monitor.store.Store)
        self.bus.connect(inference, services.inference.handlers.HANDLERS, services.inference.store.Store)

    async def tell(self, fact: Any, traceparent: str | None) -> None:
        await self.bus.publish_all([envelope(fact, traceparent=traceparent)])
        await self.bus.settle()

    async def turn(self) -> None:
        await drive_jobs(self.world)
        await watch_machines(self.world)
        await self.bus.settle()

    async def launched(self, machine_id: str) -> str:
        """The pod's process is up; its traceparent."""

        async def there() -> bool:
            await self.turn()
            return machine_id in self.cluster.pods

        await wait_for(there)
        await self.turn()
        env = dict(self.cluster.pods[machine_id].env)
        told = {name: env[name] for name in ("TRACEPARENT", "SSKAI_OTLP_URL")}
        self.pods[machine_id] = await asyncio.create_subprocess_exec(
            sys.executable, "-c", POD, env=dict(os.environ) | told, stdin=asyncio.subprocess.PIPE
        )
        return env["TRACEPARENT"]

    async def trace(self, trace_id: str) -> dict[str, Any]:
        headers = {"X-SSKAI-Internal": TOKEN, "X-SSKAI-Tenant": "tenant_a"}
        async with httpx2.AsyncClient(headers=headers) as client:
            answer = await client.get(f"{self.url}/v1/traces/{trace_id}")
            found: dict[str, Any] = answer.json() if answer.status_code == httpx2.codes.OK else {"spans": []}
            return found

    async def shows(self, trace_id: str, name: str, parent: str) -> None:
        """Wait until the trace has a span of this name below that of a traceparent."""

        async def there() -> bool:
            spans = (await self.trace(trace_id))["spans"]
            return any((one["name"], one["parent_span_id"]) == (name, parent.split("-")[2]) for one in spans)

        await wait_for(there)


@asynccontextmanager
async def served(app: Any) -> AsyncIterator[str]:
    """The app over HTTP on this loop; its URL."""
    config = uvicorn.Config(app, port=0, log_config=None, access_log=False, lifespan="off")
    server, socket = uvicorn.Server(config), config.bind_socket()
    serving = asyncio.create_task(server.serve(sockets=[socket]))
    yield f"http://127.0.0.1:{socket.getsockname()[1]}"
    server.should_exit = True
    await serving
    socket.close()


@pytest.fixture
async def system(
    database_of: Callable[[str], AbstractAsyncContextManager[Database]], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[System]:
    async with (
        database_of("scheduler") as scheduler,
        database_of("monitor") as monitor,
        database_of("inference") as inference,
    ):
        app = services.monitor.api.build(monitor, Ingest(monitor), TOKEN)
        async with served(app) as url:
            resource = Resource.create({"service.name": "control plane"})
            provider = TracerProvider(resource=resource, id_generator=telemetry.OwnIds())
            exporter = OTLPSpanExporter(endpoint=f"{url}/v1/traces", timeout=5)
            provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=100))
            monkeypatch.setattr(telemetry, "tracer", lambda: provider.get_tracer("sskai"))
            system = System(scheduler, monitor, inference, url)
            yield system
            for pod in system.pods.values():
                if pod.returncode is None:
                    pod.kill()
                await pod.wait()
            await asyncio.to_thread(provider.shutdown)


def carried(span: Any) -> str:
    return telemetry.carried_by(span)["traceparent"]


async def test_a_jobs_trace_shows_all_from_the_request_to_the_served_token(system: System) -> None:
    # A request, and the plan that answers it.
    with telemetry.span_beside("POST /v1/jobs", {"sskai.tenant": "tenant_a"}) as asked:
        request = carried(asked)
    trace_id = request.split("-")[1]
    spec = events.JobSpec(kind="finetune", name="bot", model=events.ModelRef(model_id="tiny", method="lora"))
    await system.tell(events.JobSubmitted(**IDS, spec=spec, submitted_at=datetime.now(UTC)), request)
    await system.tell(proposed(at=datetime.now(UTC)), request)

    # The first attempt is killed with its machine. Its notice came to the monitor only.
    first = await system.launched(FIRST)
    await system.shows(trace_id, "save checkpoint", first)
    await system.tell(events.CheckpointCommitted(**IDS, attempt=1, step=8, at=datetime.now(UTC)), first)
    await notice(system, FIRST)
    system.pods[FIRST].kill()
    await system.pods[FIRST].wait()
    system.cluster.interrupt(FIRST)

    # The second one ends in order, and its version is served.
    second = await system.launched(SECOND)
    await system.shows(trace_id, "save checkpoint", second)
    await system.pods[SECOND].communicate(b"\n")
    await system.tell(events.AttemptFinished(**IDS, attempt=2, succeeded=True, steps=100, at=datetime.now(UTC)), second)
    await system.tell(
        events.ModelVersionReady(model_id="bot", version=1, **IDS, artifact_uri="s3://b/a", ready_at=datetime.now(UTC)),
        second,
    )
    answer = await answered(system)

    async def whole() -> list[dict[str, Any]]:
        spans: list[dict[str, Any]] = (await system.trace(trace_id))["spans"]
        names = [one["name"] for one in spans]
        wanted = {"attempt 1", "attempt 2", "process JobSucceeded"}
        both = names.count("process ModelVersionReady") == 2  # the monitor's and inference's
        return spans if wanted <= set(names) and both and "pod" in names else []

    spans: list[dict[str, Any]] = await wait_for(whole)
    by_id = {one["span_id"]: one for one in spans}
    assert [one["name"] for one in spans if one["parent_span_id"] not in by_id] == ["POST /v1/jobs"], "nothing is lost"
    one, two = (next(span for span in spans if span["name"] == f"attempt {number}") for number in (1, 2))
    below = {
        number: {each["name"] for each in spans if each["parent_span_id"] == span["span_id"]}
        for number, span in ((1, one), (2, two))
    }
    assert {"load", "save checkpoint", "process CheckpointCommitted"} <= below[1]
    assert not {"pod", "train"} & below[1], "they were killed before they ended"
    assert {"pod", "load", "train", "save checkpoint", "process AttemptFinished"} <= below[2]
    assert (one["attributes"]["sskai.end_reason"], two["attributes"]["sskai.end_reason"]) == (
        "spot-interrupted",
        "succeeded",
    )
    assert (one["attributes"]["sskai.machine"], one["failed"], two["failed"]) == (FIRST, False, False)
    assert one["links"] == []
    assert two["links"] == [
        {"trace_id": trace_id, "span_id": one["span_id"], "attributes": {"sskai.link": "goes-on-after"}}
    ]
    names = {each["name"] for each in spans}
    assert {"process InterruptionNoticed", "cloud's word", "process JobRequeued", "drive queued job"} <= names

    # The answer is a trace of its own; it leads to the one that made it.

    async def seen() -> list[dict[str, Any]]:
        return list((await system.trace(answer))["spans"])

    found: list[dict[str, Any]] = await wait_for(seen)
    [served_by] = found
    assert served_by["attributes"]["sskai.job"] == "job_1"
    assert served_by["attributes"]["sskai.model.version"] == 1
    assert [event["name"] for event in served_by["events"]] == ["first token"]
    [link] = served_by["links"]
    assert (link["trace_id"], link["attributes"]) == (trace_id, {"sskai.link": "trained-in"})
    assert by_id[link["span_id"]]["name"] == "process ModelVersionReady"


async def notice(system: System, machine_id: str) -> None:
    """The cloud's warning, as the monitor reads it."""
    at = datetime.now(UTC)
    body = message("spot_interruption_warning", machine_id, time=(at - timedelta(seconds=119)).isoformat())
    async with system.monitor.transaction() as session:
        await Reader(system.monitor, 1800).desk(session).take("eventbridge", Raw(body), ours=False)
    await system.bus.settle()


async def answered(system: System) -> str:
    """One request to an endpoint of the new version; its trace."""
    wish = events.EndpointRequested(
        endpoint_id="end_1", tenant_id="tenant_a", name="bot", model_id="bot", version=1, artifact_uri="s3://b/a"
    )
    await system.tell(wish, None)
    async with system.inference.transaction() as session:
        [endpoint] = await services.inference.store.Store(session).visible_endpoints()
    observation = Observation(
        "chatcmpl_1",
        Samples(1, asyncio.Event()),
        operation="chat",
        tenant_id="tenant_a",
        model="bot",
        traceparent=None,
        asker=Asker(),
        tally=Tally(lambda _: "", 10),
    )
    observation.begin(endpoint, "hello", 3)
    observation.piece(Piece("hi", 1, "stop"))
    observation.end("answered")
    with observation.active():
        traceparent = telemetry.current_traceparent()
    assert traceparent is not None
    return traceparent.split("-")[1]
