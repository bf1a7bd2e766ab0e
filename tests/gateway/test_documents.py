"""The two documents of the interface are valid and complete."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from google.protobuf import json_format
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from openapi_spec_validator import validate

from sskai import asyncapi, contract
from sskai.events import v1 as events
from tests.gateway.conftest import House


@pytest.mark.asyncio(loop_scope="session")
async def test_the_openapi_document_is_valid(house: House) -> None:
    document = (await house.ann.get("/openapi.json")).json()
    validate(document)
    assert "application/problem+json" in str(document["paths"]["/v1/jobs"]["post"]["responses"]["4XX"])
    assert document["paths"]["/v1/jobs"]["post"]["security"] == [{"HTTPBearer": []}, {"APIKeyCookie": []}]
    assert "security" not in document["paths"]["/v1/session"]["post"]


@pytest.mark.asyncio(loop_scope="session")
async def test_a_plans_two_bodies_are_told_apart_by_their_kind(house: House) -> None:
    document = (await house.ann.get("/openapi.json")).json()
    body = document["paths"]["/v1/plans"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    references = {"finetune": "#/components/schemas/JobFile", "endpoint": "#/components/schemas/EndpointFile"}
    assert [one["$ref"] for one in body["oneOf"]] == list(references.values())
    mapping = references | {"train": references["finetune"]}
    assert body["discriminator"] == {"propertyName": "kind", "mapping": mapping}
    schemas = document["components"]["schemas"]
    assert schemas["JobFile"]["properties"]["kind"]["enum"] == ["finetune", "train"]
    assert schemas["EndpointFile"]["properties"]["kind"]["const"] == "endpoint"
    assert {"kind", "name", "model", "traffic"} <= set(schemas["EndpointFile"]["required"])


@pytest.mark.asyncio(loop_scope="session")
async def test_the_asyncapi_document_is_served_to_everybody(house: House) -> None:
    answer = await house.ann.get("/asyncapi.yaml", headers={"Authorization": ""})
    assert answer.headers["content-type"].startswith("application/yaml")
    assert yaml.safe_load(answer.text) == asyncapi.document()


def test_every_topic_is_a_channel_and_every_event_a_message() -> None:
    document = asyncapi.document()
    assert document["asyncapi"] == "3.0.0"
    channels = {channel["address"]: channel for channel in document["channels"].values()}
    assert channels.keys() == {*contract.TOPICS, "/v1/events"}
    assert set(channels.pop("/v1/events")["messages"]) == {"CloudEvent"}  # any of them, as HTTP tells it
    messages = {key: message for key, message in document["components"]["messages"].items() if key != "CloudEvent"}
    assert {message["name"] for message in messages.values()} == set(contract.MESSAGES)
    for channel in channels.values():
        assert channel["bindings"]["kafka"]["topic"] == channel["address"]
        for name in channel["messages"]:
            assert contract.topic_of(contract.MESSAGES[f"sskai.events.v1.{name}"]) == channel["address"]


def test_every_reference_leads_somewhere() -> None:
    document = asyncapi.document()

    def references(node: Any) -> list[str]:
        if isinstance(node, dict):
            own = [node["$ref"]] if "$ref" in node else []
            return own + [found for value in node.values() for found in references(value)]
        return [found for item in node for found in references(item)] if isinstance(node, list) else []

    found = references(document)
    assert len(found) > 100
    for reference in found:
        target: Any = document
        for part in reference.removeprefix("#/").split("/"):
            target = target[part]
        assert target


@pytest.mark.parametrize("kind", contract.MESSAGES.values(), ids=lambda kind: kind.DESCRIPTOR.name)
def test_an_events_json_fits_its_schema(kind: Any) -> None:
    document = asyncapi.document()
    schema = {"$ref": f"#/components/schemas/{kind.DESCRIPTOR.name}", "components": document["components"]}
    validator = Draft202012Validator(schema)
    Draft202012Validator.check_schema(document["components"]["schemas"][kind.DESCRIPTOR.name])
    empty = json_format.MessageToDict(
        kind(), preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    validator.validate(empty)
    name = kind.DESCRIPTOR.fields_by_number[1].name
    assert not validator.is_valid({**empty, name: 7}), "a schema that lets everything pass is none"


def test_nested_values_and_maps_are_described() -> None:
    schemas = asyncapi.document()["components"]["schemas"]
    spec = schemas["JobSpec"]["properties"]
    assert spec["env"] == {"type": "object", "additionalProperties": {"type": "string"}}
    assert spec["deadline"] == {"type": "string", "format": "date-time"}
    assert spec["secrets"] == {"type": "array", "items": {"type": "string"}}
    assert schemas["DatasetRef"]["properties"]["rows"]["type"] == "string"
    assert set(schemas["JobSpec"]["properties"]) == {field.name for field in events.JobSpec.DESCRIPTOR.fields}
