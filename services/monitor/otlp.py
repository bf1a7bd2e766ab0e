"""OpenTelemetry trace data, as OTLP/HTTP and the Collector's Kafka exporter bring it, read into our spans.

Schema: opentelemetry-proto `ExportTraceServiceRequest`; JSON as the OTLP specification writes it (ids in hex).
Nobody behind this file has heard of OTLP.
"""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1 import trace_pb2

from services.monitor.spans import Attribute, Scalar, Span

PROTOBUF = "application/x-protobuf"
JSON = "application/json"

OUR_PREFIX = "sskai."

MAX_TEXT_CHARACTERS = 1_000
MAX_NAME_CHARACTERS = 200
MAX_ATTRIBUTES = 64
MAX_EVENTS = 16
MAX_LINKS = 16
MAX_LIST_ITEMS = 32

# Beyond these a span's clock is wrong or its story is over; either way it would open windows that nobody reads.
MAX_AGE_NS = 7 * 24 * 3600 * 1_000_000_000
MAX_AHEAD_NS = 3600 * 1_000_000_000

KINDS = {1: "internal", 2: "server", 3: "client", 4: "producer", 5: "consumer"}


class UnreadableError(ValueError):
    """The bytes are no OTLP trace data; nothing of them was taken."""


class TooLargeError(ValueError):
    """More bytes than a request may have."""


@dataclass(frozen=True, slots=True)
class Batch:
    """The spans of a request, and how many were refused, with the last one's reason."""

    spans: list[Span]
    rejected: int
    reason: str


def gunzip(data: bytes, max_bytes: int) -> bytes:
    """Unpack gzip data of at most `max_bytes`, never more. Raises UnreadableError, TooLargeError."""
    unpacker = zlib.decompressobj(wbits=31)
    try:
        plain = unpacker.decompress(data, max_bytes + 1)
    except zlib.error as error:
        raise UnreadableError(f"not gzip: {error}") from error
    if len(plain) > max_bytes:
        raise TooLargeError(f"over {max_bytes} bytes when unpacked")
    if not unpacker.eof:
        raise UnreadableError("gzip data is cut off")
    return plain


def read(data: bytes, content_type: str, now: datetime) -> Batch:
    """The spans of an ExportTraceServiceRequest in protobuf or JSON. Raises UnreadableError."""
    request = ExportTraceServiceRequest()
    try:
        if content_type == JSON:
            json_format.ParseDict(_ids_as_base64(json.loads(data)), request, ignore_unknown_fields=True)
        else:
            request.ParseFromString(data)
    except (DecodeError, json_format.ParseError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise UnreadableError(f"not an ExportTraceServiceRequest: {error}"[:500]) from error
    now_ns = int(now.timestamp() * 1e9)
    spans: list[Span] = []
    rejected, reason = 0, ""
    for service, ours, span in _each(request):
        if fault := _fault(span, now_ns):
            rejected, reason = rejected + 1, fault
        else:
            spans.append(_span(service, ours, span))
    return Batch(spans, rejected, reason)


def _each(request: ExportTraceServiceRequest) -> Iterator[tuple[str, dict[str, Attribute], trace_pb2.Span]]:
    """Each span with its service, and what its process says of all its spans: tenant, job and attempt."""
    for resource_spans in request.resource_spans:
        attributes = resource_spans.resource.attributes
        service = next((item.value.string_value for item in attributes if item.key == "service.name"), "")
        ours = _attributes([item for item in attributes if item.key.startswith(OUR_PREFIX)])
        for scope_spans in resource_spans.scope_spans:
            for span in scope_spans.spans:
                yield service[:MAX_NAME_CHARACTERS] or "unknown_service", ours, span


def _fault(span: trace_pb2.Span, now_ns: int) -> str:
    if len(span.trace_id) != 16 or not any(span.trace_id):
        return "trace_id is not 16 bytes, or all zero"
    if len(span.span_id) != 8 or not any(span.span_id):
        return "span_id is not 8 bytes, or all zero"
    if not now_ns - MAX_AGE_NS <= span.end_time_unix_nano <= now_ns + MAX_AHEAD_NS:
        return "the span ended more than 7 days ago or more than an hour ahead of the monitor's clock"
    if not now_ns - 2 * MAX_AGE_NS <= span.start_time_unix_nano <= now_ns + MAX_AHEAD_NS:
        return "the span started more than 14 days ago or more than an hour ahead of the monitor's clock"
    return ""


def _span(service: str, ours: dict[str, Attribute], span: trace_pb2.Span) -> Span:
    return Span(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_span_id=span.parent_span_id.hex(),
        service=_clean(service),
        name=_clean(span.name)[:MAX_NAME_CHARACTERS],
        kind=KINDS.get(span.kind, "internal"),
        started_ns=span.start_time_unix_nano,
        ended_ns=span.end_time_unix_nano,
        failed=span.status.code == trace_pb2.Status.STATUS_CODE_ERROR,
        status_message=_clean(span.status.message)[:MAX_TEXT_CHARACTERS],
        attributes=ours | _attributes(span.attributes),
        events=[
            {
                "name": _clean(event.name)[:MAX_NAME_CHARACTERS],
                "at_ns": event.time_unix_nano,
                "attributes": _attributes(event.attributes),
            }
            for event in span.events[:MAX_EVENTS]
        ],
        links=[
            {
                "trace_id": link.trace_id.hex(),
                "span_id": link.span_id.hex(),
                "attributes": _attributes(link.attributes),
            }
            for link in span.links[:MAX_LINKS]
        ],
    )


def _attributes(items: Any) -> dict[str, Attribute]:
    return {_clean(item.key)[:MAX_NAME_CHARACTERS]: _attribute(item.value) for item in items[:MAX_ATTRIBUTES]}


def _attribute(value: AnyValue) -> Attribute:
    if value.WhichOneof("value") == "array_value":
        return [_scalar(item) for item in value.array_value.values[:MAX_LIST_ITEMS]]
    return _scalar(value)


def _scalar(value: AnyValue) -> Scalar:
    match value.WhichOneof("value"):
        case "string_value":
            return _clean(value.string_value)[:MAX_TEXT_CHARACTERS]
        case "bool_value":
            return bool(value.bool_value)
        case "int_value":
            return int(value.int_value)
        case "double_value":
            number = float(value.double_value)
            # JSON knows no infinities.
            return number if abs(number) < float("inf") else str(number)
        case "bytes_value":
            return value.bytes_value[:MAX_TEXT_CHARACTERS].hex()
        case None:
            return ""
        case _:  # nested values are kept as text: nothing here looks into them
            return str(value)[:MAX_TEXT_CHARACTERS]


def _clean(text: str) -> str:
    return text.replace("\0", "")  # PostgreSQL's text has no such character


_ID_FIELDS = ("traceId", "spanId", "parentSpanId")


def _ids_as_base64(document: dict[str, Any]) -> dict[str, Any]:
    """OTLP's JSON writes ids in hex, where protobuf's own JSON expects base64."""
    for resource_spans in document.get("resourceSpans", []):
        for scope_spans in resource_spans.get("scopeSpans", []):
            for span in scope_spans.get("spans", []):
                for item in (span, *span.get("links", [])):
                    item.update({name: _base64(item[name]) for name in _ID_FIELDS if name in item})
    return document


def _base64(hexadecimal: str) -> str:
    try:
        return base64.b64encode(bytes.fromhex(hexadecimal)).decode()
    except (ValueError, TypeError, binascii.Error) as error:
        raise UnreadableError(f"an id is not hex: {hexadecimal!r:.60}") from error
