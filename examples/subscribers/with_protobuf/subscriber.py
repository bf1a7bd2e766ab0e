"""Reads SSKAI's events with nothing of SSKAI's but its `.proto` files: `python subscriber.py BOOTSTRAP GROUP [TENANT]`.

`pip install -r requirements.txt`, then make the Python code of the messages beside this file:
`python -m grpc_tools.protoc -I ../../../proto --python_out=. ../../../proto/sskai/events/v1/*.proto`
Prints each event once, as one line of JSON.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer
from google.protobuf import json_format
from google.protobuf.descriptor_pool import Default
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

HERE = Path(__file__).parent
GENERATED = Path("sskai/events/v1")


def topics() -> list[str]:
    """One file is one topic; `common.proto` holds what several of them need."""
    sys.path.insert(0, str(HERE))
    names = sorted(path.stem.removesuffix("_pb2") for path in (HERE / GENERATED).glob("*_pb2.py"))
    for name in names:
        importlib.import_module(f"{'.'.join(GENERATED.parts)}.{name}_pb2")
    return [f"sskai.{name}.v1" for name in names if name != "common"]


def security() -> dict[str, str]:
    """For a broker that asks who you are: SASL/SCRAM over TLS."""
    if "KAFKA_USERNAME" not in os.environ:
        return {}
    return {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": os.environ["KAFKA_USERNAME"],
        "sasl.password": os.environ["KAFKA_PASSWORD"],
    }


def decode(value: bytes, headers: dict[str, str]) -> dict[str, Any] | None:
    """The event as a CloudEvent; None: of a type that these `.proto` files do not know. Raises ValueError."""
    content_type = headers.get("content-type", "application/protobuf")
    if content_type == "application/cloudevents+json":
        event: dict[str, Any] = json.loads(value)
        return event
    try:
        message = GetMessageClass(Default().FindMessageTypeByName(headers["ce_type"]))()
    except KeyError:
        return None
    try:
        if content_type == "application/json":
            json_format.Parse(value, message, ignore_unknown_fields=True)
        else:
            message.ParseFromString(value)
    except (DecodeError, json_format.ParseError) as error:
        raise ValueError(f"not a {headers['ce_type']}: {error}") from error
    attributes = {name.removeprefix("ce_"): text for name, text in headers.items() if name.startswith("ce_")}
    return {**attributes, "data": json_format.MessageToDict(message, preserving_proto_field_name=True)}


def main(bootstrap: str, group: str, tenant: str = "") -> None:
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            **security(),
        }
    )
    consumer.subscribe(topics())
    # A program that must not lose this at a restart keeps it where it keeps what it makes of the events.
    seen: set[tuple[str, str]] = set()
    while True:
        record = consumer.poll(1.0)
        if record is None:
            continue
        if record.error():
            print(record.error(), file=sys.stderr, flush=True)
            continue
        headers = {name: text.decode() for name, text in record.headers() or []}
        try:
            event = decode(record.value() or b"", headers)
        except ValueError as error:
            where = f"{record.topic()}/{record.partition()}@{record.offset()}"
            print(f"set aside {where}: {error}", file=sys.stderr, flush=True)
        else:
            if event and (event["source"], event["id"]) not in seen:
                seen.add((event["source"], event["id"]))
                if not tenant or event["data"].get("tenant_id") == tenant:
                    print(json.dumps(event), flush=True)
        consumer.commit(record, asynchronous=False)  # after the effect: a crash in between brings the event again


if __name__ == "__main__":
    main(*sys.argv[1:])
