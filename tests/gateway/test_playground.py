"""What is told of how an endpoint can be asked."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from services.gateway import playground
from services.gateway.playground import Way
from sskai.events import v1 as events
from tests.gateway.conftest import House
from tests.gateway.test_api import trained

ROWS = [
    {"messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Where is it?"}]},
    {"messages": [{"role": "user", "content": "Where is it?"}]},
    {"prompt": [{"role": "user", "content": "And now?"}], "completion": "There."},
    {"text": " Once upon a time "},
    {"prompt": "A question", "completion": "An answer"},
    {"image": "cat.png"},
    {"messages": [{"role": "user", "content": ["parts"]}]},
]


def way(task: str, **more: Any) -> Way:
    return playground.way_of(task, "bot", **{"is_code": False, "context_tokens": None, **more})


@pytest.mark.parametrize(
    ("task", "is_code", "operation", "route"),
    [
        ("text-generation", False, "chat", "/v1/chat/completions"),
        ("", False, "chat", "/v1/chat/completions"),
        ("text-to-image", False, "images", "/v1/images/generations"),
        ("text-classification", False, "infer", "/v2/models/bot/infer"),
        ("image-classification", False, "infer", "/v2/models/bot/infer"),
        ("", True, "infer", "/v2/models/bot/infer"),
    ],
)
def test_how_it_is_asked_follows_from_what_it_is_for(task: str, is_code: bool, operation: str, route: str) -> None:
    found = way(task, is_code=is_code)
    assert (found.operation, found.route) == (operation, route)


@pytest.mark.parametrize(("context", "default", "most"), [(None, 256, None), (100, 100, 100), (8192, 256, 8192)])
def test_an_answer_is_no_longer_than_the_context(context: int | None, default: int, most: int | None) -> None:
    tokens = way("text-generation", context_tokens=context).knobs[0]
    assert (tokens.name, tokens.default, tokens.maximum) == ("max_completion_tokens", default, most)


@pytest.mark.parametrize(
    ("config", "tokens"),
    [
        ({"max_position_embeddings": 512}, 512),
        ({"text_config": {"max_position_embeddings": 2048}, "max_position_embeddings": 77}, 2048),
        ({"n_positions": 1024}, 1024),
        ({"max_position_embeddings": "many"}, None),
        ({}, None),
    ],
)
def test_the_context_is_what_the_configuration_says(config: dict[str, Any], tokens: int | None) -> None:
    assert playground.context_tokens(json.dumps(config)) == tokens


def test_examples_are_what_the_training_data_ask_each_once() -> None:
    assert playground.examples(ROWS) == ["Where is it?", "And now?", "Once upon a time", "A question"]
    assert [len(text) for text in playground.examples([{"text": "x" * 9_999}])] == [500]


def test_snippets_are_what_they_say_whatever_is_asked() -> None:
    """A shell gets exactly the body, and Python reads the other."""
    nasty = 'It\'s "$HOME" `ls` \\ \n é'
    for task in ("text-generation", "text-to-image", "text-classification"):
        found = way(task)
        body = playground.body_of(found, "bot", nasty, task)
        told = playground.snippets(found, "http://127.0.0.1:8000/", body)
        words = subprocess.run(
            ["sh", "-c", 'curl() { printf "%s\\0" "$@"; }; SSKAI_API_KEY=k\n' + told["curl"]],
            check=True,
            capture_output=True,
        ).stdout.split(b"\0")
        assert words[0].decode() == f"http://127.0.0.1:8000{found.route}"
        assert json.loads(words[-2]) == body
        if "python" in told:
            compile(told["python"], "snippet", "exec")


@pytest.mark.asyncio(loop_scope="session")
async def test_the_playground_of_atrained_version(house: House) -> None:
    await house.job(house.ann)
    (submitted,) = await house.told(events.JobSubmitted)
    await trained(house, submitted.tenant_id, dataset_uri=submitted.spec.dataset.uri)
    endpoint = (await house.ann.post("/v1/endpoints", json={"name": "chat", "model": "bot@1"})).json()
    found = (await house.ann.get(f"/v1/endpoints/{endpoint['id']}/playground")).json()
    assert (found["operation"], found["streams"], found["model"]) == ("chat", True, "bot@1")
    assert found["examples"] == ["0?", "1?", "2?", "3?", "4?"]
    assert found["body"]["messages"][0]["content"] == "0?"
    assert found["body"]["model"] == "chat"
    assert "/v1/chat/completions" in found["snippets"]["curl"]
    assert {one["name"] for one in found["parameters"]} >= {"temperature", "max_completion_tokens"}
