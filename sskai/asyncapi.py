"""The event contract as an AsyncAPI 3.0 document, drawn from the protobuf descriptors: nothing is written twice.

https://www.asyncapi.com/docs/reference/specification/v3.0.0 with its bindings for Kafka and HTTP.
"""

from __future__ import annotations

from typing import Any

import yaml
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from sskai import contract

CONTRACT_VERSION = "1.0.0"  # v1 only grows
KAFKA_BINDING, HTTP_BINDING = "0.5.0", "0.3.0"
STREAM = "stream"

_INTEGERS = {FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_UINT32}
# Protobuf's JSON writes 64-bit integers as strings, which keep all their digits in every language.
_LONG_INTEGERS = {FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64}
_REALS = {FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT}
_TIMESTAMP = "google.protobuf.Timestamp"


def document(bootstrap: str = "localhost:9092", gateway: str = "localhost:8000") -> dict[str, Any]:
    """The whole contract: a channel per topic, one for the stream over HTTP, a message per event, their JSON Schemas.

    The addresses are defaults of variables: where an installation has its broker is its operator's to say.
    """
    schemas: dict[str, Any] = {}
    for kind in contract.MESSAGES.values():
        _collect(kind.DESCRIPTOR, schemas)
        schemas[_name(kind)]["required"] = [_key(kind)]
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "SSKAI events",
            "version": CONTRACT_VERSION,
            "description": "CloudEvents 1.0 on Kafka (binary mode, protobuf); the same in JSON over /v1/events.",
        },
        "defaultContentType": contract.PROTOBUF,
        "servers": _servers(bootstrap, gateway),
        "channels": {
            **{_channel(topic): _channel_document(topic) for topic in contract.TOPICS},
            STREAM: _stream_document(),
        },
        "operations": {
            **{f"receive-{_channel(topic)}": _operation(topic) for topic in contract.TOPICS},
            f"receive-{STREAM}": {
                "action": "receive",
                "channel": {"$ref": f"#/channels/{STREAM}"},
                "summary": "Every event of the key's tenant as it happens, as server-sent events",
                "bindings": {"http": {"method": "GET", "bindingVersion": HTTP_BINDING}},
            },
        },
        "components": {
            "messages": {
                **{_name(kind): _message(kind) for kind in contract.MESSAGES.values()},
                "CloudEvent": _cloudevent(),
            },
            "schemas": dict(sorted(schemas.items())),
            "securitySchemes": {
                "scram": {"type": "scramSha512", "description": "SASL/SCRAM-SHA-512 over TLS"},
                "certificate": {"type": "X509", "description": "A client certificate (mutual TLS)"},
                "key": {"type": "http", "scheme": "bearer", "description": "An API key: sskai_..."},
            },
        },
    }


def _servers(bootstrap: str, gateway: str) -> dict[str, Any]:
    told = "Where the installation's brokers are (SSKAI_KAFKA_BOOTSTRAP)"
    broker = {"host": "{bootstrap}", "variables": {"bootstrap": {"default": bootstrap, "description": told}}}
    schemes = [{"$ref": f"#/components/securitySchemes/{name}"} for name in ("scram", "certificate")]
    return {
        "kafka": {**broker, "protocol": "kafka", "description": "The embedded broker: loopback, no credentials"},
        "kafka-secure": {**broker, "protocol": "kafka-secure", "description": "A shared broker", "security": schemes},
        "gateway": {
            "host": "{gateway}",
            "variables": {"gateway": {"default": gateway, "description": "Where the HTTP API is"}},
            "protocol": "http",
            "security": [{"$ref": "#/components/securitySchemes/key"}],
        },
    }


def to_yaml(value: dict[str, Any]) -> str:
    return str(yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=120))


def _channel(topic: str) -> str:
    """`sskai.jobs.v1` -> `jobs`: a channel's name may not hold dots."""
    return topic.split(".")[1]


def _name(kind: type[Message]) -> str:
    return str(kind.DESCRIPTOR.name)


def _key(kind: type[Message]) -> str:
    """The field that is the record's key; an event without it is none."""
    return str(kind.DESCRIPTOR.fields_by_number[1].name)


def _channel_document(topic: str) -> dict[str, Any]:
    kinds = [kind for kind in contract.MESSAGES.values() if contract.topic_of(kind) == topic]
    return {
        "address": topic,
        "servers": [{"$ref": f"#/servers/{name}"} for name in ("kafka", "kafka-secure")],
        "messages": {_name(kind): {"$ref": f"#/components/messages/{_name(kind)}"} for kind in kinds},
        "bindings": {"kafka": {"topic": topic, "bindingVersion": KAFKA_BINDING}},
    }


def _operation(topic: str) -> dict[str, Any]:
    group = {"type": "string", "description": "A name of your own: two programs of one group share the events"}
    return {
        "action": "receive",
        "channel": {"$ref": f"#/channels/{_channel(topic)}"},
        "summary": f"Read {topic} with a consumer group of your own",
        "bindings": {"kafka": {"groupId": group, "bindingVersion": KAFKA_BINDING}},
    }


def _stream_document() -> dict[str, Any]:
    return {
        "address": "/v1/events",
        "servers": [{"$ref": "#/servers/gateway"}],
        "messages": {"CloudEvent": {"$ref": "#/components/messages/CloudEvent"}},
    }


def _cloudevent() -> dict[str, Any]:
    """What the stream and webhooks carry."""
    text = {"type": "string"}
    return {
        "title": "CloudEvent",
        "contentType": contract.CLOUDEVENT_JSON,
        "payload": {
            "type": "object",
            "required": ["specversion", "id", "source", "type", "time", "partitionkey", "data"],
            "properties": {
                "specversion": {"type": "string", "const": "1.0"},
                "id": {**text, "description": "Unique together with source"},
                "source": text,
                "type": {"type": "string", "enum": list(contract.MESSAGES)},
                "time": {"type": "string", "format": "date-time"},
                "partitionkey": text,
                "datacontenttype": {"type": "string", "const": contract.JSON},
                "traceparent": {**text, "description": "W3C trace context"},
                "data": {"type": "object", "description": "The event: the schema that its type names"},
            },
        },
    }


def _message(kind: type[Message]) -> dict[str, Any]:
    descriptor = kind.DESCRIPTOR
    return {
        "name": descriptor.full_name,
        "title": descriptor.name,
        "contentType": contract.PROTOBUF,
        "headers": {
            "type": "object",
            "required": ["ce_specversion", "ce_id", "ce_source", "ce_type"],
            "properties": {
                "ce_specversion": {"type": "string", "const": "1.0"},
                "ce_id": {"type": "string", "description": "Unique together with ce_source"},
                "ce_source": {"type": "string"},
                "ce_type": {"type": "string", "const": descriptor.full_name},
                "ce_time": {"type": "string", "format": "date-time"},
                "ce_partitionkey": {"type": "string"},
                "traceparent": {"type": "string", "description": "W3C trace context"},
            },
        },
        "payload": {"$ref": f"#/components/schemas/{descriptor.name}"},
        "bindings": {
            "kafka": {"key": {"type": "string", "description": f"`{_key(kind)}`"}, "bindingVersion": KAFKA_BINDING},
        },
    }


def _collect(descriptor: Any, schemas: dict[str, Any]) -> None:
    """Put the schema of a message, and of every message inside it, into `schemas`."""
    if descriptor.name in schemas:
        return
    schemas[descriptor.name] = {}  # known from now on, so that one that holds itself would end
    schemas[descriptor.name] = {
        "type": "object",
        "properties": {field.name: _field(field, schemas) for field in descriptor.fields},
    }


def _field(field: Any, schemas: dict[str, Any]) -> dict[str, Any]:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return {"type": "object", "additionalProperties": _value(field.message_type.fields_by_name["value"], schemas)}
    value = _value(field, schemas)
    return {"type": "array", "items": value} if field.is_repeated else value


def _value(field: Any, schemas: dict[str, Any]) -> dict[str, Any]:
    if field.message_type is not None:
        if field.message_type.full_name == _TIMESTAMP:
            return {"type": "string", "format": "date-time"}
        _collect(field.message_type, schemas)
        return {"$ref": f"#/components/schemas/{field.message_type.name}"}
    if field.enum_type is not None:
        return {"type": "string", "enum": [value.name for value in field.enum_type.values]}
    if field.cpp_type in _INTEGERS:
        return {"type": "integer"}
    if field.cpp_type in _LONG_INTEGERS:
        return {"type": "string", "pattern": "^-?[0-9]+$"}
    if field.cpp_type in _REALS:
        return {"type": "number"}
    return {"type": "boolean" if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL else "string"}
