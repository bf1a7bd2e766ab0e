"""What a tenant can have, made the way users and services make it: the other tenant is after all of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import httpx2
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from services.monitor import otlp
from services.monitor.ingest import Ingest
from sskai.contract import new_id, timestamp
from sskai.database import Database
from tests.gateway.conftest import MODEL, House, job_file
from tests.gateway.test_weights import form
from tests.security.examples import example

TRACE = "5eb63bbbe01eeed093cb22bb8f5acdc3"


@dataclass
class Estate:
    """`ids`: by the kind of thing, everything that names one of it; the same of what nobody has."""

    house: House
    monitor: Database
    tenant_id: str
    ids: dict[str, list[str]]

    def nobodys(self, text: str) -> str:
        """What names nothing, written like `text`."""
        prefix, _, _ = text.partition("_")
        if text == TRACE:
            return TRACE[::-1]
        if "_" in text and text.startswith(tuple(KINDS)):
            return new_id(prefix)
        head, at, version = text.partition("@")
        scheme, slashes, name = head.rpartition("//")
        name, slash, number = name.partition("/")
        return f"{scheme}{slashes}{'z' * len(name)}{slash}{number}{at}{version}"


KINDS = (
    "job_", "dataset_", "model_", "endpoint_", "plan_", "replay_", "budget_", "webhook_", "key_", "retrain_",
    "tenant_", "chatcmpl_", "delivery_", "member_", "upload_",
)  # fmt: skip


async def tenant_of(client: httpx2.AsyncClient) -> str:
    tenant_id: str = (await client.get("/v1/keys")).json()["data"][0]["tenant_id"]
    return tenant_id


async def build_estate(house: House, monitor: Database, ingest: Ingest) -> Estate:
    bob = house.bob
    tenant_id = await tenant_of(bob)
    dataset = await house.dataset(bob, "bobs-data")
    await house.dataset(bob)
    uploaded = await _made(bob.post("/v1/models", data={"name": "bobs-weights"}, files=form()))
    job = await _made(bob.post("/v1/jobs", json=job_file(name="bobs-bot")))
    await house.bus.settle()
    endpoint = await _made(bob.post("/v1/endpoints", json={"name": "bobs-endpoint", "model": MODEL}))
    plan_id, model_id = new_id("plan"), new_id("model")
    ids = {"tenant_id": tenant_id, "job_id": job["id"], "endpoint_id": endpoint["id"], "model_id": model_id}
    retrain = example("RetrainSuggested", **ids)
    retrain.retrain_id = retrain_id = new_id("retrain")
    replay = example("PlanReplayed", **ids, plan_id=plan_id)
    replay.replay_id = new_id("replay")
    version = example("ModelVersionReady", **ids)
    version.name, version.version = "bobs-bot", 1
    drift = example("DriftDetected", **ids)
    plan = example("PlanProposed", **ids, plan_id=plan_id)
    receipt, ready = example("ReceiptIssued", **ids), example("EndpointReady", **ids)
    promises, asked = example("EndpointObjectivesSet", **ids), example("InferenceSampled", **ids)
    paid = example("SpendRecorded", tenant_id=tenant_id)
    paid.job_id = paid.endpoint_id = endpoint["id"]
    paid.started_at.CopyFrom(timestamp(house.world.now()))
    paid.ended_at.CopyFrom(timestamp(house.world.now()))
    await house.bus.publish(plan, replay, version, ready, drift, retrain, receipt, promises, asked, paid)
    await house.bus.settle()
    await _made(bob.put("/v1/models/bobs-bot/aliases/champion", json={"version": 1}))
    budget = await _made(
        bob.put("/v1/budgets", json={"scope": "job", "target": job["id"], "amount_usd": 5.0, "period": "total"})
    )
    webhook = await _made(bob.post("/v1/webhooks", json={"url": "https://example.com/hook"}))
    tested = await _made(bob.post(f"/v1/webhooks/{webhook['id']}/test"))
    member = await _made(bob.post("/v1/members", json={"email": "bobs-friend@example.com", "role": "viewer"}))
    announced = {"bytes": 9, "filename": "bobs-rows.jsonl", "mime_type": "text/plain", "purpose": "fine-tune"}
    upload = await _made(bob.post("/v1/uploads", json=announced))
    await _made(bob.post(f"/v1/uploads/{upload['id']}/parts", files={"data": ("part", b'{"a": 1}')}))
    tune = await _made(bob.post("/v1/fine_tuning/jobs", json={"model": MODEL, "training_file": dataset["id"]}))
    await house.bus.settle()
    await ingest.add(otlp.read(_trace_of(tenant_id, house.world.now()), otlp.PROTOBUF, house.world.now()).spans)
    key = (await bob.get("/v1/keys")).json()["data"][0]
    named = {
        "job": [job["id"]],
        "dataset": [dataset["id"], "bobs-data", "bobs-data@1"],
        "dataset uri": ["dataset://bobs-data/1", "bobs-data@1", dataset["id"]],
        "model": [uploaded["model_id"], "bobs-weights", "bobs-bot@1", "bobs-bot@champion", model_id],
        "model name": ["bobs-bot"],
        "model uri": ["model://bobs-bot/1", "model://bobs-weights/1", "bobs-bot@champion", model_id],
        "endpoint": [endpoint["id"]],
        "endpoint or name": [endpoint["id"], "bobs-endpoint"],
        "endpoint name": ["bobs-endpoint"],
        "plan": [plan_id],
        "replay": [replay.replay_id],
        "retrain": [retrain_id],
        "budget": [budget["id"]],
        "webhook": [webhook["id"]],
        "delivery": [tested["delivery_id"]],
        "member": [member["id"]],
        "upload": [upload["id"]],
        "file": [dataset["id"], "bobs-data@1"],
        "fine-tune": [tune["id"]],
        "key": [key["id"]],
        "trace": [TRACE],
        "tenant": [tenant_id],
        "answer": ["chatcmpl_of-bob"],
    }
    return Estate(house, monitor, tenant_id, named)


async def _made(asking: object) -> dict[str, object]:
    answer = await asking  # type: ignore[misc]
    assert answer.status_code in (200, 201, 202), answer.text
    return dict(answer.json())


def _trace_of(tenant_id: str, now: datetime) -> bytes:
    at = int(now.timestamp()) * 10**9
    span = Span(
        trace_id=bytes.fromhex(TRACE),
        span_id=b"\1" * 8,
        name="POST /v1/jobs",
        start_time_unix_nano=at,
        end_time_unix_nano=at + 1,
    )
    attribute = span.attributes.add()
    attribute.key, attribute.value.string_value = "sskai.tenant", tenant_id
    return ExportTraceServiceRequest(
        resource_spans=[ResourceSpans(scope_spans=[ScopeSpans(spans=[span])])]
    ).SerializeToString()
