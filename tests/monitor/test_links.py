"""Links between spans: read from OTLP in both encodings, kept, bounded, and shown."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import httpx2
import pytest
from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from services.monitor import api, otlp
from services.monitor.ingest import Ingest
from sskai.database import Database

SERVICE = "monitor"
TRACE, OTHER = bytes(range(16)), bytes(range(16, 32))


def request(links: int) -> ExportTraceServiceRequest:
    """A span of tenant A with so many links."""
    now_ns = int(datetime.now(UTC).timestamp() * 1e9)
    span = Span(trace_id=TRACE, span_id=b"\1" * 8, name="chat", start_time_unix_nano=now_ns, end_time_unix_nano=now_ns)
    span.attributes.append(KeyValue(key="sskai.tenant", value=AnyValue(string_value="A")))
    for number in range(links):
        link = span.links.add(trace_id=OTHER, span_id=number.to_bytes(8))
        link.attributes.append(KeyValue(key="sskai.link", value=AnyValue(string_value="trained-in")))
    found = ExportTraceServiceRequest()
    found.resource_spans.add().scope_spans.add().spans.append(span)
    return found


def as_json(asked: ExportTraceServiceRequest) -> bytes:
    """As OTLP writes JSON: ids in hex."""
    document = json_format.MessageToDict(asked)
    span = document["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
    original = asked.resource_spans[0].scope_spans[0].spans[0]
    for item, its in zip([span, *span["links"]], [original, *original.links], strict=True):
        item["traceId"], item["spanId"] = its.trace_id.hex(), its.span_id.hex()
    return json.dumps(document).encode()


@pytest.mark.parametrize("content_type", [otlp.PROTOBUF, otlp.JSON])
async def test_a_spans_links_are_shown(database: Database, content_type: str) -> None:
    app = api.build(database, Ingest(database), "token")
    asked = request(1)
    body = as_json(asked) if content_type == otlp.JSON else asked.SerializeToString()
    headers = {"X-SSKAI-Internal": "token", "X-SSKAI-Tenant": "A"}
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://monitor", headers=headers) as client:
        assert (
            await client.post("/v1/traces", content=body, headers={"content-type": content_type})
        ).status_code == 200
        [span] = (await client.get(f"/v1/traces/{TRACE.hex()}")).json()["spans"]
    assert span["links"] == [{"trace_id": OTHER.hex(), "span_id": "0" * 16, "attributes": {"sskai.link": "trained-in"}}]


def test_more_links_than_anybody_needs_are_cut() -> None:
    batch = otlp.read(request(otlp.MAX_LINKS + 5).SerializeToString(), otlp.PROTOBUF, datetime.now(UTC))
    assert len(batch.spans[0].links) == otlp.MAX_LINKS
