"""Events as CloudEvents on Kafka: the only place that knows how a message becomes a record, and back.

Type, topic and key are read from the `.proto` files: the type is the message's full name, the topic is its file and
version (`sskai/events/v1/jobs.proto` tells on `sskai.jobs.v1`), the key is field 1, the aggregate's id. Nothing is
configured twice. Format: CloudEvents 1.0, Kafka protocol binding, binary mode (`ce_*` headers); structured JSON is read
as well and is what SSE and webhooks carry.
"""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any, TypeAlias

from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import Timestamp

from sskai.events.v1 import (
    attempts_pb2,
    costs_pb2,
    datasets_pb2,
    endpoints_pb2,
    inferences_pb2,
    jobs_pb2,
    machines_pb2,
    models_pb2,
    monitoring_pb2,
    plans_pb2,
)

Headers: TypeAlias = Sequence[tuple[str, bytes]]

PROTOBUF = "application/protobuf"
JSON = "application/json"
CLOUDEVENT_JSON = "application/cloudevents+json"

# Brokers refuse records over 1 MiB by default; a larger one would be stuck in the outbox for ever.
MAX_EVENT_BYTES = 1_000_000

OTLP_TOPIC = "otlp_spans"  # raw trace data of the OpenTelemetry Collector's Kafka exporter: not CloudEvents
DEAD_LETTER_SUFFIX = ".dlq"

_FILES = (
    attempts_pb2,
    costs_pb2,
    datasets_pb2,
    endpoints_pb2,
    inferences_pb2,
    jobs_pb2,
    machines_pb2,
    models_pb2,
    monitoring_pb2,
    plans_pb2,
)


class UnknownTypeError(Exception):
    """A well-formed event of a type that this version does not know: to be skipped and counted."""


class UndecodableError(Exception):
    """A record that is no event of the contract: to be set aside with this reason."""


class ForeignEventError(Exception):
    """An event of one tenant about what another one has: to be set aside with this reason."""


class TogetherError(Exception):
    """Nothing of several events was done, because of the one at `index`: it has to be handled alone."""

    def __init__(self, index: int) -> None:
        super().__init__(f"the event at {index} of those that were handled together")
        self.index = index


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message with what CloudEvents says around it. (source, id) is unique: consumers dedupe on it."""

    message: Message
    id: str
    source: str
    time: datetime
    traceparent: str | None = None

    @property
    def type(self) -> str:
        return self.message.DESCRIPTOR.full_name

    @property
    def key(self) -> str:
        return key_of(self.message)


@dataclass(frozen=True, slots=True)
class Record:
    """What Kafka stores."""

    topic: str
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]] = field(default_factory=list)


@cache
def _topic(proto_file: str) -> str:
    folder, _, name = proto_file.rpartition("/")
    product, version = folder.split("/")[0], folder.split("/")[-1]
    return f"{product}.{name.removesuffix('.proto')}.{version}"


MESSAGES: dict[str, type[Message]] = {
    descriptor.full_name: GetMessageClass(descriptor)
    for module in _FILES
    for descriptor in module.DESCRIPTOR.message_types_by_name.values()
}
TOPICS: tuple[str, ...] = tuple(sorted({_topic(module.DESCRIPTOR.name) for module in _FILES}))


def topic_of(message: Message | type[Message]) -> str:
    """The topic that tells this message, e.g. `sskai.jobs.v1`."""
    if message.DESCRIPTOR.full_name not in MESSAGES:
        raise ValueError(f"{message.DESCRIPTOR.full_name} is a value, not an event: it has no topic")
    return _topic(message.DESCRIPTOR.file.name)


def key_of(message: Message) -> str:
    """The aggregate's id: field 1. All events of one key stay in order."""
    key: str = getattr(message, message.DESCRIPTOR.fields_by_number[1].name)
    return key


def tenant_of(message: Message) -> str:
    """The tenant whose fact this is; empty for facts of the platform (prices, machines)."""
    return str(getattr(message, "tenant_id", ""))


_CROCKFORD = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", b"0123456789abcdefghjkmnpqrstvwxyz")


def new_id(kind: str) -> str:
    """`kind_` and 26 characters that sort by time: 48 bits of milliseconds, 80 of chance (the layout of a ULID)."""
    number = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    digits = base64.b32encode(number.to_bytes(20)).translate(_CROCKFORD)  # 160 bits, of which the last 130 are shown
    return f"{kind}_{digits[6:].decode()}"


def moment(stamp: Timestamp) -> datetime:
    """A protobuf timestamp as an aware datetime in UTC."""
    return stamp.ToDatetime(tzinfo=UTC)


def timestamp(at: datetime) -> Timestamp:
    """An aware datetime as a protobuf timestamp."""
    stamp = Timestamp()
    stamp.FromDatetime(at)
    return stamp


def encode(envelope: Envelope) -> Record:
    """The Kafka record of an event, binary mode with protobuf data."""
    value = envelope.message.SerializeToString(deterministic=True)
    if len(value) > MAX_EVENT_BYTES:
        raise ValueError(f"{envelope.type} {envelope.key} has {len(value)} bytes; the limit is {MAX_EVENT_BYTES}")
    if not envelope.key:
        raise ValueError(f"{envelope.type} has an empty key (field 1)")
    if not _is_storable(envelope.key):
        raise ValueError(f"{envelope.type} has a key that nothing can store: {envelope.key[:100]!r}")
    headers = {
        "ce_specversion": "1.0",
        "ce_id": envelope.id,
        "ce_source": envelope.source,
        "ce_type": envelope.type,
        "ce_time": envelope.time.isoformat(),
        "ce_partitionkey": envelope.key,
        "content-type": PROTOBUF,
    }
    if envelope.traceparent:
        headers["traceparent"] = envelope.traceparent
    return Record(
        topic=topic_of(envelope.message),
        key=envelope.key.encode(),
        value=value,
        headers=[(name, text.encode()) for name, text in headers.items()],
    )


# What protobuf raises over bytes and JSON that are no such message: text that is not UTF-8, a number where an object
# must be, half of a surrogate pair (for which it sets an error that Python itself calls a SystemError).
_WRONG_DATA = (DecodeError, json_format.ParseError, RecursionError, ValueError, TypeError, SystemError)


def decode(value: bytes | None, headers: Iterable[tuple[str, bytes]]) -> Envelope:
    """The event in a Kafka record: binary mode with protobuf or JSON data, or structured JSON.

    Raises UnknownTypeError for a type this version does not know, UndecodableError for anything else that is wrong.
    """
    try:
        attributes = {name.lower(): text.decode() for name, text in headers}
    except UnicodeDecodeError as error:
        raise UndecodableError(f"a header is not UTF-8: {error}") from error
    if value is None or len(value) > MAX_EVENT_BYTES:
        raise UndecodableError(
            "the record is empty" if value is None else f"{len(value)} bytes, over {MAX_EVENT_BYTES}"
        )
    content_type = attributes.get("content-type", PROTOBUF).partition(";")[0].strip().lower()
    if content_type == CLOUDEVENT_JSON:
        try:
            return from_cloudevent(json.loads(value))
        except (ValueError, TypeError, RecursionError) as error:
            raise UndecodableError(f"not a CloudEvent in JSON: {error}") from error
    if content_type not in (PROTOBUF, JSON):
        raise UndecodableError(f"content-type {content_type!r}; known are {PROTOBUF}, {JSON} and {CLOUDEVENT_JSON}")
    kind = _message_class(attributes.get("ce_type"))
    message = kind()
    try:
        if content_type == JSON:
            json_format.Parse(value, message, ignore_unknown_fields=True)
        else:
            message.ParseFromString(value)
    except _WRONG_DATA as error:
        raise UndecodableError(f"not a {kind.DESCRIPTOR.full_name}: {error}") from error
    return _envelope(
        message,
        {name.removeprefix("ce_"): text for name, text in attributes.items() if name.startswith("ce_")},
        attributes.get("traceparent"),
    )


def to_cloudevent(envelope: Envelope) -> dict[str, Any]:
    """The event as CloudEvents structured JSON, as SSE and webhooks carry it."""
    event = {
        "specversion": "1.0",
        "id": envelope.id,
        "source": envelope.source,
        "type": envelope.type,
        "time": envelope.time.isoformat(),
        "partitionkey": envelope.key,
        "datacontenttype": JSON,
        "data": json_format.MessageToDict(envelope.message, preserving_proto_field_name=True),
    }
    if envelope.traceparent:
        event["traceparent"] = envelope.traceparent
    return event


def from_cloudevent(event: Mapping[str, Any]) -> Envelope:
    """The opposite of `to_cloudevent`. Errors as `decode`."""
    if not isinstance(event, Mapping):
        raise UndecodableError("a CloudEvent in JSON is an object")
    kind = _message_class(event.get("type"))
    message = kind()
    try:
        json_format.ParseDict(event.get("data") or {}, message, ignore_unknown_fields=True)
    except _WRONG_DATA as error:
        raise UndecodableError(f"not a {kind.DESCRIPTOR.full_name}: {error}") from error
    traceparent = event.get("traceparent")
    return _envelope(message, event, traceparent if isinstance(traceparent, str) else None)


def _message_class(type_name: object) -> type[Message]:
    if not isinstance(type_name, str) or not type_name:
        raise UndecodableError("no ce_type: say which event of the catalogue (proto/README.md) this is")
    try:
        return MESSAGES[type_name]
    except KeyError:
        raise UnknownTypeError(type_name) from None


def _envelope(message: Message, attributes: Mapping[str, Any], traceparent: str | None) -> Envelope:
    version, id_, source = (attributes.get(name) for name in ("specversion", "id", "source"))
    if version != "1.0":
        raise UndecodableError(f"CloudEvents specversion is {version!r}; only '1.0' is known")
    if not isinstance(id_, str) or not id_ or not isinstance(source, str) or not source:
        raise UndecodableError("CloudEvents id and source must be given: events are told apart by them")
    if not key_of(message):
        raise UndecodableError(f"field 1 ({message.DESCRIPTOR.fields_by_number[1].name}) is empty: it is the key")
    for name, text in (("id", id_), ("source", source), ("key", key_of(message))):
        if not _is_storable(text):
            raise UndecodableError(
                f"{name} {text[:100]!r} holds a NUL or half of a surrogate pair: nothing can store it"
            )
    if traceparent is not None and not _is_storable(traceparent):
        traceparent = None  # the event is sound: it begins a trace of its own
    try:
        at = datetime.fromisoformat(attributes["time"]) if "time" in attributes else datetime.now(UTC)
    except (ValueError, TypeError) as error:
        raise UndecodableError(f"CloudEvents time is no RFC 3339 time: {error}") from error
    return Envelope(message, id_, source, at if at.tzinfo else at.replace(tzinfo=UTC), traceparent)


def _is_storable(text: str) -> bool:
    """PostgreSQL keeps no NUL, and UTF-8 has no lone surrogates."""
    return "\0" not in text and (text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text))
