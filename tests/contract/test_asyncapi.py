"""/asyncapi.yaml is a valid document, and its schemas are of what is really told."""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from sskai import asyncapi, contract
from sskai.local.paths import cache_folder

SPECS = "6.11.1"  # of npm's @asyncapi/specs: the schemas that the specification's authors publish
SCHEMA = "package/schemas/3.0.0-without-$id.json"
EXAMPLES = sorted((Path(__file__).parents[2] / "proto/examples/v1").glob("*.json"))


@pytest.fixture(scope="module")
def document() -> Any:
    return yaml.safe_load(asyncapi.to_yaml(asyncapi.document()))


@pytest.fixture(scope="module")
def official_schema() -> Any:
    """Fetched once by npm."""
    package = cache_folder() / "asyncapi" / f"asyncapi-specs-{SPECS}.tgz"
    if not package.exists():
        npm = shutil.which("npm")
        if npm is None:
            pytest.skip("needs npm, once: it fetches AsyncAPI's own schema")
        package.parent.mkdir(parents=True, exist_ok=True)
        command = [npm, "pack", f"@asyncapi/specs@{SPECS}", "--pack-destination", str(package.parent)]
        fetched = subprocess.run(command, cwd=package.parent, capture_output=True, text=True, timeout=100, check=False)
        if fetched.returncode:
            pytest.skip(f"npm could not fetch AsyncAPI's schema: {fetched.stderr[-300:]}")
    with tarfile.open(package) as archive:
        file = archive.extractfile(SCHEMA)
        assert file is not None
        return json.load(file)


def test_the_document_is_what_asyncapi_3_says(document: Any, official_schema: Any) -> None:
    jsonschema.Draft7Validator(official_schema).validate(document)


def test_every_reference_leads_somewhere(document: Any) -> None:
    def follow(value: Any) -> None:
        if isinstance(value, dict):
            if "$ref" in value:
                found = document
                for part in value["$ref"].removeprefix("#/").split("/"):
                    found = found[part]
            for item in value.values():
                follow(item)
        elif isinstance(value, list):
            for item in value:
                follow(item)

    follow(document)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_what_its_schema_says(document: Any, path: Path) -> None:
    event = json.loads(path.read_text())
    message = document["components"]["messages"][path.stem]
    assert message["name"] == event["type"]
    schema = {**message["payload"], "components": document["components"]}
    jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker()).validate(event["data"])
    cloudevent = document["components"]["messages"]["CloudEvent"]["payload"]
    jsonschema.Draft202012Validator(cloudevent, format_checker=jsonschema.FormatChecker()).validate(event)


def test_a_schema_refuses_what_is_no_such_event(document: Any) -> None:
    schema = {"$ref": "#/components/schemas/JobHeld", "components": document["components"]}
    for wrong in ({"job_id": 7}, {"tenant_id": "t"}, {"job_id": "job_1", "position": "first"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)


def test_every_topic_and_event_is_there_and_says_how_it_is_reached(document: Any) -> None:
    channels = {channel["address"]: channel for channel in document["channels"].values()}
    assert set(channels) == {*contract.TOPICS, "/v1/events"}
    for topic in contract.TOPICS:
        kinds = {kind.DESCRIPTOR.name for kind in contract.MESSAGES.values() if contract.topic_of(kind) == topic}
        assert set(channels[topic]["messages"]) == kinds
        assert channels[topic]["bindings"]["kafka"]["topic"] == topic
    for name, server in document["servers"].items():
        assert name == "kafka" or server["security"], "only the embedded broker asks for nothing"
