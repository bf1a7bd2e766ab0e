"""The event contract as an AsyncAPI 3.0 document, drawn from the protobuf descriptors: nothing is written twice.

https://www.asyncapi.com/docs/reference/specification/v3.0.0 with its Kafka bindings 0.5.0.
"""

from __future__ import annotations

from typing import Any

import yaml
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from sskai import contract

CONTRACT_VERSION = "1.0.0"  # v1 only grows

_INTEGERS = {FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_UINT32}
# Protobuf's JSON writes 64-bit integers as strings, which keep all their digits in every language.
_LONG_INTEGERS = {FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64}
_REALS = {FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT}
_TIMESTAMP = "google.protobuf.Timestamp"


def document(bootstrap: str = "localhost:9092") -> dict[str, Any]:
    """The whole contract: a channel per topic, a message per event, their JSON Schemas."""
    schemas: dict[str, Any] = {}
    for kind in contract.MESSAGES.values():
        _collect(kind.DESCRIPTOR, schemas)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "SSKAI events",
            "version": CONTRACT_VERSION,
            "description": "CloudEvents 1.0 on Kafka (binary mode, protobuf); the same in JSON over /v1/events.",
        },
        "defaultContentType": contract.PROTOBUF,
        "servers": {"kafka": {"host": bootstrap, "protocol": "kafka"}},
        "channels": {_channel(topic): _channel_document(topic) for topic in contract.TOPICS},
        "operations": {
            f"receive-{_channel(topic)}": {
                "action": "receive",
                "channel": {"$ref": f"#/channels/{_channel(topic)}"},
                "summary": f"Read {topic} with a consumer group of your own",
            }
            for topic in contract.TOPICS
        },
        "components": {
            "messages": {_name(kind): _message(kind) for kind in contract.MESSAGES.values()},
            "schemas": dict(sorted(schemas.items())),
        },
    }


def to_yaml(value: dict[str, Any]) -> str:
    return str(yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=120))


def _channel(topic: str) -> str:
    """`sskai.jobs.v1` -> `jobs`: a channel's name may not hold dots."""
    return topic.split(".")[1]


def _name(kind: type[Message]) -> str:
    return str(kind.DESCRIPTOR.name)


def _channel_document(topic: str) -> dict[str, Any]:
    kinds = [kind for kind in contract.MESSAGES.values() if contract.topic_of(kind) == topic]
    return {
        "address": topic,
        "messages": {_name(kind): {"$ref": f"#/components/messages/{_name(kind)}"} for kind in kinds},
        "bindings": {"kafka": {"topic": topic, "bindingVersion": "0.5.0"}},
    }


def _message(kind: type[Message]) -> dict[str, Any]:
    descriptor = kind.DESCRIPTOR
    key = descriptor.fields_by_number[1].name
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
            "kafka": {"key": {"type": "string", "description": f"`{key}`"}, "bindingVersion": "0.5.0"},
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
